import re

import numpy as np
import pytest

import semid
from semid.errors import InvalidValueError
from semid.vocabulary.tokens import check_encoding


def test_every_id_is_as_many_tokens_as_levels(tokenizer):
    vocab = semid.SidVocabulary([11, 30, 5]).extend(tokenizer)
    codes = np.stack(np.meshgrid(np.arange(11), np.arange(30), np.arange(5), indexing="ij"), axis=-1).reshape(-1, 3)
    tokens = vocab.to_tokens(codes)
    encoded = tokenizer(vocab.to_text(codes), add_special_tokens=False)["input_ids"]
    np.testing.assert_array_equal(np.array(encoded), tokens)
    # Decoding may put spaces between tokens; reading the text again must not see them.
    texts = tokenizer.batch_decode(tokens[::7], skip_special_tokens=True)
    again = tokenizer(texts, add_special_tokens=False)["input_ids"]
    np.testing.assert_array_equal(vocab.to_codes(np.array(again)), codes[::7])


def test_ids_inside_text(tokenizer):
    vocab = semid.SidVocabulary([30, 30]).extend(tokenizer)
    ids = tokenizer(f"a {vocab.to_text([2, 25])} a", add_special_tokens=False)["input_ids"]
    first = ids.index(vocab.to_tokens([2])[0])
    assert vocab.to_codes(ids[first : first + 2]).tolist() == [2, 25]


def test_end_token_comes_from_the_tokenizer(tokenizer):
    vocab = semid.SidVocabulary([2]).extend(tokenizer)
    assert vocab.eos_token_id == tokenizer.eos_token_id is not None


def test_extending_again_adds_nothing(tokenizer, tmp_path):
    first = semid.SidVocabulary([3, 4]).extend(tokenizer)
    size = len(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    for again in (tokenizer, loaded):
        second = semid.SidVocabulary([3, 4]).extend(again)
        assert len(again) == size
        assert [level.tolist() for level in second.level_tokens] == [level.tolist() for level in first.level_tokens]


def test_two_views_in_one_tokenizer(words):
    vocabs = semid.SidVocabulary.for_views([4, 6], n_shared=1, views=["semantic", "collaborative"])
    before = len(words)
    semantic, collaborative = (vocab.extend(words) for vocab in vocabs.values())
    assert len(words) == before + 4 + 6 + 6
    assert semantic.level_tokens[0].tolist() == collaborative.level_tokens[0].tolist()
    assert not set(semantic.level_tokens[1].tolist()) & set(collaborative.level_tokens[1].tolist())


def test_two_prefixes_share_nothing(words):
    a, b = (semid.SidVocabulary([4, 4], prefix=prefix).extend(words) for prefix in "ab")
    assert not {*np.concatenate(a.level_tokens).tolist()} & {*np.concatenate(b.level_tokens).tolist()}


@pytest.mark.parametrize(
    ("present", "got"),
    [
        (["<sid_1_2>"], "got 1 such as <sid_1_2>"),  # some
        (["<sid_1_0>", "<sid_1_1>", "<sid_1_2>", "<sid_1_3>"], "got 4 such as <sid_1_0>"),  # more
    ],
)
def test_clash_with_another_size(words, present, got):
    words.add_tokens(present)
    size = len(words)
    expected = (
        "tokens clash at level 1: expected none or exactly the 3 tokens <sid_1_0> .. <sid_1_2> of an earlier extend"
    )
    with pytest.raises(InvalidValueError, match=re.escape(f"{expected}, {got}. Choose another prefix.")):
        semid.SidVocabulary([2, 3]).extend(words)
    assert len(words) == size


def test_clash_with_words():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = models.WordLevel({"[UNK]": 0, "<sid_0_0>": 1}, unk_token="[UNK]")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]")
    with pytest.raises(InvalidValueError, match=r"tokens clash at level 0: .* got 1 such as <sid_0_0>"):
        semid.SidVocabulary([1]).extend(tokenizer)


def test_similar_names_are_no_clash(words):
    words.add_tokens(["<sid_0_>", "<sid_0_x>", "<sid_0_1_5>", "sid_0_1", "<sid_00_1>"])
    semid.SidVocabulary([2]).extend(words)


def test_tokens_that_are_split(words):
    with pytest.raises(InvalidValueError, match=r"keep semantic IDs whole: expected buy to become \[7\], got \[1\]\."):
        check_encoding(words, "buy", [7])
