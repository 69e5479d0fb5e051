"""Merged and updated tries are those that a new build of all IDs gives, and the old ones do not change."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import catalogues

import semid
from semid.errors import InvalidTypeError, InvalidValueError

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
