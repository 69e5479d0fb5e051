"""Files: what comes back, what is touched, and what is refused.

A file that was changed is refused, or is a trie nevertheless: never arrays that a kernel could leave.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SHARED_FIXTURE, tries

import semid
from semid.errors import FormatError, InvalidValueError
from semid.io.persistence import read_tensors, write_tensors
from semid.trie.levels import Levels
from semid.trie.storage import check_contents, check_shapes, checksum

CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("restricted", [False, True])
def test_save_and_load_keep_everything(tmp_path, backend, rng, mmap, restricted):
    codes = np.unique(rng.integers(0, 6, (400, 4)), axis=0)
    trie = semid.Trie.from_codes(codes, codebook_sizes=(6, 6, 7, 300))
    if restricted:
        trie = trie.restrict(rng.random(len(codes)) < 0.5)
    trie.save(tmp_path / "trie.safetensors")
    other = semid.Trie.load(tmp_path / "trie.safetensors", mmap=mmap)
    assert other == trie and repr(other) == repr(trie) and other.n_ranks == trie.n_ranks
    assert (other.rank(codes) == trie.rank(codes)).all()
    assert other.nbytes == trie.nbytes
    assert isinstance(other._levels.child_codes.base, np.memmap) == mmap


def test_a_mapped_trie_opens_without_reading_its_arrays(tmp_path):
    """The file has a hole where the arrays of 50 million items are: reading them would take 200 MB."""
    n_items = 50_000_000
    path = tmp_path / "trie.safetensors"
    header = (
        '{"__metadata__": {"class": "Trie", "format_version": "2"}, '
        '"codebook_sizes": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}, '
        '"node_offsets": {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]}, '
        '"code_offsets": {"dtype": "I64", "shape": [3], "data_offsets": [32, 56]}, '
        '"firsts": {"dtype": "I32", "shape": [2], "data_offsets": [56, 64]}, '
        '"starts": {"dtype": "I32", "shape": [0], "data_offsets": [64, 64]}, '
        f'"forks": {{"dtype": "U64", "shape": [{n_items // 64}], "data_offsets": [64, {64 + n_items // 8}]}}, '
        f'"child_codes": {{"dtype": "U16", "shape": [{2 * n_items}], '
        f'"data_offsets": [{64 + n_items // 8}, {64 + n_items // 8 + 4 * n_items}]}}}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    small = np.array([65_536, 65_536, 0, 2, 0, n_items, 2 * n_items], np.int64).tobytes()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + small + np.array([0, n_items], np.int32).tobytes())
        file.truncate(8 + len(header) + 64 + n_items // 8 + 4 * n_items)
    before = resident_bytes()
    trie = semid.Trie.load(path, mmap=True)
    assert trie.n_items == n_items and resident_bytes() - before < 4 << 20


def resident_bytes():
    """Return the memory of this process that is in RAM, mapped files included."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096
    except OSError:
        pytest.skip("this system has no /proc/self/statm")


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "trie.safetensors"
    trie = semid.Trie.from_codes(CODES)
    with pytest.raises(FormatError, match="cannot be read: expected a file, got No such file"):
        semid.Trie.load(path)
    trie.save(path)
    whole = path.read_bytes()
    for mmap in (False, True):
        path.write_bytes(whole[:-3])
        with pytest.raises(FormatError, match=r"is damaged: expected a complete file, got \d+ bytes where"):
            semid.Trie.load(path, mmap=mmap)
    path.write_bytes(b"not a trie at all")
    with pytest.raises(FormatError, match="is damaged: expected a complete file"):
        semid.Trie.load(path)
    write_tensors(path, {"a": np.zeros(3)}, metadata={"class": "Other"})
    with pytest.raises(FormatError, match="expected class Trie, format 2, got Other"):
        semid.Trie.load(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("starts", lambda a: np.zeros(1, a.dtype), r"expected starts of 0 int32 or int64, got \(1,\) int32"),
        ("firsts", lambda a: a.astype(np.int64), r"expected firsts of 2 int32, got \(2,\) int64"),
        ("child_codes", lambda a: a[:-1], r"expected child_codes of 12 uint8, got \(11,\) uint8"),
        ("forks", lambda a: a[:1], r"expected forks of 2 uint64, got \(1,\) uint64"),
        ("code_offsets", lambda a: a[::-1], "expected rising offsets, got others"),
        ("codebook_sizes", lambda a: a[:2], "expected 2 levels, got 3, of which 0 explicit"),
        ("alive", lambda a: np.zeros(9, np.uint64), r"expected alive of 1 uint64, got \(9,\) uint64"),
        ("firsts", None, "expected an array 'firsts', got none"),
    ],
)
@pytest.mark.parametrize("mmap", [False, True])
def test_arrays_that_do_not_fit_together(tmp_path, name, change, message, mmap):
    path = tmp_path / "trie.safetensors"
    semid.Trie.from_codes(CODES).save(path)
    arrays, head = read_tensors(path)
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays.get(name, np.zeros(1, np.int32)))
    write_tensors(path, arrays, metadata=head)
    with pytest.raises(FormatError, match=message):
        semid.Trie.load(path, mmap=mmap)


def with_header(path, change):
    """Write a file again with another header."""
    whole = path.read_bytes()
    n_header = int.from_bytes(whole[:8], "little")
    header = change(json.loads(whole[8 : 8 + n_header]))
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + n_header :])


def deep(entry, *path, to):
    """Return a header with one entry replaced."""
    for name in path[:-1]:
        entry = entry[name]
    entry[path[-1]] = to


HEADERS = {
    "deep": (lambda head: b'{"a":' + b"[" * 200_000, "an unreadable header"),
    "shape": (("starts", "shape", [2**70]), "an array 'starts' that [0-9]+ bytes cannot hold"),
    "negative": (("firsts", "shape", [-1, -2]), "an array 'firsts' that [0-9]+ bytes cannot hold"),
    "fraction": (("firsts", "shape", [2.0]), r"an unreadable header \(TypeError"),
    "offsets": (("firsts", "data_offsets", [-8, 0]), "bytes where 'firsts' ends at"),
    "metadata": (("__metadata__", ["Trie"]), "metadata that are not texts"),
    "null": (("__metadata__", "generation", None), "metadata that are not texts"),
    "word": (("__metadata__", "generation", "abc"), "expected a number as generation, got 'abc'"),
    "long": (("__metadata__", "generation", "9" * 5000), "expected a number as generation, got '999"),
    "2-d": (("codebook_sizes", "shape", [3, 1]), r"expected a row of codebook sizes, got int64 of shape \(3, 1\)"),
    "list": (lambda head: [head], "an unreadable header"),
    "axes": (("starts", "shape", [1] * 100_000), "an array 'starts' that [0-9]+ bytes cannot hold"),
    "huge": (("starts", "shape", [2**62] * 60), "an array 'starts' that [0-9]+ bytes cannot hold"),
    "overlap": (lambda head: head | {f"again{n}": head["firsts"] for n in range(50)}, "bytes where .* ends at"),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_headers_made_by_hand(tmp_path, name, mmap):
    path = tmp_path / "trie.safetensors"
    semid.Trie.from_codes(CODES).save(path)
    change, message = HEADERS[name]

    def changed(head):
        if callable(change):
            return change(head)
        deep(head, *change[:-1], to=change[-1])
        return head

    with_header(path, changed)
    with pytest.raises(FormatError, match=message):
        semid.Trie.load(path, mmap=mmap)


def test_arrays_out_of_line_are_read_instead_of_mapped(tmp_path, backend):
    path = tmp_path / "trie.safetensors"
    trie = semid.Trie.from_codes(CODES)
    trie.save(path)
    for length in range(2000, 2008):
        with_header(path, lambda head, length=length: json.dumps(head).encode().ljust(length))
        other = semid.Trie.load(path, mmap=True)
        assert all(array.flags.aligned for array in other._levels) and other == trie


def test_a_folder_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InvalidValueError, match=r"mine cannot be written: expected a file, got a folder\."):
        semid.Trie.from_codes(CODES).save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


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


@pytest.mark.parametrize("name", ["fingerprint", "generation"])
@pytest.mark.parametrize("text", ["3", None])
def test_another_mark_is_found_by_the_checksum(tmp_path, name, text):
    path = tmp_path / "trie.safetensors"
    semid.Trie.from_codes(CODES, fingerprint="ab12", generation=2).save(path)
    arrays, head = read_tensors(path)
    whole = semid.Trie.load(path)
    assert (whole.fingerprint, whole.generation) == ("ab12", 2)
    head = {key: value for key, value in (head | {name: text}).items() if value is not None}
    write_tensors(path, arrays, metadata=head)
    with pytest.raises(FormatError, match=r"damaged: expected checksum [0-9a-f]{8}, got [0-9a-f]{8}\. Save"):
        semid.Trie.load(path)


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
