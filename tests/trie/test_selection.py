"""One beam step against sorting every continuation, on every back end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import nodes_oracle, select_oracle
from strategies import SHARED_FIXTURE, catalogues, tries

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import RankLists, build, select_rows

CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


def drawn_step(rng, trie, codes, batch=3, beams=4, values=4):
    """Beams at some depth, dead ones among them, with scores of few distinct values, so that ties are common."""
    depth = int(rng.integers(0, trie.n_levels))
    known = sorted(nodes_oracle(codes, depth))
    at = rng.integers(-1, len(known), (batch, beams))
    prefixes = [[known[i] if i >= 0 else None for i in row] for row in at]
    numbers = trie.walk(np.array(known).reshape(len(known), depth))
    nodes = np.where(at >= 0, numbers[at], -1)
    log_probs = rng.integers(1 - values, 1, (batch, beams, trie.codebook_sizes[depth])).astype(np.float32)
    start = rng.integers(1 - values, 1, (batch, beams)).astype(np.float32)
    return depth, prefixes, nodes, log_probs, start


def assert_selected(trie, out, request, expected):
    """Compare one request's slots with (score, beam, code, prefix) tuples; the rest must be empty."""
    filled = len(expected)
    assert out.scores[request, :filled].tolist() == [entry[0] for entry in expected]
    assert out.rows[request, :filled].tolist() == [entry[1] for entry in expected]
    assert out.codes[request, :filled].tolist() == [entry[2] for entry in expected]
    assert out.nodes[request, :filled].tolist() == [int(trie.walk([entry[3]])[0]) for entry in expected]
    assert (out.scores[request, filled:] == -np.inf).all() and (out.nodes[request, filled:] == -1).all()
    assert (out.rows[request, filled:] == -1).all() and (out.codes[request, filled:] == -1).all()


@SHARED_FIXTURE
@given(catalogue=tries(), seed=st.integers(0, 2**16), k=st.integers(1, 12), values=st.sampled_from([1, 4, 1000]))
def test_select_agrees_with_sorting_everything(backend, catalogue, seed, k, values):
    codes, _, build = catalogue
    trie, rng = build(), np.random.default_rng(seed)
    depth, prefixes, nodes, log_probs, start = drawn_step(rng, trie, codes, values=values)
    out = trie.select(log_probs, start, nodes, depth=depth, k=k)
    for request in range(3):
        assert_selected(
            trie, out, request, select_oracle(codes, prefixes[request], log_probs[request], start[request], k)
        )


@SHARED_FIXTURE
@given(
    catalogue=tries(),
    seed=st.integers(0, 2**16),
    k=st.integers(1, 12),
    n_excluded=st.integers(0, 60),
    dead=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    n_candidates=st.sampled_from([None, 0, 1, 5, 40]),
)
def test_excluded_dead_and_other_items_are_never_reached(backend, catalogue, seed, k, n_excluded, dead, n_candidates):
    """Exact at every depth: a beam that is kept leads to an item that is alive, not excluded, and a candidate."""
    codes, _, build = catalogue
    trie, rng = build(), np.random.default_rng(seed)
    n_items = len(codes)
    depth, prefixes, nodes, log_probs, start = drawn_step(rng, trie, codes)
    alive = rng.random(n_items) >= dead
    exclude = [rng.integers(0, n_items, n_excluded), [], set(rng.integers(0, n_items, n_excluded).tolist())]
    candidates = [None, None, None]
    if n_candidates is not None:  # the first request has none, in the same batch
        candidates[1:] = (rng.integers(0, n_items, n_candidates) for _ in range(2))
    view = trie.restrict(alive) if dead else trie
    out = view.select(log_probs, start, nodes, depth=depth, k=k, exclude=exclude, candidates=candidates)
    for request in range(3):
        gone = set(exclude[request]) | set(np.flatnonzero(~alive).tolist())
        if candidates[request] is not None:
            gone |= set(range(n_items)) - set(candidates[request].tolist())
        expected = select_oracle(codes, prefixes[request], log_probs[request], start[request], k, gone)
        assert_selected(trie, out, request, expected)


@pytest.mark.parametrize("k", [1, 7, 50, 3000])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("items_per_edge", [8, 10**9], ids=["explicit", "flat"])
@pytest.mark.parametrize("size", [40, 90])
def test_many_children(backend, rng, monkeypatch, k, depth, items_per_edge, size):
    """More children than lanes, nodes with every code and crowded flat ones, and thresholds that are too high because
    most items are dead."""
    monkeypatch.setattr(build, "ITEMS_PER_EDGE", items_per_edge)
    codes = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1).reshape(-1, 3)
    codes = codes[(codes[:, 0] < 20) | (rng.random(len(codes)) < 0.4)]  # full below 0 .. 19
    trie = semid.Trie.from_codes(codes, codebook_sizes=(size,) * 3)
    prefixes = codes[rng.integers(0, len(codes), (2, 30)), :depth]
    prefixes[:, :3] = codes[0, :depth]
    log_probs = rng.standard_normal((2, 30, size)).astype(np.float32).round(2)
    start = rng.standard_normal((2, 30)).astype(np.float32).round(2)
    nodes = trie.walk(prefixes)
    alive = rng.random(len(codes)) < 0.1
    alive[trie.prefix_range(codes[-1, : min(depth, 1)])] = False
    exclude = [np.flatnonzero(rng.random(len(codes)) < 0.3), []]
    lists = [[tuple(p.tolist()) for p in row] for row in prefixes]
    plain = trie.select(log_probs, start, nodes, depth=depth, k=k)
    less = trie.restrict(alive).select(log_probs, start, nodes, depth=depth, k=k, exclude=exclude)
    for request in range(2):
        gone = set(exclude[request]) | set(np.flatnonzero(~alive).tolist())
        left = codes[[rank not in gone for rank in range(len(codes))]]
        for out, rows in ((plain, codes), (less, left)):
            expected = select_oracle(rows, lists[request], log_probs[request], start[request], k)
            assert_selected(trie, out, request, expected)


def test_select_never_takes_a_child_of_infinite_or_undefined_score(backend):
    trie = semid.Trie.from_codes(CODES)
    log_probs = np.array([[[-np.inf, np.nan]], [[np.nan, -5.0]]], np.float32)
    out = trie.select(log_probs, np.zeros((2, 1)), np.zeros((2, 1), int), depth=0, k=2)
    assert out.codes.tolist() == [[-1, -1], [1, -1]] and out.scores.tolist() == [[-np.inf] * 2, [-5.0, -np.inf]]
    out = trie.select(np.zeros((1, 2, 2)), [[np.nan, np.inf]], [[0, 0]], depth=0, k=3)
    assert out.scores.tolist() == [[np.inf, np.inf, -np.inf]] and out.rows.tolist() == [[1, 1, -1]]


def test_zeros_of_both_signs_tie(backend):
    trie = semid.Trie.from_codes([[0], [1], [2]])
    out = trie.select(np.array([[[-0.0, 0.0, -0.0]]]), np.array([[-0.0]]), [[0]], depth=0, k=3)
    assert out.codes.tolist() == [[0, 1, 2]]


def test_lists_that_were_checked_before_give_the_same(backend, rng):
    codes = np.unique(rng.integers(0, 9, (300, 3)), axis=0)
    trie = semid.Trie.from_codes(codes)
    lists = [rng.integers(0, len(codes), 40), None]
    log_probs, zeros = rng.standard_normal((2, 1, 9)).astype(np.float32), np.zeros((2, 1), int)
    for name in ("exclude", "candidates"):
        one = trie.select(log_probs, zeros, zeros, depth=0, k=9, **{name: lists})
        two = trie.select(log_probs, zeros, zeros, depth=0, k=9, **{name: trie.rank_lists(lists)})
        assert all((a == b).all() for a, b in zip(one, two, strict=True))
    with pytest.raises(InvalidValueError, match=rf"expected one of {len(codes)} items, got 4"):
        trie.select(log_probs, zeros, zeros, depth=0, k=1, exclude=RankLists.of([[0], [1]], n_items=4))


@SHARED_FIXTURE
@given(drawn=st.lists(catalogues(20), min_size=1, max_size=3), seed=st.integers(0, 2**16), depth=st.integers(0, 1))
def test_rows_of_different_tries_are_as_if_alone(backend, drawn, seed, depth):
    tries = [semid.Trie.from_codes(codes, codebook_sizes=sizes) for codes, sizes in drawn if len(sizes) > depth]
    if not tries:
        return
    tries.append(tries[0].restrict([0]))
    rng = np.random.default_rng(seed)
    rows = [tries[i] for i in rng.integers(0, len(tries), 5)]
    width = max(trie.codebook_sizes[depth] for trie in rows) + 1
    log_probs = rng.standard_normal((5, 2, width)).astype(np.float32)
    start = rng.standard_normal((5, 2)).astype(np.float32)
    nodes = np.stack([trie.walk(trie.codes_of(np.array([0, trie.n_ranks - 1]))[:, :depth]) for trie in rows])
    exclude = [rng.integers(0, trie.n_ranks, 2) for trie in rows]
    candidates = [None if i % 2 else rng.integers(0, trie.n_ranks, 9) for i, trie in enumerate(rows)]
    out = select_rows(rows, log_probs, start, nodes, depth=depth, k=4, exclude=exclude, candidates=candidates)
    for row, trie in enumerate(rows):
        size = trie.codebook_sizes[depth]
        alone = trie.select(
            log_probs[row : row + 1, :, :size], start[row : row + 1], nodes[row : row + 1], depth=depth, k=4,
            exclude=exclude[row : row + 1], candidates=candidates[row : row + 1],
        )  # fmt: skip
        assert all((a[row] == b[0]).all() for a, b in zip(out, alone, strict=True))


def test_bad_steps():
    trie = semid.Trie.from_codes(CODES)
    zeros = np.zeros((1, 1))
    one = np.zeros((1, 1, 2))
    cases = [
        (lambda: trie.select(np.zeros((1, 1, 9)), zeros, [[0]], depth=0, k=1), r"expected \(batch, beams, 2\)"),
        (lambda: trie.select(one, [[0, 0]], [[0]], depth=0, k=1), r"expected \(1, 1\), got \(1, 2\)"),
        (lambda: trie.select(one, zeros, [[0]], depth=0, k=0), r"k is too small: expected 1 or more, got 0"),
        (lambda: trie.select(one, zeros, [[1]], depth=0, k=1), r"expected -1 \.\. 0 at depth 0, got 1 \.\. 1"),
        (lambda: trie.select(one, zeros, [[0]], depth=3, k=1), r"expected 0 \.\. 2, got 3\. Leaves have no children"),
        (lambda: trie.select(one, zeros, [[0]], depth=0, k=1, exclude=[[1], [2]]), r"expected 1 lists of ranks, got 2"),
        (lambda: trie.select(one, zeros, [[0]], depth=0, k=1, exclude=[[4]]), r"exclude .* 0 \.\. 3, got 4\."),
        (lambda: trie.select(one, zeros, [[0]], depth=0, k=1, candidates=[[-1]]), r"candidates .* got -1\."),
        (lambda: select_rows([trie] * 2, one, zeros, [[0]], depth=0, k=1), r"log_probs .* 2 requests, got \(1, 1, 2\)"),
        (lambda: select_rows([trie], one, zeros, [[0]], depth=3, k=1), r"expected 0 \.\. 2, got 3"),
        (lambda: select_rows([trie], one, zeros, [[0]], depth=0, k=1, exclude=[]), "expected 1 lists of ranks, got 0"),
    ]
    for call, message in cases:
        with pytest.raises(InvalidValueError, match=message):
            call()
    with pytest.raises(InvalidTypeError, match="exclude has a wrong dtype: expected integers, got <U"):
        trie.select(one, zeros, [[0]], depth=0, k=1, exclude=[["book"]])
    for call in (trie.select, lambda *step, **options: select_rows([trie], *step, **options)):
        with pytest.raises(
            InvalidTypeError, match=r"nodes has a wrong dtype: expected integers, got float64\. Take them"
        ):
            call(one, zeros, [[0.7]], depth=0, k=1)
    cases = [
        (
            lambda: trie.select(one, zeros, [[0]], depth=1.0, k=1),
            r"depth has a wrong type: expected an integer, got 1\.0",
        ),
        (
            lambda: trie.select(one, zeros, [[0]], depth="0", k=1),
            "depth has a wrong type: expected an integer, got '0'",
        ),
        (lambda: trie.select(one, zeros, [[0]], depth=0, k=2.5), r"k is not an integer: expected 1 or more, got 2\.5"),
        (lambda: trie.select(one, zeros, [[0]], depth=0, k=True), "k is not an integer: expected 1 or more, got True"),
        (
            lambda: trie.select(one, zeros, [[0]], depth=False, k=1),
            "depth has a wrong type: expected an integer, got False",
        ),
        (
            lambda: trie.select(one, zeros, [[0]], depth=0, k=1, exclude=[1]),
            r"exclude holds something else: expected one list of ranks per request, got 1 for one\. Write \[\[4, 1\]",
        ),
        (
            lambda: trie.select(one, zeros, [[0]], depth=0, k=1, exclude=np.array([1])),
            r"exclude holds .*, got .* for one",
        ),
        (
            lambda: trie.select(one, zeros, [[0]], depth=0, k=1, candidates=5),
            "candidates has a wrong type: .*, got int",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InvalidTypeError, match=message):
            call()


def test_rows_take_rank_lists_as_select_does(backend, rng):
    trie = semid.Trie.from_codes(CODES)
    view = trie.restrict([0, 1, 2])
    lists, log_probs = [[0], None, [1, 3]], rng.standard_normal((3, 1, 2)).astype(np.float32)
    zeros = np.zeros((3, 1), int)
    for both in ([trie] * 3, [trie, view, trie]):
        for name in ("exclude", "candidates"):
            one = select_rows(both, log_probs, zeros, zeros, depth=0, k=2, **{name: lists})
            two = select_rows(both, log_probs, zeros, zeros, depth=0, k=2, **{name: trie.rank_lists(lists)})
            assert all((a == b).all() for a, b in zip(one, two, strict=True))
        with pytest.raises(InvalidValueError, match="exclude has a wrong length: expected 3 lists of ranks, got 2"):
            select_rows(both, log_probs, zeros, zeros, depth=0, k=2, exclude=trie.rank_lists([[0], [1]]))


@pytest.mark.parametrize("name", ["exclude", "candidates"])
def test_lists_of_ranks_are_one_list_per_request(name):
    """One bracket too many would join the lists of two requests."""
    trie = semid.Trie.from_codes(CODES)
    message = rf"{name} holds something else: .* got ranks of shape \(2, 2\) for one\. Write \[\[4, 1\], \[2\]\]"
    with pytest.raises(InvalidValueError, match=message):
        trie.select(np.zeros((1, 1, 2)), [[0]], [[0]], depth=0, k=1, **{name: [[[0, 1], [2, 3]]]})
    with pytest.raises(InvalidValueError, match=rf"{name} holds a rank .* got 18446744073709551615\. "):
        ranks = [np.array([2**64 - 1], np.uint64)]
        trie.select(np.zeros((1, 1, 2)), [[0]], [[0]], depth=0, k=1, **{name: ranks})


def test_ranks_that_look_like_a_mask_are_ranks_where_no_mask_is_taken(backend):
    """`restrict` takes masks too, and refuses; a history may well have as many entries as there are items."""
    trie = semid.Trie.from_codes(CODES)
    with pytest.raises(InvalidValueError, match="restriction is ambiguous"):
        trie.restrict([1, 0, 0, 1])
    assert trie.rank_lists([[1, 0, 0, 1]]).ranks.tolist() == [0, 1]
    mask = [True, False, False, True]
    assert trie.restrict(mask).n_items == 2
    with pytest.raises(InvalidTypeError, match="lists has a wrong dtype: expected integers, got bool"):
        trie.rank_lists([mask])


def test_rank_lists_takes_what_select_takes():
    trie = semid.Trie.from_codes(CODES)
    lists = trie.rank_lists([[2, 1], None])
    assert trie.rank_lists(lists) is lists
    with pytest.raises(InvalidValueError, match="lists belongs to another trie: expected one of 4 items, got 9"):
        trie.rank_lists(RankLists.of([[0]], n_items=9))
    for wrong in (5, None, (ranks for ranks in [[0]])):  # a generator would be empty when it is read again
        with pytest.raises(InvalidTypeError, match=r"lists has a wrong type: .* per request, got (int|NoneT|gener)"):
            trie.rank_lists(wrong)


@pytest.mark.parametrize("n_views", [0, 1])
def test_rows_check_depth_and_k_as_select_does(n_views):
    trie = semid.Trie.from_codes(CODES)
    both = [trie, *[trie.restrict([0])] * n_views]
    zeros = np.zeros((len(both), 1), int)
    step = np.zeros((len(both), 1, 2)), zeros, zeros
    for depth, k, message in [
        (1.0, 1, r"depth has a wrong type: expected an integer, got 1\.0"),
        (True, 1, "depth has a wrong type: expected an integer, got True"),
        (0, 1.5, r"k is not an integer: expected 1 or more, got 1\.5"),
    ]:
        with pytest.raises(InvalidTypeError, match=message):
            select_rows(both, *step, depth=depth, k=k)
    for k in (0, -1):
        with pytest.raises(InvalidValueError, match=f"k is too small: expected 1 or more, got {k}"):
            select_rows(both, *step, depth=0, k=k)
