import copy
import re
import warnings

import numpy as np
import pytest

import semid
from semid.errors import InvalidValueError
from semid.generation import beam_search, read_beams
from semid.generation.requests import check_pair
from tests.generation.conftest import LEVEL_TOKENS

IDS = ["ring", "bell", "book"]


def catalogue(codes=((1, 2), (0, 3), (0, 2))):
    return semid.SemanticIds(IDS, codes, codebook_sizes=[2, 4])


@pytest.fixture
def tokens():
    return semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8, 9]], eos_token_id=1)


USERS = {
    "processor": lambda trie, vocab: semid.SidLogitsProcessor(trie, vocab, prompt_len=1),
    "a trie per request": lambda trie, vocab: semid.SidLogitsProcessor([trie, trie], vocab, prompt_len=1),
    "prefix function": lambda trie, vocab: semid.prefix_allowed_tokens_fn(trie, vocab, prompt_len=1),
    "prefix function, per request": lambda trie, vocab: semid.prefix_allowed_tokens_fn([trie], vocab, prompt_len=1),
    "check_pair": check_pair,
}


@pytest.mark.parametrize("use", USERS.values(), ids=USERS)
def test_another_generation_is_refused(tokens, use):
    sids = catalogue()
    vocab, old = tokens.tied_to(sids), sids.trie()
    use(old, vocab)
    use(old.restrict([1]), vocab)
    sids.add(["cup"], [[0, 0]])
    new = sids.trie()
    message = (
        "trie and vocabulary are of different catalogues: expected a trie of "
        f"{old.fingerprint[:12]}, generation 0, got one of {new.fingerprint[:12]}, generation 1. Take sids.trie() of "
        "the generation that the vocabulary is tied to; or, where sids.check_pair(model=model) accepts the model, tie "
        "the vocabulary to the new one: vocab.tied_to(sids)."
    )
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        use(new, vocab)
    use(new, vocab.tied_to(sids))
    with pytest.raises(InvalidValueError, match=r"expected a trie of .*, generation 1, got one of .*, generation 0"):
        use(old, vocab.tied_to(sids))


def test_another_catalogue_of_the_same_shape_is_refused(tokens):
    vocab = tokens.tied_to(catalogue())
    with pytest.raises(InvalidValueError, match="different catalogues"):
        check_pair(catalogue([[1, 2], [0, 2], [0, 3]]).trie(), vocab)


def test_another_view_is_refused(tokens):
    codes = {"semantic": [[1, 2], [0, 3], [0, 2]], "collaborative": [[0, 2], [0, 3], [1, 1]]}
    sids = semid.SemanticIds(IDS, codes, codebook_sizes=[2, 4])
    vocabs = {view: tokens.tied_to(sids, view) for view in codes}
    for view in codes:
        check_pair(sids.trie(view), vocabs[view])
    with pytest.raises(InvalidValueError, match=r"a trie of [0-9a-f]{12}:collaborative, .*got one of .*:semantic"):
        check_pair(sids.trie("semantic"), vocabs["collaborative"])


def test_what_bears_no_mark_is_of_any_catalogue(tokens):
    sids = catalogue()
    check_pair(sids.trie(), tokens)
    check_pair(semid.Trie.from_codes([[0, 1]]), tokens.tied_to(sids))


def test_generate_refuses_as_well(tokens):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sids = catalogue()
    vocab = tokens.tied_to(sids)
    sids.remove(["bell"])
    model = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1))
    inputs = {"input_ids": torch.tensor([[3]])}
    with pytest.raises(InvalidValueError, match="different catalogues"):
        semid.generate(model.eval(), inputs, trie=sids.trie(), vocab=vocab, num_beams=2)
    found = semid.generate(model, inputs, trie=sids.trie(), vocab=vocab.tied_to(sids), num_beams=2)
    assert found.n_valid.tolist() == [2]


def fresh():
    """A vocabulary that nothing has been compared with."""
    return semid.SidVocabulary.from_token_ids(LEVEL_TOKENS, eos_token_id=1)


@pytest.mark.parametrize(("end", "level"), [(47, 0), ([1, 50], 1)])
def test_an_end_token_that_is_a_code(model, trie, make_inputs, prompt_len, end, level):
    """The search finds what generate loses, and says so once for each vocabulary and end."""
    model, inputs, vocab = copy.deepcopy(model), make_inputs(2), fresh()
    expected = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=50)
    model.generation_config.eos_token_id = end
    found = [47] if level == 0 else [50]
    message = re.escape(
        f"an end token of the model is the token of a code: expected none of level {level}, got {found}. This search "
        "finds all items; model.generate would end such IDs early and lose them, with a SidLogitsProcessor too. Set "
        "model.generation_config.eos_token_id to another token."
    )
    with pytest.warns(UserWarning, match=message):
        out = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=50)
    np.testing.assert_array_equal(out.items, expected.items)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=50)
    with pytest.warns(UserWarning, match=message):
        semid.Generator(model, trie=trie, vocab=fresh(), num_beams=50)
    with pytest.warns(UserWarning, match=message):
        search = beam_search(trie=trie, vocab=fresh(), num_beams=50)
        model.generate(**inputs, custom_generate=search, max_new_tokens=3)
    start = prompt_len(model, inputs)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start)
    sequences = model.generate(
        **inputs, logits_processor=[processor], num_beams=50, num_return_sequences=50, max_new_tokens=3
    )
    theirs = read_beams(sequences, trie=trie, vocab=vocab, prompt_len=start, num_return=50)
    assert out.n_valid.tolist() == [50, 50] and (theirs.n_valid < 50).all()


@pytest.mark.parametrize("end", [None, 1, 63, [1, 56]])
def test_an_end_token_that_ends_no_id_early(model, trie, make_inputs, end):
    """One of the last level's tokens stands where the ID is complete."""
    model = copy.deepcopy(model)
    model.generation_config.eos_token_id = end
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        semid.generate(model, make_inputs(1), trie=trie, vocab=fresh(), num_beams=5)
