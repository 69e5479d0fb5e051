import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from oracles import alive_children_oracle, allowed_tokens_oracle, mask_oracle, nodes_oracle
from strategies import tries
from transformers.generation import PrefixConstrainedLogitsProcessor

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation import read_beams
from semid.generation.constraint import allow_children, allow_one, choose_eos, mask_torch_inplace
from tests.generation.conftest import tiny_model

FORCED = -1e4


@pytest.fixture
def token_rows(codes, vocab):
    return vocab.to_tokens(codes).tolist()


def rows_of_depth(token_rows, depth, n_rows, prompt=(5, 3)):
    """Prompts followed by prefixes of items, one of none, one that ended."""
    chosen = np.random.default_rng(depth).integers(0, len(token_rows), n_rows)
    rows = [[*prompt, *token_rows[row][:depth]] for row in chosen]
    if depth:
        rows[1][len(prompt)] = 7  # a word
        rows[2][-1] = 1
    return torch.tensor(rows)


def hf_result(token_rows, prompt_len, input_ids, scores, num_beams=1, eos=1):
    def allowed(_, row):
        return allowed_tokens_oracle(token_rows, row[prompt_len:].tolist(), eos)

    return PrefixConstrainedLogitsProcessor(allowed, num_beams)(input_ids, scores)


def layouts(scores):
    wide = torch.empty(scores.shape[0], scores.shape[1] + 3, dtype=scores.dtype)
    view = wide[:, 1:-2]
    view.copy_(scores)
    return {"contiguous": scores.clone(), "sliced": view}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["contiguous", "sliced"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 5])
def test_equal_to_hugging_face_bit_for_bit(trie, vocab, token_rows, dtype, layout, depth):
    input_ids = rows_of_depth(token_rows, min(depth, 3), 12)
    if depth == 5:  # tokens after a complete ID
        input_ids = torch.cat([input_ids, torch.ones(12, 2, dtype=torch.long)], dim=1)
    scores = torch.randn(12, 70, generator=torch.Generator().manual_seed(depth)).to(dtype)
    expected = hf_result(token_rows, 2, input_ids, scores)
    given = layouts(scores)[layout]
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=2)(input_ids, given)
    assert found.data_ptr() == given.data_ptr()
    assert found.dtype == dtype and torch.equal(found, expected)


def test_tokens_that_lie_far_apart():
    """No table holds their codes: they are looked up another way."""
    codes = np.array([[0, 1], [1, 0], [1, 2]])
    vocab = semid.SidVocabulary.from_token_ids([[4, 900], [9, 3, 700]], eos_token_id=1)
    assert vocab.tables is None
    input_ids = torch.tensor([[5, 900], [5, 4], [5, 3], [5, 901]])
    scores = torch.randn(4, 950, generator=torch.Generator().manual_seed(0))
    expected = hf_result(vocab.to_tokens(codes).tolist(), 1, input_ids, scores)
    found = semid.SidLogitsProcessor(semid.Trie.from_codes(codes), vocab, prompt_len=1)(input_ids, scores)
    assert torch.equal(found, expected)


def test_a_vocabulary_with_more_codes_than_the_trie_fits_where_the_trie_does():
    trie = semid.Trie.from_codes([[0, 1], [1, 0]])
    vocab = semid.SidVocabulary.from_token_ids([[4, 5, 99], [6, 7, 98]], eos_token_id=1)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=1)
    found = processor(torch.tensor([[3, 4], [3, 5]]), torch.zeros(2, 8))
    assert found.isfinite().nonzero().tolist() == [[0, 7], [1, 6]]
    with pytest.raises(InvalidValueError, match=r"expected 2 columns below 7, got .* largest 7\. Has the model been"):
        processor(torch.tensor([[3, 4]]), torch.zeros(1, 7))


def test_out_of_place(trie, vocab, token_rows):
    input_ids = rows_of_depth(token_rows, 1, 5)
    scores = torch.randn(5, 70)
    before = scores.clone()
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=2, inplace=False)(input_ids, scores)
    assert torch.equal(scores, before) and torch.equal(found, hf_result(token_rows, 2, input_ids, scores))


def test_inputs_are_not_changed(trie, vocab, token_rows):
    input_ids = rows_of_depth(token_rows, 2, 5)
    before = input_ids.clone()
    semid.SidLogitsProcessor(trie, vocab, prompt_len=2)(input_ids, torch.zeros(5, 70))
    assert torch.equal(input_ids, before)


@pytest.mark.filterwarnings("ignore:another logits processor has closed every token")
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_rows_whose_items_were_all_removed_keep_finite_scores(trie, vocab, token_rows, depth):
    input_ids = rows_of_depth(token_rows, depth, 6)
    scores = torch.zeros(6, 70)
    scores[4] = -torch.inf
    scores[1, 1] = -torch.inf  # the end token of a row that has left the trie
    scores[3, vocab.level_tokens[depth][0]] = -torch.inf
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=2)(input_ids, scores.clone())
    allowed = hf_result(token_rows, 2, input_ids, torch.zeros(6, 70)).isfinite()
    assert torch.equal(found[4].isfinite(), allowed[4])
    assert (found[4][allowed[4]] == FORCED).all()
    if depth:
        assert found[1, 1] == FORCED and found[1].isfinite().sum() == 1
    assert torch.equal(found[3], hf_result(token_rows, 2, input_ids[3:4], scores[3:4])[0])


@pytest.mark.filterwarnings("ignore:another logits processor has closed every token")
@pytest.mark.parametrize("layout", ["contiguous", "sliced"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_every_row_of_a_restricted_trie_keeps_a_finite_score(trie, vocab, token_rows, depth, dtype, layout):
    """The first child of a node may be out of stock, or have -inf from the model, or both may be true of all others."""
    live = trie.restrict(np.arange(1, 50, 3))
    left = [row for rank, row in enumerate(token_rows) if rank % 3 == 1]
    input_ids = rows_of_depth(left, depth, 60)
    rng = np.random.default_rng(depth)
    scores = torch.where(torch.from_numpy(rng.random((60, 70)) < 0.8), -torch.inf, torch.zeros(60, 70)).to(dtype)
    allowed = hf_result(left, 2, input_ids, torch.zeros(60, 70, dtype=dtype)).isfinite()
    given = torch.where(allowed, scores, -torch.inf)
    forced = allowed & given.isneginf().all(dim=1, keepdim=True)
    assert forced.any() and given.isfinite().any(dim=1).sum() > 5
    found = semid.SidLogitsProcessor(live, vocab, prompt_len=2)(input_ids, layouts(scores)[layout])
    assert torch.equal(found, torch.where(forced, torch.tensor(FORCED, dtype=dtype), given))


def test_a_removed_end_token_is_forced(trie, vocab, token_rows):
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=2)(
        rows_of_depth(token_rows, 3, 4), torch.full((4, 70), -torch.inf)
    )
    assert (found[:, 1] == FORCED).all() and found.isfinite().sum() == 4


def test_scores_that_are_no_numbers_are_not_hidden(trie, vocab, token_rows):
    scores = torch.full((3, 70), torch.nan)
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=0)(torch.empty(3, 0, dtype=torch.long), scores)
    assert torch.equal(found.isnan().sum(1), torch.full((3,), len(trie.children(()))))


def test_end_token(trie, vocab, token_rows):
    no_end = semid.SidVocabulary.from_token_ids(vocab.level_tokens)
    complete, partial = rows_of_depth(token_rows, 3, 4), rows_of_depth(token_rows, 2, 4)
    found = semid.SidLogitsProcessor(trie, no_end, prompt_len=2, eos_token_id=9)(complete, torch.zeros(4, 70))
    assert found.isfinite().nonzero()[:, 1].tolist() == [9] * 4
    message = (
        "an ID is complete and nothing may follow: expected an end token, got none. Pass eos_token_id, or max_new_"
    )
    processor = semid.SidLogitsProcessor(trie, no_end, prompt_len=2)
    with pytest.raises(InvalidValueError, match=message):
        processor(complete, torch.zeros(4, 70))
    # A lost row gets one token of the level, so that beams that hold no item cannot stop the others.
    found = processor(partial, torch.zeros(4, 70))
    lost = int(vocab.level_tokens[2][0])
    assert found[1].isfinite().nonzero()[:, 0].tolist() == [lost]


def test_wrong_arguments(trie, vocab, codes):
    other = semid.SidVocabulary.from_token_ids([range(8), range(7), range(8)])
    message = (
        r"trie and vocabulary have different shapes: expected codebooks of at most \(8, 7, 8\) codes, "
        r"got \(8, 8, 8\)\. Make both from the same codes"
    )
    for make in (semid.SidLogitsProcessor, semid.prefix_allowed_tokens_fn):
        with pytest.raises(InvalidValueError, match=message):
            make(trie, other, prompt_len=1)
        with pytest.raises(InvalidValueError, match=r"expected codebooks of at most \(3,\) codes, got \(8, 8, 8\)"):
            make(trie, semid.SidVocabulary.from_token_ids([range(3)]), prompt_len=1)
        with pytest.raises(InvalidValueError, match="the vocabulary has no token ids yet"):
            make(trie, semid.SidVocabulary([8, 8, 8]), prompt_len=1)
        with pytest.raises(InvalidTypeError, match=r"trie has a wrong type: expected one semid\.Trie, got list"):
            make([], vocab, prompt_len=1)
        with pytest.raises(
            InvalidTypeError, match=r"vocab has a wrong type: expected a semid\.SidVocabulary, got Trie"
        ):
            make(trie, trie, prompt_len=1)
        with pytest.raises(InvalidTypeError, match=r"prompt_len is not an integer: expected 0 or more, got 1\.5"):
            make(trie, vocab, prompt_len=1.5)
        with pytest.raises(InvalidValueError, match="prompt_len is too small: expected 0 or more, got -1"):
            make(trie, vocab, prompt_len=-1)
        with pytest.raises(InvalidTypeError, match=r"eos_token_id has a wrong type: expected an integer, got list"):
            make(trie, vocab, prompt_len=1, eos_token_id=[1, 2])
    message = "prompt_len is too large: expected at most 3, got 4. It is the padded length of the prompt, or 1 for"
    with pytest.raises(InvalidValueError, match=message):
        semid.SidLogitsProcessor(trie, vocab, prompt_len=4)(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 70))


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_trie_for_each_request(trie, vocab, codes, token_rows, depth):
    parts = [trie, semid.Trie.from_codes(codes[::2]), trie.restrict(np.arange(5, 20))]
    kept = [token_rows, token_rows[::2], token_rows[5:20]]
    input_ids = rows_of_depth(token_rows, depth, 12)
    scores = torch.randn(12, 70, generator=torch.Generator().manual_seed(depth))
    expected = torch.cat([hf_result(kept[row // 4], 2, input_ids[row : row + 1], scores[row : row + 1])
                          for row in range(12)])  # fmt: skip
    assert torch.equal(semid.SidLogitsProcessor(parts, vocab, prompt_len=2)(input_ids, scores), expected)


@pytest.mark.parametrize("way", ["greedy", "many samples", "beams", "best beams"])
def test_generate_with_a_trie_for_each_request(model, trie, vocab, codes, make_inputs, prompt_len, way):
    inputs = make_inputs(3)
    start = prompt_len(model, inputs)
    allowed = [range(50), range(0, 50, 2), range(5, 20)]
    tries = [trie.restrict(list(ranks)) for ranks in allowed]
    processor = semid.SidLogitsProcessor(tries, vocab, prompt_len=start)
    torch.manual_seed(0)
    sequences = model.generate(**inputs, logits_processor=[processor], max_new_tokens=3, **WAYS[way])
    for ranks, found in zip(allowed, items_in(sequences, trie, vocab, start).reshape(3, -1).tolist(), strict=True):
        assert set(found) <= set(ranks)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_requests_side_by_side_may_share_a_trie(trie, vocab, codes, token_rows, depth):
    half = semid.Trie.from_codes(codes[::2])
    input_ids = rows_of_depth(token_rows, depth, 12)
    scores = torch.randn(12, 70, generator=torch.Generator().manual_seed(depth))
    expected = torch.cat([
        hf_result(kept, 2, input_ids[rows], scores[rows])
        for kept, rows in [(token_rows, slice(4)), (token_rows[::2], slice(4, 8)), (token_rows, slice(8, 12))]
    ])  # fmt: skip
    tries = [trie, trie, half, half, trie, trie]
    assert torch.equal(semid.SidLogitsProcessor(tries, vocab, prompt_len=2)(input_ids, scores), expected)


def test_tries_that_do_not_fit_the_batch(trie, vocab):
    processor = semid.SidLogitsProcessor([trie, trie], vocab, prompt_len=0)
    with pytest.raises(InvalidValueError, match="tries do not fit the batch: expected a multiple of 2 rows, got 3"):
        processor(torch.empty(3, 0, dtype=torch.long), torch.zeros(3, 70))
    with pytest.raises(InvalidTypeError, match=r"trie has a wrong type: expected one semid\.Trie, got NoneType"):
        semid.SidLogitsProcessor([trie, None], vocab, prompt_len=0)


def test_a_smaller_trie_fits(vocab):
    trie = semid.Trie.from_codes([[0, 1, 2], [1, 0, 0]])
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=0)(torch.empty(1, 0, dtype=torch.long), torch.zeros(1, 70))
    assert sorted(found.isfinite().nonzero()[:, 1].tolist()) == sorted(vocab.level_tokens[0][:2].tolist())


@pytest.mark.filterwarnings("ignore:every row has left the trie")
def test_a_trie_restricted_to_nothing_lets_rows_end_and_nothing_else(trie, vocab, codes):
    nothing = trie.restrict(np.zeros(50, bool))
    for depth in range(4):
        input_ids = torch.from_numpy(vocab.to_tokens(codes[:5, :depth]))
        found = semid.SidLogitsProcessor(nothing, vocab, prompt_len=0)(input_ids, torch.zeros(5, 70))
        assert found.isfinite().nonzero()[:, 1].tolist() == [1] * 5
        assert semid.prefix_allowed_tokens_fn(nothing, vocab, prompt_len=0)(0, input_ids[0]) == [1]


@pytest.mark.filterwarnings("ignore:every row has left the trie")
@pytest.mark.parametrize("token", [-1, -100, 0, 39, 69, 10**6])
@pytest.mark.parametrize("place", [0, 1])
def test_tokens_that_are_no_codes_let_rows_end_and_nothing_else(trie, vocab, codes, place, token):
    """Also where all that follows them are codes, and where a token is of no vocabulary."""
    input_ids = torch.from_numpy(vocab.to_tokens(codes[:5, :2]))
    input_ids[:, place] = token
    found = semid.SidLogitsProcessor(trie, vocab, prompt_len=0)(input_ids, torch.zeros(5, 70))
    assert found.isfinite().nonzero()[:, 1].tolist() == [1] * 5


def test_scores_and_rows_that_do_not_fit(trie, vocab, codes):
    input_ids = torch.from_numpy(vocab.to_tokens(codes[:5]))
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=0)
    for depth in (0, 3):
        with pytest.raises(InvalidValueError, match=r"scores have a wrong shape: .* \(5, more than 1\), .* \(4, 70\)"):
            processor(input_ids[:, :depth], torch.zeros(4, 70))
    ending = semid.SidLogitsProcessor(trie, vocab, prompt_len=0, eos_token_id=70)
    with pytest.raises(InvalidValueError, match=r"\(5, more than 70\), .* got \(5, 70\)\. Has the model been resized"):
        ending(input_ids, torch.zeros(5, 70))
    with pytest.raises(InvalidValueError, match=r"input_ids are wrong: expected integers of .* got torch\.float32 of"):
        processor(input_ids.float(), torch.zeros(5, 70))
    with pytest.raises(InvalidValueError, match="eos_token_id is negative: expected 0 or more, got -1"):
        semid.SidLogitsProcessor(trie, vocab, prompt_len=0, eos_token_id=-1)


def test_a_model_too_small_for_the_vocabulary(trie, vocab):
    with pytest.raises(InvalidValueError, match="tokens do not fit"):
        semid.SidLogitsProcessor(trie, vocab, prompt_len=0)(torch.empty(1, 0, dtype=torch.long), torch.zeros(1, 42))


def test_continuous_batching_is_refused(trie, vocab):
    assert semid.SidLogitsProcessor.supports_continuous_batching is False


def test_copies(trie, vocab, token_rows):
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=2)
    input_ids, scores = rows_of_depth(token_rows, 1, 4), torch.randn(4, 70)
    expected = processor(input_ids, scores.clone())
    for other in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert torch.equal(other(input_ids, scores.clone()), expected)


def test_threads_may_share_a_processor(trie, vocab, token_rows):
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=2)

    def run(depth):
        input_ids, scores = rows_of_depth(token_rows, depth % 4, 20), torch.randn(20, 70)
        return torch.equal(processor(input_ids, scores.clone()), hf_result(token_rows, 2, input_ids, scores))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(40)))


# Through the real generate: every row that comes back is an item.


def items_in(sequences, trie, vocab, start):
    ids = sequences[:, start : start + 3].float().long().numpy()
    return trie.rank(vocab.to_codes(ids, errors="ignore"))


WAYS = {
    "greedy": dict(do_sample=False),
    "sampling": dict(do_sample=True, temperature=1.5, top_k=5),
    "many samples": dict(do_sample=True, num_return_sequences=7, top_p=0.9),
    "beams": dict(num_beams=6, num_return_sequences=6),
    "best beams": dict(num_beams=6, num_return_sequences=2),
    "beam sampling": dict(num_beams=4, num_return_sequences=4, do_sample=True),
}


@pytest.mark.parametrize("end", ["after the ID", "by the end token"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 4])
def test_generate_returns_items_alone(model, trie, vocab, make_inputs, prompt_len, way, dtype, batch, end):
    torch.manual_seed(0)
    model = copy.deepcopy(model).to(dtype) if dtype != torch.float32 else model
    inputs = make_inputs(batch)
    start = prompt_len(model, inputs)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start)
    for _ in range(2):  # one object serves many calls
        new = 3 if end == "after the ID" else 8
        sequences = model.generate(**inputs, logits_processor=[processor], max_new_tokens=new, **WAYS[way])
        assert (items_in(sequences, trie, vocab, start) >= 0).all()
        rest = sequences[:, start + 3 :]
        assert rest.numel() == 0 or ((rest[:, 0] == 1).all() and (rest[:, 1:] == 0).all())


@pytest.mark.parametrize("way", ["greedy", "beams"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_generate_is_that_of_hugging_face_over_a_dict(
    any_model, trie, vocab, codes, make_inputs, prompt_len, way, dtype
):
    """The same tokens and the same masked scores at every step, bit for bit."""
    children = {}
    for row in vocab.to_tokens(codes).tolist():
        for depth, token in enumerate([*row, vocab.eos_token_id]):
            children.setdefault(tuple(row[:depth]), set()).add(token)
    model = any_model if dtype == torch.float32 else copy.deepcopy(any_model).to(dtype)
    inputs = make_inputs(3)
    start = prompt_len(model, inputs)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start)

    def allowed(_, row):
        return sorted(children.get(tuple(row[start : start + 3].tolist()), {vocab.eos_token_id}))

    kwargs = dict(max_new_tokens=5, return_dict_in_generate=True, output_scores=True, **WAYS[way])
    ours = model.generate(**inputs, logits_processor=[processor], **kwargs)
    theirs = model.generate(**inputs, prefix_allowed_tokens_fn=allowed, **kwargs)
    assert torch.equal(ours.sequences, theirs.sequences)
    assert len(ours.scores) == len(theirs.scores)
    assert all(torch.equal(one, other) for one, other in zip(ours.scores, theirs.scores, strict=True))


@pytest.mark.parametrize("eos", [None, 1])
def test_more_beams_than_items(model, vocab, make_inputs, prompt_len, eos):
    trie = semid.Trie.from_codes([[0, 1, 2], [1, 0, 0], [1, 0, 7]])
    tokens = semid.SidVocabulary.from_token_ids(vocab.level_tokens, eos_token_id=eos)
    inputs = make_inputs(2)
    start = prompt_len(model, inputs)
    processor = semid.SidLogitsProcessor(trie, tokens, prompt_len=start)
    sequences = model.generate(
        **inputs, logits_processor=[processor], num_beams=8, num_return_sequences=3, max_new_tokens=3
    )
    assert np.sort(items_in(sequences, trie, tokens, start).reshape(2, 3)).tolist() == [[0, 1, 2]] * 2


def test_raw_logits_without_beams_need_a_copy(model, trie, vocab, make_inputs, prompt_len):
    inputs = make_inputs(2)
    kwargs = dict(
        max_new_tokens=3, do_sample=False, return_dict_in_generate=True, output_logits=True, output_scores=True
    )
    start = prompt_len(model, inputs)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start, inplace=False)
    output = model.generate(**inputs, logits_processor=[processor], **kwargs)
    assert all(logits.isfinite().all() for logits in output.logits)
    assert all(scores.isneginf().any() for scores in output.scores)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start)
    output = model.generate(**inputs, logits_processor=[processor], num_beams=3, **kwargs)
    assert all(logits.isfinite().all() for logits in output.logits)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_prompt_len_that_is_too_small_ends_all_rows(trie, vocab, make_inputs, missing):
    """As its docstring says: what is left of the prompt is the beginning of no item; that is said."""
    model, inputs = tiny_model("qwen2"), make_inputs(3)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=9 - missing)
    message = rf"every row has left the trie: expected IDs after column {9 - missing}, the prompt_len, got rows of 9"
    with pytest.warns(UserWarning, match=message):
        sequences = model.generate(**inputs, logits_processor=[processor], max_new_tokens=3)
    assert sequences.shape[1] == 10 and (sequences[:, 9] == vocab.eos_token_id).all()


@pytest.mark.filterwarnings("ignore:another logits processor has closed every token")
@given(
    catalogue=tries(),
    seed=st.integers(0, 2**16),
    dead=st.sampled_from([0.0, 0.5, 1.0]),
    gone=st.sampled_from([0.0, 0.6, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    contiguous=st.booleans(),
)
def test_children_keep_their_scores_and_every_row_a_finite_one(catalogue, seed, dead, gone, dtype, contiguous):
    """Items are out of stock, and scores are -inf, at random; rows have left the trie."""
    codes, sizes, build = catalogue
    rng = np.random.default_rng(seed)
    alive = set(np.flatnonzero(rng.random(len(codes)) >= dead).tolist())
    trie = build().restrict(sorted(alive)) if dead else build()
    depth = int(rng.integers(0, len(sizes)))
    known = sorted(nodes_oracle(codes, depth))
    prefixes = [known[i] for i in rng.integers(0, len(known), 8)]
    nodes = trie.walk(np.array(prefixes).reshape(8, depth))
    nodes[3] = -1
    width = sizes[depth] + 9
    tokens = rng.permutation(width - 1)[: sizes[depth]]  # the last column is no code
    scores = torch.from_numpy(rng.standard_normal((8, width))).to(dtype)
    scores[torch.from_numpy(rng.random((8, width)) < gone)] = -torch.inf
    expected = torch.full_like(scores, -torch.inf)
    for row, prefix in enumerate(prefixes):
        children = [] if row == 3 else sorted(alive_children_oracle(codes, alive, prefix))
        columns = torch.from_numpy(tokens[children]) if children else torch.tensor([width - 1])
        expected[row, columns] = scores[row, columns]
        if expected[row].isneginf().all():
            expected[row, columns] = FORCED
    if not contiguous:
        scores = torch.stack([scores, scores], dim=2)[..., 0]
    assert scores.is_contiguous() == contiguous or scores.shape[1] == 1
    allow_children(trie, scores, nodes, depth=depth, tokens=tokens, lost_token=width - 1)
    assert torch.equal(scores, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_token_for_every_row(dtype):
    scores = torch.tensor([[0.5, 1.0, -2.0], [0.0, -torch.inf, 3.0]], dtype=dtype)
    allow_one(scores, 1)
    inf = torch.inf
    assert torch.equal(scores, torch.tensor([[-inf, 1.0, -inf], [-inf, FORCED, -inf]], dtype=dtype))


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
    assert (choose_eos(None, vocab), choose_eos(0, vocab)) == (1, 0)
    assert choose_eos(None, semid.SidVocabulary([2])) is None


CODES = np.array([[0, 2], [0, 3], [1, 2]], np.uint8)
TOKENS = np.array([7, 3, 5, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("lost_token", [None, 8])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_equal_to_the_oracle(backend, dtype, contiguous, lost_token, requires_grad):
    trie = semid.Trie.from_codes(CODES)
    scores = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[3, [5, 1]] = -torch.inf  # of all children of its node
    scores[4, 5] = torch.nan  # is no minus infinity
    expected = np.full((5, 9), -np.inf)
    prefixes = [(0,), (1,), (0,), (1,)]
    expected[[0, 1, 3, 4]] = mask_oracle(CODES, prefixes, scores[[0, 1, 3, 4]].double().numpy(), TOKENS)
    if lost_token is not None:
        expected[2, lost_token] = scores[2, lost_token]
    if not contiguous:
        scores = scores.T.contiguous().T
    scores.requires_grad_(requires_grad)
    nodes = trie.walk([[0], [1], [2], [0], [1]])
    with torch.no_grad():
        empty = mask_torch_inplace(trie, scores, nodes, depth=1, tokens=TOKENS, lost_token=lost_token)
    np.testing.assert_array_equal(scores.detach().double().numpy(), expected)
    assert empty.dtype == np.bool_ and empty.tolist() == [False, False, lost_token is None, True, False]


def test_prompts_of_other_lengths_are_noticed_after_the_last_level_too(trie, vocab, token_rows):
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=2)
    for length in (6, 9):
        with pytest.warns(UserWarning, match=f"got rows of {length} columns of which none begins one there"):
            processor(torch.full((3, length), 5), torch.zeros(3, 70))
    whole = rows_of_depth(token_rows, 3, 4)
    processor(
        torch.cat([whole, torch.zeros(4, 2, dtype=torch.long)], dim=1), torch.zeros(4, 70)
    )  # rows that have ended


def bart(**settings):
    """With the settings that BartConfig has by default: the end is forced at the last token."""
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder")
             for name, size in dict(layers=1, attention_heads=4, ffn_dim=48).items()}  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(vocab_size=70, d_model=32, **sides))
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    return model.eval()


FORCES = {
    "forced_eos_token_id": {"forced_eos_token_id": 2},
    "forced_bos_token_id": {"forced_eos_token_id": None, "forced_bos_token_id": 0},
}


@pytest.mark.parametrize("name", FORCES)
@pytest.mark.parametrize("way", ["processor", "prefix function"])
def test_a_forced_token_is_said(name, way, trie, vocab, make_inputs):
    """The scores of the items are lost then: with a processor all get the same, with a function none is written."""
    model, inputs = bart(**FORCES[name]), make_inputs(2, side="right")
    kwargs = dict(num_beams=5, num_return_sequences=5, length_penalty=0.0)
    if way == "processor":
        kwargs["logits_processor"] = [semid.SidLogitsProcessor(trie, vocab, prompt_len=1)]
    else:
        kwargs["prefix_allowed_tokens_fn"] = semid.prefix_allowed_tokens_fn(trie, vocab, prompt_len=1)
    with pytest.warns(UserWarning, match=name):
        model.generate(**inputs, max_new_tokens=3, **kwargs)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*forced.*")
        fits = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=5)
        if name == "forced_eos_token_id":  # the end is forced behind the last code
            sequences = model.generate(**inputs, max_new_tokens=4, **kwargs)
            found = read_beams(sequences, trie=trie, vocab=vocab, prompt_len=1, num_return=5)
            np.testing.assert_array_equal(found.items, fits.items)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"forced_eos_token_id": 1}, "no forced_eos_token_id, got forced_eos_token_id=1"),
        ({"forced_eos_token_id": 1, "max_new_tokens": 3}, "no forced_eos_token_id, got"),
        ({"forced_bos_token_id": 0}, "no forced_bos_token_id, got forced_bos_token_id=0"),
        ({"suppress_tokens": [3, 63]}, "no suppress_tokens, got"),
        ({"begin_suppress_tokens": [47], "bad_words_ids": [[50]]}, "no begin_suppress_tokens or bad_words_ids, got"),
        ({"min_new_tokens": 4}, "no min_new_tokens, got min_new_tokens=4"),
    ],
)
def test_settings_that_close_tokens_of_items_are_refused(settings, shown, trie, vocab):
    config = transformers.GenerationConfig(**settings)
    for make in (semid.SidLogitsProcessor, semid.prefix_allowed_tokens_fn):
        with pytest.raises(InvalidValueError, match=f"generation_config closes tokens of items: expected {shown}"):
            make(trie, vocab, prompt_len=1, generation_config=config)


def test_settings_that_leave_items_open(trie, vocab):
    config = transformers.GenerationConfig(
        forced_eos_token_id=1, max_new_tokens=4, suppress_tokens=[5], begin_suppress_tokens=[50],
        bad_words_ids=[[50, 51]], min_new_tokens=3, forced_bos_token_id=47,
    )  # fmt: skip
    semid.SidLogitsProcessor(trie, vocab, prompt_len=1, generation_config=config)


def test_what_is_no_tensor_is_refused(trie, vocab):
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=1)
    function = semid.prefix_allowed_tokens_fn([trie, trie], vocab, prompt_len=1)
    words, scores = torch.full((2, 2), 3), torch.zeros(2, 70)
    for call in (lambda: processor([[3]], scores), lambda: processor(words, [[0.0]]), lambda: function(0, [3])):
        with pytest.raises(InvalidTypeError, match=r"has a wrong type: expected a torch.Tensor, got list"):
            call()
    with pytest.raises(InvalidTypeError, match="batch_id has a wrong type"):
        function("0", words[0])
