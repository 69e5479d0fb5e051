"""Building: every order and dtype, repeated rows, every layout of keys, few bytes."""

import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SHARED_FIXTURE, catalogues

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import build, pad_sequences


def test_equal_rows_become_one_item_and_say_so(backend):
    codes = np.array([[0, 2], [0, 3], [1, 2], [0, 2]])
    with pytest.warns(semid.trie.DuplicateCodesWarning, match=r"1 of 4 rows repeat another row: the trie has 3 items"):
        trie = semid.Trie.from_codes(codes)
    assert list(trie) == [(0, 2), (0, 3), (1, 2)]


@SHARED_FIXTURE
@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 1)] * 3, *[st.integers(0, 2**31)] * 3), min_size=1, max_size=30),
    repeats=st.integers(1, 3),
)
def test_rows_longer_than_a_key_are_sorted_and_distinct(backend, rows, repeats):
    """Of 96 bits: rows are equal in their key and differ behind it, or do not."""
    trie = semid.Trie.from_codes(np.array(rows * repeats))
    assert list(trie) == sorted(set(rows))


# Bits of all levels: 12, 24, 39, 64, 88 and 256. Codes crowd at 0, so that buckets hold one row or thousands.
SIZES = [(3, 2, 300), (256, 256, 256), (60_000, 7, 9, 8192), (2**16,) * 4, (2048,) * 8, (2**32,) * 8]


@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("skew", [1, 4, 40])
def test_a_large_catalogue_is_sorted_and_distinct(backend, rng, sizes, skew):
    codes = np.stack([(size * rng.random(20_000) ** skew).astype(np.int64) for size in sizes], axis=1)
    trie = semid.Trie.from_codes(np.concatenate([codes, codes[:500]]), codebook_sizes=sizes)
    assert (trie.codes_of(np.arange(trie.n_items)) == np.unique(codes, axis=0)).all()


@pytest.mark.parametrize("n_rows", [1, 2, 31, 32, 33, 70_000, 2**21, 2**32 - 1])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_key_has_room_for_what_its_bucket_does_not_say(sizes, n_rows):
    bits = np.array([(size - 1).bit_length() for size in sizes])
    n_key, n_low, n_position, dtype = build._layout(bits, n_rows)
    n_bits = int(bits[:n_key].sum())
    assert n_key == len(sizes) or 2**n_position >= n_rows
    assert n_low <= n_bits <= 64 and n_low + n_position <= 8 * np.dtype(dtype).itemsize
    assert 2 ** (n_bits - n_low) <= max(1, min(n_rows, 2**16))


def test_too_many_rows_tell_the_remedy():
    codes = np.broadcast_to(np.zeros((1, 1), np.uint8), (2**32, 1))
    with pytest.raises(InvalidValueError, match=r"at most 4294967295, got 4294967296\. Build a trie of each part"):
        build.sort_keys(codes, (2,))


@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@pytest.mark.parametrize("sizes", [(256,) * 4, (8192,) * 3, (2048,) * 8], ids=str)
def test_building_takes_no_more_than_twice_the_trie(backend, rng, sizes):
    codes = np.stack([rng.integers(0, size, 300_000, np.uint16) for size in sizes], axis=1)
    semid.Trie.from_codes(codes, codebook_sizes=sizes)  # a compiler's memory is not ours
    tracemalloc.start()
    try:
        trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * trie.nbytes


def test_any_order_of_axes_and_any_integer(rng):
    codes = rng.integers(0, 100, (500, 3))
    codes = np.unique(codes, axis=0)
    trie = semid.Trie.from_codes(codes)
    for other in (np.asfortranarray(codes), codes.astype(np.int8), codes[::-1].astype(np.uint32), codes.tolist()):
        assert semid.Trie.from_codes(other) == trie


@pytest.mark.parametrize("items_per_edge", [1, 8])
def test_single_tails_cost_their_codes_and_a_bit_per_level(monkeypatch, rng, items_per_edge):
    monkeypatch.setattr(build, "ITEMS_PER_EDGE", items_per_edge)
    codes = np.concatenate([np.arange(64)[:, None], rng.integers(0, 256, (64, 7))], axis=1)
    levels = semid.Trie.from_codes(codes)._levels
    flat = 8 - levels.n_explicit
    assert levels.child_codes.nbytes == 64 * 8 and levels.forks.nbytes == (flat - 1) * 8


@pytest.mark.parametrize("sizes", [(256,) * 4, (8192,) * 3, (2048,) * 8])
def test_a_trie_is_smaller_than_its_codes_and_pointers(rng, sizes):
    """A uint16 code per level and item, and a quarter of a byte; a catalogue of 20,000 is the worst case."""
    codes = np.unique(np.stack([rng.integers(0, size, 20_000) for size in sizes], axis=1), axis=0)
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    assert (
        trie.nbytes <= len(codes) * (len(sizes) * np.min_scalar_type(sizes[0] - 1).itemsize + len(sizes) / 8) + 20_000
    )


def test_one_codebook_size_holds_for_all_levels(backend):
    codes = np.array([[0, 1, 3], [2, 0, 0]])
    for size in (4, np.int32(4)):
        assert semid.Trie.from_codes(codes, codebook_sizes=size).codebook_sizes == (4, 4, 4)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (
            [4.9, 4.2],
            InvalidTypeError,
            r"codebook_sizes\[0\] is not an integer: expected 1 or more, got 4\.9\. Pass a whole number",
        ),
        (4.5, InvalidTypeError, r"codebook_sizes has a wrong type: .*, got 4\.5"),
        ("ab", InvalidTypeError, "got 'ab'"),
        ([2**40, 2], InvalidValueError, r"expected at most 4294967296, got 1099511627776\. Codes have 32 bits"),
        ([4], InvalidValueError, r"expected one size for each of 2 levels, got 1\. Give one size per level"),
        (1, InvalidValueError, "expected codes below 1 at level 1, got 1"),
        ([0, 2], InvalidValueError, r"codebook_sizes\[0\] is too small: expected 1 or more, got 0"),
    ],
)
def test_bad_codebook_sizes(backend, sizes, error, message):
    with pytest.raises(error, match=message):
        semid.Trie.from_codes([[0, 1]], codebook_sizes=sizes)


END = 9


@SHARED_FIXTURE
@given(
    sequences=st.lists(st.lists(st.integers(0, 8), max_size=5).map(tuple), min_size=1, max_size=30, unique=True),
)
def test_every_sequence_is_found_and_may_begin_another(backend, sequences):
    trie = semid.Trie.from_sequences(sequences, end=END)
    rows = pad_sequences(sequences, end=END, n_levels=trie.n_levels)
    assert sorted(trie.rank(rows).tolist()) == list(range(len(sequences)))
    for prefix in {sequence[:length] for sequence in sequences for length in range(len(sequence) + 1)}:
        following = {s[len(prefix)] for s in sequences if s[: len(prefix)] == prefix and len(s) > len(prefix)}
        following |= {END} if prefix in sequences else set()
        assert set(trie.children(prefix).tolist()) == following
    for sequence in sequences:
        if len(sequence) + 1 < trie.n_levels:
            assert trie.children((*sequence, END)).tolist() == [END]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: semid.Trie.from_sequences([], end=1), "sequences is empty: expected at least 1, got 0"),
        (lambda: semid.Trie.from_sequences([[2], [3, 1, 2]], end=1), r"got 1 in sequence 1\. Leave it out"),
        (lambda: pad_sequences([[2, 3]], end=1, n_levels=2), "expected at most 1 tokens and the end, got 2"),
    ],
)
def test_bad_sequences(call, message):
    with pytest.raises(InvalidValueError, match=message):
        call()


def test_negative_tokens_are_refused():
    with pytest.raises(InvalidValueError, match=r"expected 0 \.\. 4294967295, got -2 at row 0, level 0"):
        semid.Trie.from_sequences(np.array([[-2]]), end=1)


@pytest.mark.parametrize(
    ("sequences", "end", "message"),
    [
        ([[2.7]], 1, r"expected sequences of integers and an integer as end, got 'float' object .*\. Pass token ids"),
        ([[2]], 1.5, "got 'float' object"),
        (np.array([[2.0]]), 1, "got 'numpy.float64' object"),
        (["ab"], 1, "got 'str' object"),
        ([2], 1, r"got object of type 'int' has no len\(\)"),
    ],
)
def test_nothing_is_cut_off(sequences, end, message):
    with pytest.raises(InvalidTypeError, match=message):
        semid.Trie.from_sequences(sequences, end=end)


def test_rows_of_any_integers_and_a_generator(backend):
    sequences = [np.array([2, 300], np.uint16), (4,), [np.uint64(5), 7]]
    trie = semid.Trie.from_sequences((sequence for sequence in sequences), end=np.uint8(1))
    assert list(trie) == [(2, 300, 1), (4, 1, 1), (5, 7, 1)]


CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


@given(one=catalogues(), share=st.floats(0, 1))
def test_merge_is_the_union(one, share):
    codes, sizes = one
    cut = max(1, int(share * len(codes)))
    larger = tuple(size + 1 for size in sizes)
    parts = (
        semid.Trie.from_codes(codes[:cut], codebook_sizes=sizes),
        semid.Trie.from_codes(codes, codebook_sizes=larger),
    )
    merged = parts[0].merge(parts[1])
    assert merged == semid.Trie.from_codes(codes, codebook_sizes=larger)
    assert parts[0] == semid.Trie.from_codes(codes[:cut], codebook_sizes=sizes)


def test_what_does_not_merge():
    trie = semid.Trie.from_codes(CODES)
    with pytest.raises(InvalidValueError, match="expected a Trie of 3 levels, got 2 levels"):
        trie.merge(semid.Trie.from_codes(CODES[:, 1:]))
    with pytest.raises(InvalidValueError, match="expected a Trie of 3 levels, got list"):
        trie.merge([])
    with pytest.raises(InvalidValueError, match="nothing to merge: expected at least 1 item, got 0"):
        trie.restrict([]).merge(trie.restrict([]))


@given(data=st.data(), catalogue=catalogues(), restricted=st.booleans())
def test_update_is_a_new_build(data, catalogue, restricted):
    codes, sizes = catalogue
    part = st.lists(st.booleans(), min_size=len(codes), max_size=len(codes)).map(np.array)
    before, after = data.draw(part), data.draw(part)
    before[0] = after[-1] = True
    old = semid.Trie.from_codes(codes[before], codebook_sizes=sizes)
    ranks = old.rank(codes[before])
    if restricted:  # by a property of the item: it is kept while the item is
        old = old.restrict(ranks[np.flatnonzero(before) % 2 == 0])
    reached = list(old)
    # Some of the items that stay are removed and added again, as one that came back is.
    again = before & after & data.draw(part)
    new = old.update(added=codes[after & ~before | again], removed=codes[before & ~after | again])
    fresh = semid.Trie.from_codes(codes[after], codebook_sizes=sizes)
    assert new.n_ranks == fresh.n_ranks and (new.codes_of(np.arange(len(fresh))) == list(fresh)).all()
    lives = (np.arange(len(codes)) % 2 == 0) | ~before | again if restricted else np.ones(len(codes), bool)
    assert new.ranks().tolist() == sorted(fresh.rank(codes[after & lives]).tolist())
    if not restricted:
        assert new == fresh and all((a == b).all() for a, b in zip(new._levels, fresh._levels, strict=True))
    assert list(old) == reached


def test_update_of_a_catalogue_is_its_trie():
    sids = semid.SemanticIds(["ring", "bell", "book"], [[1, 2], [0, 3], [0, 2]], codebook_sizes=[2, 4])
    trie, gone = sids.trie(), sids.codes_of(["bell"])
    sids.remove(["bell"])
    added = sids.add(["cup", "jar"], [[1, 0], [0, 0]])
    mark = dict(fingerprint=sids.trie_fingerprint(), generation=sids.generation)
    new = trie.update(added=added, removed=gone, **mark)
    assert new == sids.trie() and (new.fingerprint, new.generation) == (sids.trie().fingerprint, 2)
    sids.check_pair(trie=new)
    unmarked = trie.update(added=added, removed=gone)
    assert (unmarked.fingerprint, unmarked.generation) == (None, None)
    assert trie.generation == 0 and trie.rank([0, 3]) == 1


def test_threads_search_the_old_trie_during_updates(rng):
    codes = rng.permutation(np.unique(rng.integers(0, 40, (6_000, 3)), axis=0))
    half = len(codes) // 2
    old = semid.Trie.from_codes(codes[:half])
    expected, wrong, done = old.rank(codes), [], threading.Event()

    def search():
        while not done.is_set():
            if not (old.rank(codes) == expected).all():
                wrong.append(True)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    new = [old.update(added=codes[half:], removed=codes[:100]) for _ in range(5)]
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong and all(trie == semid.Trie.from_codes(codes[100:]) for trie in new)


def test_nothing_to_change():
    trie = semid.Trie.from_codes(CODES)
    assert trie.update() == trie == trie.update(added=[], removed=np.empty((0, 3), int))


def test_updates_that_cannot_be():
    trie = semid.Trie.from_codes(CODES)
    cases = [
        (
            dict(removed=[[0, 2, 1], [0, 0, 0]]),
            r"remove are unknown: expected IDs of the trie, got \[0, 0, 0\] and 0",
        ),
        (
            dict(added=[[0, 2, 1]]),
            r"add are taken: expected new IDs, got \[0, 2, 1\] and 0 others\. Remove",
        ),
        (dict(removed=CODES), r"no item would be left: expected fewer than 4 IDs to remove, got all"),
        (dict(added=[[0, 2]]), r"added has a wrong shape: expected \(n, 3\), got \(1, 2\)"),
        (dict(removed=[[0, 2]]), r"removed has a wrong shape: expected \(n, 3\), got \(1, 2\)"),
        (dict(added=[[0, 9, 1]]), r"expected codes below 4 at level 1, got 9"),
        (dict(added=[[0, -1, 1]]), r"added has a code out of range: expected 0 \.\. 4294967295, got -1 at row 0"),
    ]
    for change, message in cases:
        with pytest.raises(InvalidValueError, match=message):
            trie.update(**change)
    with pytest.raises(InvalidTypeError, match="added has a wrong dtype: expected integers, got float64"):
        trie.update(added=[[0.0, 1.0, 1.0]])
    with pytest.warns(semid.trie.DuplicateCodesWarning, match="1 of 6 rows repeat another row"):
        assert len(trie.update(added=[[1, 1, 1], [1, 1, 1]])) == 5
