"""A trie and a vocabulary of two catalogues, views or generations are refused wherever both are given."""

import re

import pytest

import semid
from semid.errors import InvalidValueError
from semid.generation.pairing import check_pair

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
