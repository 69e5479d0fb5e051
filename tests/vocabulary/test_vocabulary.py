import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import semid
from semid.errors import FormatError, InvalidTypeError, InvalidValueError

LEVELS = [[30, 10, 20], [7, 5], [99, 98, 97, 96]]


@pytest.fixture
def vocab():
    return semid.SidVocabulary.from_token_ids(LEVELS, eos_token_id=1)


def test_import_is_light():
    code = "import sys, semid.vocabulary; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers"} & set(loaded)


def test_names():
    vocab = semid.SidVocabulary([2, 3])
    assert vocab.tokens_of([1, 2]) == ["<sid_0_1>", "<sid_1_2>"]
    assert vocab.tokens_of([[1, 2], [0, 0]]) == [["<sid_0_1>", "<sid_1_2>"], ["<sid_0_0>", "<sid_1_0>"]]
    assert vocab.to_text([[1, 2], [0, 0]]) == ["<sid_0_1><sid_1_2>", "<sid_0_0><sid_1_0>"]
    assert vocab.to_text([1]) == "<sid_0_1>"
    assert vocab.to_text([]) == ""
    assert semid.SidVocabulary([2], prefix="view.b-1").to_text([1]) == "<view.b-1_0_1>"
    assert semid.SidVocabulary([2, 2], prefix=["a", "b"]).to_text([1, 0]) == "<a_0_1><b_1_0>"


@given(st.data())
def test_codes_and_tokens_are_inverse(data):
    ids = st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True)
    levels = data.draw(st.lists(ids, min_size=1, max_size=4))
    vocab = semid.SidVocabulary.from_token_ids(levels)
    shape = data.draw(st.sampled_from([(), (1,), (5,), (2, 3)]))
    depth = data.draw(st.integers(0, len(levels)))
    codes = np.empty((*shape, depth), np.uint8)
    for level in range(depth):
        codes[..., level] = data.draw(st.integers(0, len(levels[level]) - 1))
    tokens = vocab.to_tokens(codes)
    assert tokens.dtype == np.int64 and tokens.shape == codes.shape
    for at in np.ndindex(codes.shape):
        assert tokens[at] == levels[at[-1]][codes[at]]
    np.testing.assert_array_equal(vocab.to_codes(tokens), codes)


@given(st.lists(st.integers(-3, 110), min_size=3, max_size=3))
def test_unknown_tokens_can_be_ignored(tokens):
    vocab = semid.SidVocabulary.from_token_ids(LEVELS)
    expected = [level.index(token) if token in level else -1 for token, level in zip(tokens, LEVELS, strict=True)]
    assert vocab.to_codes(tokens, errors="ignore").tolist() == expected


def test_unknown_tokens_are_named(vocab):
    message = r"tokens are outside the vocabulary: expected tokens of level 1, got \[2, 30\]\. Cut off the prompt"
    with pytest.raises(InvalidValueError, match=message):
        vocab.to_codes([[30, 30, 98], [10, 7, 97], [10, 2, 97]])
    with pytest.raises(InvalidValueError, match=r"got \[0, 1, 2, 3, 4\] and 3 more\."):
        vocab.to_codes(np.arange(8)[:, None])
    with pytest.raises(InvalidValueError, match="errors is unknown: expected 'raise' or 'ignore', got 'drop'"):
        vocab.to_codes([30], errors="drop")
    with pytest.raises(InvalidValueError, match=r"errors is unknown: expected 'raise' or 'ignore', got \[\]"):
        vocab.to_codes([30], errors=[])


def test_torch_tensors_are_taken(vocab):
    assert vocab.to_codes(torch.tensor([[10, 5, 99]])).tolist() == [[1, 1, 0]]
    assert vocab.to_tokens(torch.tensor([[1, 1, 0]])).tolist() == [[10, 5, 99]]
    for levels in (torch.tensor([[4, 5], [6, 7]]), [torch.tensor([4, 5]), torch.tensor([6, 7])]):
        assert semid.SidVocabulary.from_token_ids(levels).to_tokens([1, 0]).tolist() == [5, 6]


def test_wrong_codes(vocab):
    with pytest.raises(
        InvalidValueError, match=r"codes do not fit the vocabulary: expected 0 \.\. 1 at level 1, got 2\. Check c"
    ):
        vocab.to_tokens([[0, 1], [0, 2]])
    with pytest.raises(InvalidValueError, match=r"expected 0 \.\. 2 at level 0, got -1\. Cut off padding"):
        vocab.to_tokens([-1])
    with pytest.raises(
        InvalidValueError, match=r"codes have a wrong shape: expected \(\.\.\., at most 3\), got \(4,\)"
    ):
        vocab.to_tokens([0, 0, 0, 0])
    with pytest.raises(
        InvalidValueError, match=r"token_ids have a wrong shape: expected \(\.\.\., at most 3\), got \(\)"
    ):
        vocab.to_codes(3)
    with pytest.raises(InvalidTypeError, match="codes has a wrong dtype: expected integers, got float64"):
        vocab.to_tokens([0.0])
    with pytest.raises(InvalidValueError, match="token_ids is ragged: expected rows of one length"):
        vocab.to_codes([[30, 7], [10]])
    for call in (vocab.to_tokens, semid.SidVocabulary([2, 2]).to_text):
        with pytest.raises(InvalidValueError, match="codes is ragged: expected rows of one length, got list"):
            call([[0, 1], [0]])


def test_token_ids_are_read_only(vocab):
    assert [level.tolist() for level in vocab.level_tokens] == LEVELS
    assert all(level.dtype == np.int64 and not level.flags.writeable for level in vocab.level_tokens)
    ids = np.array([4, 5])
    vocab = semid.SidVocabulary.from_token_ids([ids])
    ids[0] = 9
    assert vocab.level_tokens[0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ([], InvalidValueError, "codebook_sizes is empty: expected at least one level, got none"),
        (
            [[1], []],
            InvalidValueError,
            r"token_ids of level 1 have a wrong shape: expected \(codebook_size,\), got \(0,\)",
        ),
        ([[[1]]], InvalidValueError, r"level 0 have a wrong shape: .* got \(1, 1\)\. Give one token id per code"),
        ([[1], [1.5]], InvalidTypeError, "token_ids of level 1 has a wrong dtype: expected integers, got float64"),
        (
            [[3, 4, 3]],
            InvalidValueError,
            r"level 0 are wrong: expected distinct ids from 0 on, got \[3\], which are neg",
        ),
        ([[1, [2]]], InvalidValueError, "token_ids of level 0 is ragged: expected rows of one length"),
        (None, InvalidTypeError, "token_ids have a wrong type: expected one array per level, got None. Write"),
        ({"a": [[1]]}, InvalidTypeError, "expected one array per level, got dict"),
        ([[3, -4]], InvalidValueError, r"got \[-4\], which are negative or repeat\. Give each code a token of its own"),
    ],
)
def test_wrong_token_ids(levels, error, message):
    with pytest.raises(error, match=message):
        semid.SidVocabulary.from_token_ids(levels)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(codebook_sizes=[]), InvalidValueError, "codebook_sizes is empty: expected at least one level, got none"),
        (
            dict(codebook_sizes=[3, 0]),
            InvalidValueError,
            r"codebook_sizes\[1\] is too small: expected 1 or more, got 0",
        ),
        (
            dict(codebook_sizes=[3, 1.5]),
            InvalidTypeError,
            r"codebook_sizes\[1\] is not an integer: expected 1 or more, got 1\.5",
        ),
        (dict(codebook_sizes=[3, True]), InvalidTypeError, r"codebook_sizes\[1\] is not an integer: .* got True"),
        (dict(codebook_sizes=3), InvalidTypeError, "codebook_sizes has a wrong type: expected a sequence .*, got 3"),
        (dict(codebook_sizes=[3], prefix="a b"), InvalidValueError, "prefix is wrong: expected letters, .* got 'a b'"),
        (dict(codebook_sizes=[3], prefix=""), InvalidValueError, "got ''. Spaces and <> would split tokens"),
        (dict(codebook_sizes=[3], prefix=3), InvalidTypeError, "prefix has a wrong type: expected one name, .* got 3"),
        (dict(codebook_sizes=[3], prefix=["a", "b"]), InvalidValueError, "wrong length: expected 1 names, got 2"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        semid.SidVocabulary(**arguments)


def test_names_and_ids_that_do_not_exist(vocab):
    with pytest.raises(InvalidValueError, match=r"no token ids yet: .* Call extend\(tokenizer\) first"):
        semid.SidVocabulary([2]).to_tokens([1])
    with pytest.raises(InvalidValueError, match=r"tokens have no names: .* Use to_tokens and decode them"):
        vocab.to_text([1])
    with pytest.raises(InvalidValueError, match=r"tokens have no names: .* extend is not needed"):
        vocab.extend(None)


def test_repr(vocab):
    assert repr(vocab) == "SidVocabulary(codebook_sizes=(3, 2, 4), prefixes=None, tokens 5 and up, eos_token_id=1)"
    expected = "SidVocabulary(codebook_sizes=(2,), prefixes=['sid'], not extended, eos_token_id=None)"
    assert repr(semid.SidVocabulary([2])) == expected


def test_extend_without_a_tokenizer():
    with pytest.raises(
        InvalidTypeError, match=r"tokenizer cannot take tokens: .* transformers tokenizer, got NoneType"
    ):
        semid.SidVocabulary([2]).extend(None)


def test_views_share_their_first_levels():
    vocabs = semid.SidVocabulary.for_views([4, 4, 4], n_shared=1, views=["semantic", "collaborative"], prefix="x")
    assert vocabs["semantic"].to_text([1, 2, 3]) == "<x_0_1><x-semantic_1_2><x-semantic_2_3>"
    assert vocabs["collaborative"].to_text([1, 2, 3]) == "<x_0_1><x-collaborative_1_2><x-collaborative_2_3>"
    with pytest.raises(InvalidValueError, match=r"n_shared is out of range: expected 0 \.\. 3, got 4"):
        semid.SidVocabulary.for_views([4, 4, 4], n_shared=4, views=["a"])
    with pytest.raises(
        InvalidValueError, match=r"views are wrong: expected one or more different names, got \('a', 'a'\)"
    ):
        semid.SidVocabulary.for_views([4], n_shared=0, views=["a", "a"])
    with pytest.raises(InvalidTypeError, match="views have a wrong type: expected a sequence of names, got 'ab'"):
        semid.SidVocabulary.for_views([4], n_shared=0, views="ab")
    for views in (None, [["a"], ["b"]]):
        with pytest.raises(InvalidTypeError, match="views have a wrong type: expected a sequence of names, got "):
            semid.SidVocabulary.for_views([4], n_shared=0, views=views)
    with pytest.raises(InvalidValueError, match=r"views are wrong: expected one or more different names, got \(\)"):
        semid.SidVocabulary.for_views([4], n_shared=0, views=[])
    with pytest.raises(InvalidTypeError, match="n_shared has a wrong type: expected an integer, got True"):
        semid.SidVocabulary.for_views([4], n_shared=True, views=["a"])
    with pytest.raises(InvalidTypeError, match=r"n_shared has a wrong type: expected an integer, got 1\.0"):
        semid.SidVocabulary.for_views([4], n_shared=1.0, views=["a"])
    with pytest.raises(
        InvalidTypeError, match="codebook_sizes has a wrong type: expected a sequence of integers, got 256"
    ):
        semid.SidVocabulary.for_views(256, n_shared=0, views=["a"])


@pytest.mark.parametrize(
    ("eos_token_id", "error", "message"),
    [
        (
            50,
            InvalidValueError,
            r"expected a token of no level, got 50, code 0 of level 0\. A text would end within an ID",
        ),
        (63, InvalidValueError, "got 63, code 3 of level 1"),
        (-1, InvalidValueError, r"eos_token_id is negative: expected 0 or more, got -1\. Pass None for no end token"),
        (2.5, InvalidTypeError, r"eos_token_id has a wrong type: expected an integer, got 2\.5"),
        ("</s>", InvalidTypeError, "expected an integer, got '</s>'"),
    ],
)
def test_bad_end_tokens(eos_token_id, error, message):
    with pytest.raises(error, match=message):
        semid.SidVocabulary.from_token_ids([range(50, 54), range(60, 64)], eos_token_id=eos_token_id)


@pytest.mark.parametrize("copy", ["folder", "pickle"])
def test_save_and_load(vocab, copy, tmp_path):
    for number, original in enumerate([vocab, semid.SidVocabulary([2, 3], prefix=["a", "b"])]):
        original.save_pretrained(tmp_path / str(number))
        if copy == "folder":
            again = semid.SidVocabulary.from_pretrained(tmp_path / str(number))
        else:
            again = pickle.loads(pickle.dumps(original))
        assert repr(again) == repr(original)
        assert again.prefixes == original.prefixes
    tokens = semid.SidVocabulary.from_pretrained(tmp_path / "0").to_tokens([2, 1, 3])
    assert tokens.tolist() == [20, 5, 96]


def without_checksum(path, change):
    """Change a config.json as somebody who had no need of a checksum would have written it."""
    entries = json.loads(path.read_text())
    entries.pop("checksum")
    path.write_text(json.dumps(change(entries)))


@pytest.mark.parametrize("broken", ["prefixes", "sizes", "end token"])
def test_damaged_folder(vocab, tmp_path, broken):
    if broken == "sizes":
        vocab.codebook_sizes = (5, 2, 4)
    if broken == "end token":
        vocab.eos_token_id = LEVELS[1][0]
    vocab.save_pretrained(tmp_path / "vocab")
    if broken == "prefixes":
        config = tmp_path / "vocab" / "config.json"
        without_checksum(config, lambda entries: {{"prefixes": "suffixes"}.get(k, k): v for k, v in entries.items()})
    got = {
        "prefixes": "KeyError: 'prefixes'",
        "sizes": "InvalidValueError: token_ids of level 0 have a wrong shape",
        "end token": "InvalidValueError: eos_token_id is a code",
    }
    message = f"vocab is damaged: expected the levels of a vocabulary, got {got[broken]}"
    with pytest.raises(FormatError, match=message):
        semid.SidVocabulary.from_pretrained(tmp_path / "vocab")


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"prefixes": ["x"]}, "prefix has a wrong length: expected 2 names, got 1"),
        ({"prefixes": []}, "prefix has a wrong length: expected 2 names, got 0"),
        ({"prefixes": [3, 4]}, "prefix is wrong: expected letters"),
        ({"prefixes": None}, "prefix has a wrong type"),
        ({"suffixes": ["a", "b"]}, r"unknown entries \['suffixes'\]"),
        ({"catalogue": 3}, "a tie to catalogue 3 of generation None"),
        ({"generation": "new"}, "of generation 'new'"),
    ],
)
def test_damaged_config(tmp_path, changes, got):
    semid.SidVocabulary([2, 3], prefix=["a", "b"]).save_pretrained(tmp_path)
    without_checksum(tmp_path / "config.json", lambda entries: entries | changes)
    with pytest.raises(FormatError, match=f"is damaged: expected the levels of a vocabulary, got .*{got}"):
        semid.SidVocabulary.from_pretrained(tmp_path)


def test_the_fingerprint_tells_tokens_apart(tmp_path):
    vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7]])
    others = [
        semid.SidVocabulary.from_token_ids([[5, 4], [6, 7]]),
        semid.SidVocabulary([2, 2]),
        semid.SidVocabulary([2, 3]),
        semid.SidVocabulary([2, 2], prefix="item"),
    ]
    assert len({one.fingerprint for one in (vocab, *others)}) == 5
    vocab.save_pretrained(tmp_path)
    assert semid.SidVocabulary.from_pretrained(tmp_path).fingerprint == vocab.fingerprint


def test_a_tie_to_a_catalogue_travels_and_leaves_the_vocabulary_alone(tmp_path):
    sids = semid.SemanticIds([7, 8], [[1, 2], [0, 3]], codebook_sizes=[2, 4])
    vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8, 9]], eos_token_id=1)
    tied = vocab.tied_to(sids)
    assert (tied.catalogue, tied.generation) == (sids.trie().fingerprint, 0)
    assert (vocab.catalogue, vocab.generation) == (None, None)
    # What a model was trained with is the same whatever items there are.
    assert tied.fingerprint == vocab.fingerprint and tied.level_tokens[0] is vocab.level_tokens[0]
    for one in (vocab, tied):
        one.save_pretrained(tmp_path)
        other = semid.SidVocabulary.from_pretrained(tmp_path)
        assert (other.catalogue, other.generation) == (one.catalogue, one.generation)
    with pytest.raises(InvalidValueError, match=r"fit the codes: expected codebook sizes of at least \(2, 4\)"):
        semid.SidVocabulary([2, 3]).tied_to(sids)
    with pytest.raises(InvalidTypeError, match=r"sids has a wrong type: expected a SemanticIds, got NoneType\. Pass"):
        vocab.tied_to(None)
