"""From token ids to nodes: what the vocabulary and the trie say one after the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import SHARED_FIXTURE, tries

import semid
from semid.trie.token_walk import walk_tokens


@SHARED_FIXTURE
@given(catalogue=tries(), seed=st.integers(0, 2**16), prompt_len=st.integers(0, 3), larger=st.integers(0, 3))
def test_the_same_nodes_as_by_way_of_the_codes(backend, catalogue, seed, prompt_len, larger):
    """A vocabulary may have more codes than the trie; rows have words and the tokens of other levels."""
    codes, sizes, build = catalogue
    trie, rng = build(), np.random.default_rng(seed)
    starts = np.cumsum([7, *(2 * size + larger for size in sizes)])
    levels = [
        start + rng.permutation(2 * size + larger)[: size + larger] for start, size in zip(starts, sizes, strict=False)
    ]
    vocab = semid.SidVocabulary.from_token_ids(levels)
    depth = int(rng.integers(0, len(sizes) + 1))
    rows = vocab.to_tokens(codes[rng.integers(0, len(codes), 9)])[:, :depth]
    rows = np.where(rng.random(rows.shape) < 0.2, rng.integers(-3, starts[-1] + 3, rows.shape), rows)
    token_ids = np.concatenate([rng.integers(0, 99, (9, prompt_len)), rows], axis=1)
    expected = trie.walk(vocab.to_codes(rows, errors="ignore"))
    assert (walk_tokens(trie, token_ids, prompt_len, vocab.tables) == expected).all()
    assert (walk_tokens(trie, np.asfortranarray(token_ids), prompt_len, vocab.tables) == expected).all()
