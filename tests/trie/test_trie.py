"""The trie as an object, and its answers against dictionaries and scans, on every back end."""

import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import children_oracle, nodes_oracle, prefix_range_oracle
from strategies import SHARED_FIXTURE, catalogues, prefixes_of, tries

import semid
from semid.errors import InvalidTypeError, InvalidValueError

CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


@given(one=catalogues(8), other=catalogues(8))
def test_equality_is_that_of_the_ids(one, other):
    tries = [semid.Trie.from_codes(codes, codebook_sizes=sizes) for codes, sizes in (one, other)]
    sets = [(sizes, set(map(tuple, codes.tolist()))) for codes, sizes in (one, other)]
    assert (tries[0] == tries[1]) == (sets[0] == sets[1])
    again = semid.Trie.from_codes(one[0][::-1], codebook_sizes=one[1])
    assert again == tries[0] and hash(again) == hash(tries[0])
    assert tries[0] != "a trie"


def test_a_trie_does_not_change():
    trie = semid.Trie.from_codes(CODES)
    with pytest.raises(AttributeError, match="a Trie is immutable: 'n_items' cannot be set"):
        trie.n_items = 5
    with pytest.raises(AttributeError, match="a Trie is immutable: 'n_items' cannot be deleted"):
        del trie.n_items
    for array in (*trie._levels, *trie.restrict([0])._alive):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_pickle_keeps_everything(backend):
    for trie in (semid.Trie.from_codes(CODES, codebook_sizes=(2, 4, 6)), semid.Trie.from_codes(CODES).restrict([1, 3])):
        other = pickle.loads(pickle.dumps(trie))
        assert other == trie and repr(other) == repr(trie) and other.n_ranks == trie.n_ranks
        assert other.children((1, 2)).tolist() == trie.children((1, 2)).tolist()


def test_threads_share_a_trie(backend, rng):
    codes = np.unique(rng.integers(0, 64, (20_000, 3)), axis=0)
    trie = semid.Trie.from_codes(codes)
    wrong = []

    def work():
        for _ in range(20):
            if not (trie.walk(codes) == np.arange(len(codes))).all():
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (np.empty((0, 3), int), InvalidValueError, r"codes is empty: expected at least 1 item, got 0"),
        ([1, 2], InvalidValueError, r"expected \(n_items, n_levels\), got \(2,\)"),
        ([[0.5]], InvalidTypeError, r"expected integers, got float64"),
        ([[0, 1], [0, -1]], InvalidValueError, r"got -1 at row 1, level 1"),
        ([[0, 1], [2**32, 1]], InvalidValueError, r"expected 0 \.\. 4294967295, got 4294967296 at row 1, level 0"),
    ],
)
def test_bad_codes(codes, error, message):
    with pytest.raises(error, match=message):
        semid.Trie.from_codes(codes)


def test_codes_beyond_their_codebook():
    with pytest.raises(InvalidValueError, match=r"expected codes below 4 at level 2, got 5"):
        semid.Trie.from_codes(CODES, codebook_sizes=(2, 4, 4))
    with pytest.raises(InvalidValueError, match=r"expected one size for each of 3 levels, got 2"):
        semid.Trie.from_codes(CODES, codebook_sizes=(2, 4))


def test_the_mark_travels(tmp_path):
    trie = semid.Trie.from_codes(CODES, fingerprint="ab12", generation=3)
    trie.save(tmp_path / "trie.safetensors")
    loaded = semid.Trie.load(tmp_path / "trie.safetensors", mmap=True)
    for other in (trie, loaded, pickle.loads(pickle.dumps(trie)), trie.restrict([0])):
        assert (other.fingerprint, other.generation) == ("ab12", 3)
    semid.Trie.from_codes(CODES).save(tmp_path / "trie.safetensors")
    for other in (semid.Trie.from_codes(CODES), semid.Trie.load(tmp_path / "trie.safetensors"), trie.merge(trie)):
        assert (other.fingerprint, other.generation) == (None, None)


@SHARED_FIXTURE
@given(catalogue=tries())
def test_children_ranges_and_nodes_agree_with_a_scan(backend, catalogue):
    codes, sizes, build = catalogue
    trie = build()
    assert (trie.n_items, trie.n_levels, trie.codebook_sizes) == (len(codes), len(sizes), sizes)
    nodes = {}
    for prefix in prefixes_of(codes):
        assert trie.children(prefix).tolist() == sorted(children_oracle(codes, prefix))
        low, high = prefix_range_oracle(codes, prefix)
        assert trie.prefix_range(prefix) == range(low, high)
        node = int(trie.walk(np.array(prefix, np.int64)[None])[0])
        assert node >= 0 and nodes.setdefault((len(prefix), node), prefix) == prefix  # a node stands for one prefix
        assert trie.node_ranges([node, -1], depth=len(prefix)).tolist() == [[low, high], [0, 0]]


@SHARED_FIXTURE
@given(catalogue=tries(), seed=st.integers(0, 2**16))
def test_walk_gives_minus_one_off_the_catalogue(backend, catalogue, seed):
    codes, sizes, build = catalogue
    trie = build()
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(0, len(sizes) + 1))
    rows = rng.integers(-2, max(sizes) + 2, (50, depth))
    known = nodes_oracle(codes, depth)
    assert (trie.walk(rows) >= 0).tolist() == [tuple(row.tolist()) in known for row in rows]


@SHARED_FIXTURE
@given(catalogue=tries())
def test_rank_codes_of_and_iteration_are_lexicographic(backend, catalogue):
    codes, _, build = catalogue
    trie = build()
    ordered = np.array(sorted(map(tuple, codes.tolist())))
    assert (trie.rank(ordered) == np.arange(len(codes))).all()
    assert (trie.codes_of(np.arange(len(codes))) == ordered).all()
    assert trie.codes_of(0).tolist() == ordered[0].tolist()
    assert trie.rank(tuple(ordered[-1])) == len(codes) - 1
    assert list(trie) == [tuple(row) for row in ordered.tolist()] and len(trie) == len(codes)
    assert tuple(ordered[0]) in trie and [-1] * codes.shape[1] not in trie


def test_allowed_lists_the_children_of_each_row(backend):
    trie = semid.Trie.from_codes(CODES)
    row_starts, codes = trie.allowed(trie.walk([[0, 3], [0, 0], [0, 2], [1, 2]]), depth=2)
    assert row_starts.tolist() == [0, 1, 1, 2, 4]
    assert codes.tolist() == [0, 1, 0, 5]


@pytest.mark.parametrize(
    ("sizes", "n_items"),
    [((256,) * 4, 5_000), ((65_536, 3), 5_000), ((2,) * 8, 256), ((70_000, 70_000, 5), 800), ((2048,) * 8, 900)],
)
def test_all_shapes(backend, rng, sizes, n_items):
    """Keys of 32 and 64 bits, keys that do not fit, every code dtype, and a full tree."""
    codes = np.stack([rng.integers(0, size, 2 * n_items) for size in sizes], axis=1)
    codes = rng.permutation(np.unique(codes, axis=0))
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    ranks = trie.rank(codes)
    assert sorted(ranks.tolist()) == list(range(len(codes)))
    assert (trie.codes_of(ranks) == codes).all()
    assert trie.codes_of(ranks).dtype == np.min_scalar_type(max(sizes) - 1)
    assert (np.diff(np.array(list(trie))[:, 0].astype(int)) >= 0).all()


def test_one_item(backend):
    trie = semid.Trie.from_codes([[7]])
    assert (trie.n_items, trie.rank([7]), trie.children(()).tolist(), trie.children((7,)).tolist()) == (1, 0, [7], [])
    assert trie.children((3,)).tolist() == []
    assert trie.prefix_range((3,)) == range(0) and trie.prefix_range(()) == range(1)


def test_bad_questions():
    trie = semid.Trie.from_codes(CODES)
    cases = [
        (lambda: trie.walk([[0, 2, 1, 0]]), r"expected \(\.\.\., at most 3\), got \(1, 4\)"),
        (lambda: trie.children([0, 2, 1, 0]), r"expected \(\.\.\., at most 3\), got \(1, 4\)"),
        (lambda: trie.rank([0, 2]), r"expected 3 levels, got shape \(2,\)"),
        (lambda: trie.codes_of([4]), r"expected 0 \.\. 3, got 4"),
        (lambda: trie.allowed([9], depth=1), r"expected -1 \.\. 3 at depth 1 in one row, got 9 \.\. 9"),
        (lambda: trie.allowed([0], depth=3), r"expected 0 \.\. 2, got 3\. Leaves have no children"),
        (lambda: trie.node_ranges([0], depth=4), r"expected 0 \.\. 2, got 4"),
    ]
    for call, message in cases:
        with pytest.raises(InvalidValueError, match=message):
            call()
    with pytest.raises(
        InvalidValueError, match=r"prefix has a wrong shape: expected a sequence of codes, got 0\. Write \(0,"
    ):
        trie.children(0)
    for call in (trie.walk, trie.rank, trie.children, trie.codes_of, trie.restrict, semid.Trie.from_codes):
        with pytest.raises(
            InvalidValueError, match=r"is ragged: expected rows of one length, got list .*\. Pad (or|them)"
        ):
            call([[0, 1], [2]])
    with pytest.raises(InvalidTypeError, match=r"depth has a wrong type: expected an integer, got 3\.0"):
        trie.node_ranges([0], depth=3.0)
    with pytest.raises(InvalidValueError, match=r"added has a wrong shape: expected \(n_items, n_levels\), got \(\)"):
        trie.update(added=3)
    for call in (trie.allowed, trie.node_ranges):
        with pytest.raises(InvalidTypeError, match="nodes has a wrong dtype: expected integers, got float64"):
            call([0.7], depth=1)
    with pytest.raises(InvalidTypeError, match="expected integers, got float64"):
        trie.walk([[0.0]])
    with pytest.raises(InvalidTypeError, match="expected integers, got float64"):
        trie.codes_of([0.5])


@pytest.mark.parametrize("backend", ["ext", "numba"])
def test_the_room_for_children_does_not_grow_with_the_codebook(backend, monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", backend)
    trie = semid.Trie.from_codes([[0, 1], [5, 2], [5, 2**32 - 1]], codebook_sizes=[2**32, 2**32])
    trie.children(())  # Numba compiles, which takes memory
    tracemalloc.start()
    try:
        assert trie.children(()).tolist() == [0, 5] and trie.children((5,)).tolist() == [2, 2**32 - 1]
        assert trie.allowed([0, 1], depth=1)[1].tolist() == [1, 2, 2**32 - 1]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
