"""What `extend` changes: tokens in a tokenizer, rows in a model."""

import copy
import re

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.vocabulary.embeddings import check_encoding


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


def rows_of(model):
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return {"input": embedding} if head.data_ptr() == embedding.data_ptr() else {"input": embedding, "output": head}


def codebooks(*sizes, dim=6):
    rng = np.random.default_rng(1)
    return [rng.normal(3.0, 2.0, (size, dim)).astype(np.float32) for size in sizes]


def rms(rows):
    return rows.double().square().sum(1).mean().sqrt().item()


@pytest.mark.parametrize("with_codebooks", [True, False])
def test_new_rows_are_like_the_old_ones(words, make_model, with_codebooks):
    model = make_model(len(words) + 40)  # rows beyond the tokenizer's are no tokens
    given = codebooks(200, 300) if with_codebooks else None
    old = {name: weight[: len(words)].clone() for name, weight in rows_of(model).items()}
    n_old = len(words)
    vocab = semid.SidVocabulary([200, 300]).extend(words, model, codebooks=given)
    assert model.get_input_embeddings().weight.shape[0] == len(words) == model.config.vocab_size
    new = np.concatenate(vocab.level_tokens)
    for name, weight in rows_of(model).items():
        assert torch.equal(weight[:n_old], old[name])
        deviation = weight[new] - old[name].mean(0)
        expected = rms(old[name] - old[name].mean(0))
        assert rms(deviation) == pytest.approx(expected, rel=1e-4 if with_codebooks else 0.1)
        assert weight.requires_grad


def test_codebook_geometry_is_kept(words, make_model):
    (codebook,) = codebooks(50)
    vocab = semid.SidVocabulary([50]).extend(words, model := make_model(len(words)), codebooks=[torch.tensor(codebook)])
    wanted = torch.pdist(torch.tensor(codebook))
    for weight in rows_of(model).values():
        found = torch.pdist(weight[vocab.level_tokens[0].tolist()].detach())
        torch.testing.assert_close(found / found.mean(), wanted / wanted.mean(), rtol=1e-4, atol=1e-5)


def test_codebooks_wider_than_the_model(words, make_model):
    given = codebooks(20, 20, dim=40) + codebooks(20, dim=3)
    model = make_model(len(words))
    vocab = semid.SidVocabulary([20] * 3).extend(words, model, codebooks=given)
    assert torch.isfinite(model.get_input_embeddings().weight[np.concatenate(vocab.level_tokens)]).all()


def test_equal_centroids_still_give_different_rows(words, make_model):
    vocab = semid.SidVocabulary([4]).extend(words, model := make_model(len(words)), codebooks=[np.ones((4, 3))])
    rows = model.get_input_embeddings().weight[vocab.level_tokens[0].tolist()]
    assert len(torch.unique(rows, dim=0)) == 4


def test_the_seed_decides(words, llama_model):
    def rows(seed):
        tokenizer = copy.deepcopy(words)
        model = llama_model(len(words))
        semid.SidVocabulary([8]).extend(tokenizer, model, codebooks=codebooks(8), seed=seed)
        return model.get_input_embeddings().weight.detach()

    assert torch.equal(rows(0), rows(0))
    assert not torch.equal(rows(0), rows(1))


def test_rows_of_shared_levels_stay(words, make_model):
    vocabs = semid.SidVocabulary.for_views([4, 4], n_shared=1, views=["semantic", "collaborative"])
    model = make_model(len(words))
    shared = vocabs["semantic"].extend(words, model).level_tokens[0].tolist()
    before = model.get_input_embeddings().weight[shared].clone()
    vocabs["collaborative"].extend(words, model, codebooks=codebooks(4, 4))
    assert torch.equal(model.get_input_embeddings().weight[shared], before)
    trained = model.get_input_embeddings().weight.clone()
    vocabs["semantic"].extend(words, model)  # nothing is new
    assert torch.equal(model.get_input_embeddings().weight, trained)


def test_half_precision_and_bias(words, llama_model):
    model = llama_model(len(words)).bfloat16()
    head = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.arange(len(words), dtype=torch.bfloat16))
    vocab = semid.SidVocabulary([4]).extend(words, model, codebooks=codebooks(4))
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert torch.equal(model.get_output_embeddings().bias[vocab.level_tokens[0].tolist()], torch.ones(4).bfloat16())


def test_a_large_table_is_left_alone(words, llama_model):
    model = llama_model(100)
    semid.SidVocabulary([4]).extend(words, model, resize=False)
    assert model.get_input_embeddings().weight.shape[0] == 100


def test_a_small_table_that_must_not_grow(words, llama_model):
    size, model = len(words), llama_model(len(words))
    message = rf"embeddings are too small: expected at least {size + 4} rows, got {size}\. Pass resize=True, or call"
    with pytest.raises(InvalidValueError, match=message):
        semid.SidVocabulary([4]).extend(words, model, resize=False)
    assert len(words) == size


def test_a_table_that_does_not_grow(words, llama_model, monkeypatch):
    model = llama_model(len(words))
    monkeypatch.setattr(model, "resize_token_embeddings", lambda *args, **kwargs: None)
    with pytest.raises(InvalidValueError, match=r"got 3 after resizing. Resize the input and output embeddings"):
        semid.SidVocabulary([4]).extend(words, model)
    assert len(words) == 3


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        ("x", InvalidTypeError, "seed is not an integer: expected 0 or more, got 'x'. Pass a whole number."),
        (None, InvalidTypeError, "seed is not an integer: expected 0 or more, got None"),
        (-1, InvalidValueError, "seed is too small: expected 0 or more, got -1. Raise it."),
        (2**64, InvalidValueError, f"seed is too large: expected at most {2**64 - 1}, got {2**64}. Lower it."),
    ],
)
def test_a_failed_extend_changes_nothing(words, llama_model, seed, error, message):
    model, given, vocab = llama_model(len(words)), codebooks(4), semid.SidVocabulary([4])
    fresh, untouched = copy.deepcopy(words), copy.deepcopy(model)
    with pytest.raises(error, match=re.escape(message)):
        vocab.extend(words, model, codebooks=given, seed=seed)
    assert len(words) == len(fresh) == model.get_input_embeddings().weight.shape[0]
    assert repr(vocab) == repr(semid.SidVocabulary([4]))
    # A second attempt fills the rows, as if it were the first.
    vocab.extend(words, model, codebooks=given)
    semid.SidVocabulary([4]).extend(fresh, untouched, codebooks=given)
    assert torch.equal(model.get_input_embeddings().weight, untouched.get_input_embeddings().weight)


def test_a_tokenizer_that_splits_ids_stays_as_it_is(words, llama_model, monkeypatch):
    def split(tokenizer, text, token_ids):
        raise InvalidValueError("the tokenizer does not keep semantic IDs whole")

    monkeypatch.setattr("semid.vocabulary.embeddings.check_encoding", split)
    size, model = len(words), llama_model(len(words))
    with pytest.raises(InvalidValueError, match="keep semantic IDs whole"):
        semid.SidVocabulary([4]).extend(words, model)
    assert len(words) == size == model.get_input_embeddings().weight.shape[0]


def test_codebooks_that_are_not_used_are_told(words, llama_model):
    model = llama_model(len(words) + 40)  # rows to spare
    before = model.get_input_embeddings().weight.clone()
    vocab = semid.SidVocabulary([4]).extend(words)
    with pytest.warns(UserWarning, match=r"codebooks are not used: expected .* got both with them\. Their rows stay"):
        vocab.extend(words, model, codebooks=codebooks(4))
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_views_that_share_all_tokens_use_the_same_codebooks(words, make_model):
    model, given = make_model(len(words)), codebooks(4, 4)
    for vocab in semid.SidVocabulary.for_views([4, 4], n_shared=2, views=["semantic", "collaborative"]).values():
        vocab.extend(words, model, codebooks=given)  # a warning would be an error


def test_no_model(words):
    with pytest.raises(
        InvalidTypeError, match="model cannot take new tokens: expected a transformers model, got Linear"
    ):
        semid.SidVocabulary([4]).extend(words, torch.nn.Linear(2, 2))
    with pytest.raises(InvalidTypeError, match=r"codebooks need a model: .* got None. Pass both"):
        semid.SidVocabulary([4]).extend(words, codebooks=codebooks(4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (codebooks(4), "codebooks disagree with the vocabulary: expected 2 levels, got 1"),
        (codebooks(4, 6), r"codebook of level 1 has a wrong shape: expected \(5, dim\), got \(6, 6\)"),
        ([np.zeros(4), np.zeros(5)], r"codebook of level 0 has a wrong shape: expected \(4, dim\), got \(4,\)"),
        ([np.zeros((4, 2)), np.full((5, 2), np.nan)], "codebook of level 1 is not finite: expected numbers"),
        ([[[1.0], [1.0, 2.0]], np.zeros((5, 2))], "codebook of level 0 is ragged: expected rows of one length"),
        ([np.full((4, 2), "a"), np.zeros((5, 2))], "codebook of level 0 has a wrong dtype: expected numbers, got <U1"),
        ("ab", r"codebooks have a wrong type: expected one array per level, got 'ab'\. Pass quantizer\.codebooks"),
        (
            {"semantic": codebooks(4, 5)},
            "expected one array per level, got dict. Pass quantizer.codebooks, of one view",
        ),
        (semid.KMeans(4), "expected one array per level, got KMeans"),
    ],
)
def test_wrong_codebooks(words, llama_model, wrong, message):
    size = len(words)
    with pytest.raises((InvalidValueError, InvalidTypeError), match=message):
        semid.SidVocabulary([4, 5]).extend(words, llama_model(size), codebooks=wrong)
    assert len(words) == size


def test_a_saved_tokenizer_and_a_fresh_model(words, make_model):
    given = codebooks(30, 40)
    one, two = make_model(len(words)), make_model(len(words))
    vocab = semid.SidVocabulary([30, 40]).extend(words, one, codebooks=given)
    words.add_tokens(["later"])
    semid.SidVocabulary([30, 40]).extend(words, two, codebooks=given)
    rows = np.concatenate(vocab.level_tokens)
    for name, weight in rows_of(one).items():
        assert torch.equal(weight[rows], rows_of(two)[name][rows])


@pytest.mark.parametrize("model", [False, True])
def test_a_tokenizer_with_gaps_in_its_ids_is_refused(model):
    """Added tokens are numbered from the count of tokens on, which is the id of a word here."""
    words = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1, "I": 20}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    vocab, before = semid.SidVocabulary([8, 8, 8]), tokenizer.get_vocab()
    given = {"model": GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=2))} if model else {}
    with pytest.raises(InvalidValueError, match=r"ids that are taken: .* got id 20, that of 'I'\. Its ids have gaps"):
        vocab.extend(tokenizer, **given)
    assert tokenizer.get_vocab() == before
    assert semid.SidVocabulary([8, 8]).extend(tokenizer).level_tokens[0].tolist() == list(
        range(3, 11)
    )  # these are free
