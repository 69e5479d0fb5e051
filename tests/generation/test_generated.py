"""What the hooks of ``model.generate`` take for an end token."""

import pytest

import semid
from semid.errors import InvalidValueError
from semid.generation.constraint import check_eos


@pytest.mark.parametrize("make", [semid.SidLogitsProcessor, semid.prefix_allowed_tokens_fn])
def test_an_end_token_is_no_code(make):
    trie = semid.Trie.from_codes([[0, 1], [3, 2]], codebook_sizes=[4, 4])
    vocab = semid.SidVocabulary.from_token_ids([range(50, 54), range(60, 64)], eos_token_id=1)
    message = (
        r"eos_token_id is a code: expected a token of no level, got 61, code 1 of level 1\. A text would end within"
    )
    with pytest.raises(InvalidValueError, match=message):
        make(trie, vocab, prompt_len=1, eos_token_id=61)
    vocab.eos_token_id = 53
    with pytest.raises(InvalidValueError, match="got 53, code 3 of level 0"):
        make(trie, vocab, prompt_len=1)


def test_the_vocabulary_has_the_end_token_unless_one_is_given():
    vocab = semid.SidVocabulary.from_token_ids([[4, 5]], eos_token_id=1)
    assert (check_eos(None, vocab), check_eos(0, vocab)) == (1, 0)
    assert check_eos(None, semid.SidVocabulary([2])) is None
