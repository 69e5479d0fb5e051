import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from oracles import item_scores_oracle

import semid
from tests.generation.conftest import LEVEL_TOKENS, make_prompts, tiny_model


@pytest.mark.parametrize("kind", ["t5", "gpt2", "qwen2"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_as_many_beams_as_items_rank_any_catalogue(kind, data):
    """Items by their exact scores, whatever the catalogue, the requests and what they exclude; ties aside."""
    n_levels = data.draw(st.integers(1, 3))
    code = st.lists(st.integers(0, 7), min_size=n_levels, max_size=n_levels)
    codes = np.unique(data.draw(st.lists(code, min_size=1, max_size=40)), axis=0)
    gone = data.draw(st.sets(st.integers(0, len(codes) - 1)))
    model, batch = tiny_model(kind), data.draw(st.integers(1, 3))
    inputs = make_prompts(batch, seed=data.draw(st.integers(0, 99)))
    if kind == "t5":
        inputs["attention_mask"] = inputs["attention_mask"].new_ones(inputs["attention_mask"].shape)
    vocab = semid.SidVocabulary.from_token_ids(LEVEL_TOKENS[:n_levels])
    trie = semid.Trie.from_codes(codes, codebook_sizes=(8,) * n_levels)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    extra = data.draw(st.integers(0, 5))
    found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=len(codes) + extra, exclude=[gone] * batch)
    kept = sorted(set(range(len(codes))) - gone)
    assert found.n_valid.tolist() == [len(kept)] * batch
    for row in range(batch):
        items = found.items[row, : len(kept)]
        assert sorted(items.tolist()) == kept
        np.testing.assert_allclose(found.scores[row, : len(kept)], exact[row, items], atol=1e-4)
        assert (np.diff(exact[row, items]) <= 1e-4).all()
        assert (found.items[row, len(kept) :] == -1).all()
