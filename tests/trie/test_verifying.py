"""A file that was changed is refused, or is a trie nevertheless: never arrays that a kernel could leave."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SHARED_FIXTURE, tries

import semid
from semid.errors import FormatError
from semid.io.persistence import read_tensors, write_tensors
from semid.trie.levels import Levels
from semid.trie.storage import check_contents, check_shapes, checksum

CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


def parts_of(trie):
    """Return copies of the arrays that a file holds."""
    return {name: np.array(array) for name, array in (trie._levels._asdict() | {"alive": trie._alive.alive}).items()}


def verify(parts, sizes):
    """Run what `Trie.load` runs, the checksum aside."""
    alive = parts["alive"]
    levels = Levels(**{name: array for name, array in parts.items() if name != "alive"})
    check_shapes("file", levels, sizes, alive)
    check_contents("file", levels, sizes, alive)


@SHARED_FIXTURE
@given(catalogue=tries(), share=st.sampled_from([None, 0.0, 0.4]))
def test_every_trie_passes(backend, catalogue, share):
    codes, sizes, build = catalogue
    trie = build()
    if share is not None:
        trie = trie.restrict(np.random.default_rng(0).random(len(codes)) < share)
    verify(parts_of(trie), sizes)


@settings(max_examples=300)
@given(data=st.data(), catalogue=tries(max_items=90), restricted=st.booleans())
def test_a_changed_value_is_found_or_makes_another_trie(data, catalogue, restricted):
    """Whatever passes is what building a trie of its IDs gives: so nothing points out of place."""
    codes, sizes, build = catalogue
    trie = build()
    if restricted:
        trie = trie.restrict(np.arange(len(codes)) % 3 > 0)
    parts = parts_of(trie)
    name = data.draw(st.sampled_from([name for name, array in parts.items() if array.size]))
    array = parts[name].view(np.uint8)
    before = array.copy()
    for _ in range(data.draw(st.integers(1, 2))):
        array[data.draw(st.integers(0, len(array) - 1))] = data.draw(st.integers(0, 255))
    try:
        verify(parts, sizes)
    except FormatError:
        assert not np.array_equal(array, before)
        return
    levels = Levels(**{name: array for name, array in parts.items() if name != "alive"})
    other = semid.Trie(levels, sizes)
    again = semid.Trie.from_codes(list(other), codebook_sizes=sizes)
    assert len(again) == len(codes) and (again.rank(list(other)) == np.arange(len(codes))).all()
    for depth in range(len(sizes)):
        nodes = other.walk(np.array(list(other)).reshape(len(codes), -1)[:, :depth])
        expected = again.allowed(again.walk(np.array(list(other)).reshape(len(codes), -1)[:, :depth]), depth=depth)
        for one, two in zip(other.allowed(nodes, depth=depth), expected, strict=True):
            assert one.tolist() == two.tolist()


def explicit_trie():
    """Return a trie with explicit and with flat levels."""
    codes = np.stack(np.meshgrid(np.arange(3), np.arange(4), np.arange(10), np.arange(2), indexing="ij"), -1)
    trie = semid.Trie.from_codes(codes.reshape(-1, 4))
    assert 0 < trie._levels.n_explicit < 3
    return trie


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("starts", 1, 0, r"expected starts of depth 0 that rise from 0 to 3, got \[0 0\] \.\. 0"),
        ("starts", 2, 1, r"expected starts of depth 1 that rise from 0 to 12, got \[1 4 8\]"),
        ("firsts", 1, 10**6, r"expected firsts of depth 0 that rise from 0 to 240"),
        ("firsts", 3, 79, r"expected the items of each node of depth 0 below its children|of depth 1"),
        ("child_codes", 0, 200, r"expected codes below 3 at level 0, got 200"),
        ("child_codes", 1, 0, r"expected rising codes at level 0, got 0, 0 at place 0"),
        ("child_codes", -1, 0, r"expected distinct IDs, got rank 239 like the one before"),
        ("forks", 0, 1, r"expected forks of level 2 where its codes change, got others"),
        ("alive", -1, 2**63, r"expected 240 bits of what is alive, got more"),
        ("node_offsets", 1, 3, r"expected an edge for each node, and a code for each item, got"),
        ("code_offsets", -1, 500, r"expected an edge for each node, and a code for each item, got"),
    ],
)
def test_what_is_wrong_is_named(name, at, value, message):
    trie = explicit_trie()
    parts = parts_of(trie.restrict(np.ones(trie.n_ranks, bool)))
    parts[name][at] = value
    with pytest.raises(FormatError, match=message):
        verify(parts, trie.codebook_sizes)


@pytest.mark.parametrize("sizes", [(0, 4, 6), (2, 4, 2**40)])
def test_impossible_sizes(sizes):
    with pytest.raises(FormatError, match=r"expected codebook sizes in 1 \.\. 4294967296, got"):
        verify(parts_of(semid.Trie.from_codes(CODES)), sizes)


@pytest.mark.parametrize("options", [{}, dict(mmap=True, verify=True)])
def test_a_code_that_makes_another_trie_is_found_by_the_checksum(tmp_path, options):
    path = tmp_path / "trie.safetensors"
    semid.Trie.from_codes(CODES, codebook_sizes=(2, 4, 9)).save(path)
    arrays, head = read_tensors(path)
    arrays["child_codes"][-1] = 7  # 5 before: rows still rise
    write_tensors(path, arrays, metadata=head)
    with pytest.raises(FormatError, match=r"damaged: expected checksum [0-9a-f]{8}, got [0-9a-f]{8}\. Save"):
        semid.Trie.load(path, **options)
    assert semid.Trie.load(path, verify=False).rank([1, 2, 7]) == 3
    assert semid.Trie.load(path, mmap=True).rank([1, 2, 7]) == 3
    del head["crc32"]  # as files of earlier versions are
    write_tensors(path, arrays, metadata=head)
    assert semid.Trie.load(path).rank([1, 2, 7]) == 3


def test_the_checksum_is_that_of_names_types_shapes_and_values():
    base = dict(a=np.arange(6, dtype=np.int32), b=np.empty(0, np.uint64))
    others = [
        dict(c=base["a"], b=base["b"]),
        dict(a=base["a"].astype(np.uint32), b=base["b"]),
        dict(a=base["a"].reshape(2, 3), b=base["b"]),
        dict(a=base["a"][::-1], b=base["b"]),
        dict(a=base["a"], b=np.empty(0, np.int64)),
    ]
    assert checksum(base) == checksum(dict(reversed(base.items())))
    assert len({checksum(base), *map(checksum, others)}) == 6
