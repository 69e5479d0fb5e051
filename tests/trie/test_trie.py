"""The trie as an object: equal, immutable, copied, shared, marked, and what it is not built of."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from strategies import catalogues

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
