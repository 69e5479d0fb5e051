import copy
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import catalog_oracle

import semid
from semid.errors import InvalidTypeError, InvalidValueError

RING_BELL_BOOK = (["ring", "bell", "book"], [[1, 2], [0, 3], [0, 2]])


@st.composite
def catalogues(draw):
    n_levels = draw(st.integers(1, 3))
    rows = draw(st.lists(st.tuples(*[st.integers(0, 6)] * n_levels), min_size=1, max_size=30, unique=True))
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    of_kind = draw(st.sampled_from([st.integers(-(2**63), 2**63 - 1), texts]))
    ids = draw(st.lists(of_kind, min_size=len(rows), max_size=len(rows), unique=True))
    return ids, rows


@given(catalogues(), st.randoms(use_true_random=False))
def test_lookups_agree_with_the_oracle(catalogue, random):
    ids, rows = catalogue
    sids = semid.SemanticIds(ids, rows)
    oracle = catalog_oracle(ids, rows)
    assert len(sids) == len(ids) and list(sids) == ids
    asked = random.choices(ids, k=7)
    assert all(item_id in sids for item_id in asked)
    np.testing.assert_array_equal(sids.codes_of(asked), [oracle.codes[item_id] for item_id in asked])
    np.testing.assert_array_equal(sids.ranks_of(asked), [oracle.ranks[item_id] for item_id in asked])
    assert sids.items_of([oracle.codes[item_id] for item_id in asked]) == asked
    assert sids.items_at([oracle.ranks[item_id] for item_id in asked]) == asked
    assert sids.trie().n_items == len(ids)


def test_single_ids_and_rows(sids):
    assert sids.codes_of("ring").tolist() == [1, 2]
    assert sids.ranks_of("ring") == 2
    assert sids.items_of([1, 2]) == "ring"
    assert sids.items_of([1, 3]) is None
    assert sids.items_at(0) == "book"
    numbers = semid.SemanticIds([7, -3], [[0], [1]])
    assert numbers.codes_of(-3).tolist() == [1] and numbers.ranks_of(np.int32(7)) == 0


def test_an_id_in_an_array_without_dimensions(sids):
    numbers = semid.SemanticIds([7, -3], [[0], [1]])
    for item_id in (np.array(-3), torch.tensor(-3)):
        assert numbers.codes_of(item_id).tolist() == [1] and numbers.ranks_of(item_id) == 1 and item_id in numbers
    assert sids.codes_of(np.array("ring")).tolist() == [1, 2] and np.array("ring") in sids
    assert np.array("cup") not in sids and np.array(7) not in sids


def test_shapes_of_generated_output(sids):
    assert sids.items_at([[2, 0], [1, -1]]) == [["ring", "book"], ["bell", None]]
    assert sids.items_of([[[1, 2], [-1, -1]], [[0, 3], [0, 0]]]) == [["ring", None], ["bell", None]]
    assert sids.items_at([]) == sids.items_of([]) == sids.items_of(np.empty((0, 2), int)) == []
    assert sids.codes_of([]).shape == (0, 2)


def test_dtypes(sids):
    assert sids.codes_of(["ring"]).dtype == np.uint8
    assert semid.SemanticIds([1], [[300]]).codes_of([1]).dtype == np.uint16
    assert semid.SemanticIds([1], [[3]], codebook_sizes=[70000]).codes_of([1]).dtype == np.uint32
    assert sids.ranks_of(["ring"]).dtype == np.int64


@pytest.mark.parametrize("ids", [["ring", 5, "gone", None, "", "ring\0", "\ud800"], ["nothing"]])
def test_unknown_ids_can_be_ignored(sids, ids):
    known = [item_id == "ring" for item_id in ids]
    codes = sids.codes_of(ids, errors="ignore")
    assert codes.dtype == np.int64
    assert codes.tolist() == [[1, 2] if ok else [-1, -1] for ok in known]
    assert sids.ranks_of(ids, errors="ignore").tolist() == [2 if ok else -1 for ok in known]
    assert [item_id in sids for item_id in ids] == known


def test_unknown_ids_in_a_catalogue_of_numbers():
    sids = semid.SemanticIds([7, 8], [[0], [1]])
    assert sids.ranks_of([8, "8", 2**80, True, 9, None], errors="ignore").tolist() == [1, -1, -1, -1, -1, -1]
    assert 7 in sids and "7" not in sids and 2**80 not in sids


def test_unknown_ids_are_named(sids):
    message = (
        r"item ids are unknown: expected ids of the catalogue, got \['cup', 'jar'\]\. Add the items, or pass errors="
    )
    for lookup in (sids.codes_of, sids.ranks_of):
        with pytest.raises(InvalidValueError, match=message):
            lookup(["ring", "cup", "jar"])
        with pytest.raises(InvalidValueError, match="errors is unknown: expected 'raise' or 'ignore', got 'drop'"):
            lookup(["ring"], errors="drop")
    with pytest.raises(InvalidValueError, match=r"got \[0, 1, 2, 3, 4\] and 3 more"):
        semid.SemanticIds([8], [[0]]).codes_of(range(8))
    with pytest.raises(InvalidValueError, match=r"rank out of range: expected -1 \.\. 2, got 3\. Take ranks from"):
        sids.items_at([0, 3])


@pytest.mark.parametrize(
    ("ids", "codes", "error", "message"),
    [
        (["a", "b", "a"], [[0], [1], [2]], InvalidValueError, "item_ids repeat: expected each id once, got ['a'] more"),
        ([4, 5, 5], [[0], [1], [2]], InvalidValueError, "expected each id once, got [5] more than once. Drop"),
        (["a", 1], [[0], [1]], InvalidTypeError, "wrong types: expected all int or all str, got int, str. Convert"),
        ([1.5, 2], [[0], [1]], InvalidTypeError, "expected all int or all str, got float, int"),
        ([True, False], [[0], [1]], InvalidTypeError, "expected all int or all str, got bool"),
        ("ab", [[0], [1]], InvalidTypeError, "expected a sequence of ids, got the str 'ab'. Write ['ab']"),
        ([2**63], [[0]], InvalidValueError, f"too large: expected integers of 64 bits, got {2**63}. Pass such ids as"),
        ([-(2**70), 1], [[0], [1]], InvalidValueError, f"expected integers of 64 bits, got {-(2**70)}"),
        (["a\0b"], [[0]], InvalidValueError, "cannot be stored: expected UTF-8 text without NUL, got 'a\\x00b'"),
        (["\ud800"], [[0]], InvalidValueError, "cannot be stored: expected UTF-8 text without NUL, got '\\ud800'"),
        (["a", "b"], [[0]], InvalidValueError, "codes and item_ids have different lengths: expected 2 rows, got 1"),
        (["a", "b", "c"], [[0, 1], [2, 2], [0, 1]], InvalidValueError,
         "codes collide: expected unique rows, got [0, 1] for 'a' and 'c' (1 such pairs). Make them unique"),
        ([], np.empty((0, 2), int), InvalidValueError, "codes is empty: expected at least 1 item, got 0"),
        (np.empty(0, int), np.empty((0, 2), int), InvalidValueError, "codes is empty: expected at least 1 item, got 0"),
        (["a"], [0], InvalidValueError, "codes has a wrong shape: expected (n_items, n_levels), got (1,)"),
        (["a"], [[-1]], InvalidValueError, "codes has a code out of range: expected 0 .. 4294967295, got -1"),
        (["a"], {}, InvalidValueError, "views are wrong: expected names, got []. Name at least one view by a str"),
        (["a"], {1: [[0]]}, InvalidValueError, "views are wrong: expected names, got [1]"),
        (["a"], {"x": [[0]], "y": [[0], [1]]}, InvalidValueError, "codes of view 'y' and item_ids have different"),
        (["a", "b"], {"x": [[0], [0]]}, InvalidValueError, "codes of view 'x' collide: expected unique rows, got [0]"),
    ],
)  # fmt: skip
def test_wrong_catalogues(ids, codes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        semid.SemanticIds(ids, codes)


def test_wrong_codebook_sizes():
    with pytest.raises(InvalidValueError, match="expected codes below 2 at level 0, got 2"):
        semid.SemanticIds(["a"], [[2]], codebook_sizes=[2])
    with pytest.raises(
        InvalidValueError, match=r"codebook_sizes disagree with codes: expected views \['x'\], got \['y'\]"
    ):
        semid.SemanticIds(["a"], {"x": [[2]]}, codebook_sizes={"y": [3]})


def test_codebook_sizes_of_all_views_at_once():
    sids = semid.SemanticIds(["a"], {"x": [[2]], "y": [[0]]}, codebook_sizes=[3])
    assert sids.codebook_sizes == {"x": (3,), "y": (3,)}


def test_kinds_of_sequences():
    codes = [[0], [1]]
    for ids in (np.array(["a", "b"]), np.array(["a", "b"], object), ("a", "b"), {"a": 0, "b": 1}, iter(["a", "b"])):
        assert list(semid.SemanticIds(ids, codes)) == ["a", "b"]
    for ids in (np.array([3, 4], np.uint8), range(3, 5), [np.int64(3), 4], np.array([3, 4], object)):
        assert list(semid.SemanticIds(ids, codes)) == [3, 4]


@pytest.mark.parametrize(
    ("ranks", "error", "message"),
    [
        (
            [0.9, 1.2],
            InvalidTypeError,
            "ranks has a wrong dtype: expected integers, got float64. Pass ranks, not item ids.",
        ),
        ([np.nan], InvalidTypeError, "got float64"),
        (["0"], InvalidTypeError, "got <U1"),
        ([True, False], InvalidTypeError, "got bool"),
        (None, InvalidTypeError, "got object"),
        ([[0, 1], [2]], InvalidValueError, "ranks is ragged: expected rows of one length"),
        (np.array([2**64 - 1], np.uint64), InvalidValueError, f"rank out of range: expected -1 .. 2, got {2**64 - 1}."),
        ([2**63], InvalidValueError, f"expected -1 .. 2, got {2**63}."),
        (
            [-2],
            InvalidValueError,
            "expected -1 .. 2, got -2. Take ranks from Trie.rank or SemanticIds.ranks_of of the same items.",
        ),
    ],
)
def test_wrong_ranks(sids, ranks, error, message):
    with pytest.raises(error, match=re.escape(message)):
        sids.items_at(ranks)


def test_ids_that_are_no_sequence(sids):
    for ids in ({"ring", "bell", "book"}, frozenset(["ring"])):
        message = rf"item_ids have no order: expected a sequence of ids, one per row, got a {type(ids).__name__}\. Pass"
        for call in (sids.codes_of, sids.ranks_of, lambda ids: semid.SemanticIds(ids, [[0]] * len(ids))):
            with pytest.raises(InvalidTypeError, match=message):
                call(ids)
    for ids, got in ((3, r"the int 3\. Write \[3\]"), (None, "the NoneType None"), (b"ab", "the bytes b'ab'")):
        with pytest.raises(
            InvalidTypeError, match=f"item_ids have a wrong type: expected a sequence of ids, got {got}"
        ):
            semid.SemanticIds(ids, [[0], [1]])
    with pytest.raises(InvalidValueError, match=r"errors is unknown: expected 'raise' or 'ignore', got \[\]"):
        sids.codes_of(["ring"], errors=[])


def test_views(two_views):
    assert two_views.views == ("semantic", "collaborative")
    assert two_views.n_levels == {"semantic": 2, "collaborative": 3}
    assert two_views.codebook_sizes == {"semantic": (2, 2), "collaborative": (3, 2, 2)}
    assert two_views.codes_of(20, view="collaborative").tolist() == [1, 0, 0]
    assert two_views.items_at([0, 1, 2], view="semantic") == [20, 10, 30]
    assert two_views.items_at([0, 1, 2], view="collaborative") == [30, 20, 10]
    assert two_views.trie("semantic").codebook_sizes == (2, 2)
    assert two_views.trie("semantic") is two_views.trie("semantic")


def test_unknown_view(sids, two_views):
    with pytest.raises(InvalidValueError, match=r"view is unknown: expected one of \('semantic', .*\), got 'text'"):
        two_views.codes_of(10, view="text")
    with pytest.raises(
        InvalidValueError, match=r"view is missing: expected one of \('semantic', 'collaborative'\), got N"
    ):
        two_views.trie()
    with pytest.raises(InvalidValueError, match=r"expected none, because these codes have no views, got \[\]"):
        sids.codes_of(["ring"], view=[])
    with pytest.raises(InvalidValueError, match="expected none, because these codes have no views, got 'semantic'"):
        sids.trie("semantic")
    assert semid.SemanticIds([1], {"only": [[0]]}).trie().n_items == 1


def test_shape_of_one_unnamed_view(sids):
    assert sids.views == () and sids.n_levels == 2 and sids.codebook_sizes == (2, 4)
    shown = "n_items=3, codebook_sizes=(2, 4), generation=0, item_ids='ring', 'bell', 'book'"
    assert repr(sids) == f"SemanticIds({shown})"
    sids.add(["cup"], [[0, 0]])
    sids.remove(["ring", "bell"])
    sids.add(["jar", "pan", "pot"], [[0, 1], [1, 0], [1, 1]])
    assert repr(sids) == (
        "SemanticIds(n_items=5, codebook_sizes=(2, 4), generation=3, n_retired=2, item_ids='book', 'cup', 'jar', ..)"
    )


def state(sids):
    return sids.fingerprint, list(sids), sids.generation, [sids.taken(view).tolist() for view in sids.views or (None,)]


def test_add(sids):
    trie = sids.trie()
    sids.add(["cup", "jar"], [[1, 3], [0, 0]])
    assert list(sids) == ["ring", "bell", "book", "cup", "jar"]
    assert sids.generation == 1 and sids.trie() is not trie and trie.n_items == 3
    assert sids.items_of([[1, 3], [0, 0], [0, 2]]) == ["cup", "jar", "book"]
    assert sids.ranks_of(["jar", "cup"]).tolist() == [0, 4]


def test_arrays_are_not_shared():
    ids, codes = np.array([5, 6]), np.array([[0], [1]], np.uint8)
    sids = semid.SemanticIds(ids, codes)
    codes[0], ids[0] = 3, 9
    sids.codes_of([5])[:] = 3
    assert sids.codes_of([5, 6]).tolist() == [[0], [1]]


def test_add_to_views(two_views):
    order = two_views.views
    two_views.add([40], {"collaborative": [[2, 1, 1]], "semantic": [[1, 1]]})
    assert two_views.codes_of(40, "semantic").tolist() == [1, 1]
    assert two_views.codes_of(40, "collaborative").tolist() == [2, 1, 1]
    assert two_views.views == order


@pytest.mark.parametrize(
    ("ids", "codes", "error", "message"),
    [
        (
            ["cup", "bell"],
            [[0, 0], [0, 1]],
            InvalidValueError,
            "in the catalogue already: expected new ids, got ['bell']",
        ),
        (["cup", "cup"], [[0, 0], [0, 1]], InvalidValueError, "item_ids repeat: expected each id once, got ['cup']"),
        (
            ["cup", "jar"],
            [[0, 0], [0, 3]],
            InvalidValueError,
            "codes collide: expected unique rows, got [0, 3] for 'bell'",
        ),
        (["cup", "jar"], [[0, 0], [0, 0]], InvalidValueError, "got [0, 0] for 'cup' and 'jar'"),
        (["cup"], [[0, 4]], InvalidValueError, "expected codes below 4 at level 1, got 4"),
        (
            ["cup"],
            [[0]],
            InvalidValueError,
            "codebook_sizes has a wrong length: expected one size for each of 1 levels, got 2.",
        ),
        (["cup"], [[0, 0], [0, 1]], InvalidValueError, "different lengths: expected 1 rows, got 2"),
        ([5], [[0, 0]], InvalidTypeError, "expected all int or all str, got int, str"),
        (["cup"], {"x": [[0, 0]]}, InvalidValueError, "codes have other views: expected [None], got ['x']"),
    ],
)
def test_a_failed_add_changes_nothing(sids, ids, codes, error, message):
    before = state(sids)
    with pytest.raises(error, match=re.escape(message)):
        sids.add(ids, codes)
    assert state(sids) == before


def test_weights_beside_codes(sids):
    with pytest.raises(InvalidValueError, match="weights do not apply to codes: expected weights only with quantizer"):
        sids.add(["cup"], [[0, 0]], weights=[1.0])


def test_a_failed_add_to_the_second_view_changes_nothing(two_views):
    before = state(two_views)
    with pytest.raises(InvalidValueError, match="codes of view 'collaborative' collide"):
        two_views.add([40], {"semantic": [[1, 1]], "collaborative": [[1, 0, 0]]})
    assert state(two_views) == before


def test_remove(sids):
    sids.remove(["bell"])
    assert list(sids) == ["ring", "book"] and "bell" not in sids and sids.generation == 1
    assert sids.items_of([[0, 3], [0, 2]]) == [None, "book"]
    assert sids.trie().n_items == 2
    sids.remove(["ring", "ring"])
    assert list(sids) == ["book"] and sids.generation == 2


def test_sets_may_be_removed(sids):
    sids.remove({"ring", "bell"})
    assert list(sids) == ["book"]


def test_to_add_and_to_remove_nothing_changes_nothing(sids, two_views):
    for catalogue in (sids, two_views):
        before = state(catalogue)
        nothing = {view: [] for view in catalogue.views} if catalogue.views else []
        added = catalogue.add([], nothing)
        for view, sizes in (catalogue.n_levels if catalogue.views else {None: catalogue.n_levels}).items():
            assert (added if view is None else added[view]).shape == (0, sizes)
        catalogue.remove([])
        assert state(catalogue) == before
    with pytest.raises(InvalidValueError, match="codes and item_ids have different lengths: expected 0 rows, got 1"):
        sids.add([], [[0, 0]])


def test_copies_change_on_their_own(sids):
    sids.trie()
    for duplicate in (copy.copy, copy.deepcopy):
        one, other = duplicate(sids), duplicate(sids)
        assert one.history == sids.history == {0: sids.fingerprint}
        one.add(["cup"], [[0, 0]])
        assert one.fingerprint != sids.fingerprint
        other.add(["jar"], [[0, 1]])
        assert one.fingerprint != other.fingerprint and sids.history == {0: sids.fingerprint}
        with pytest.raises(InvalidValueError, match="the trie is of another catalogue"):
            other.check_pair(trie=one.trie())


def test_a_failed_remove_changes_nothing(sids):
    before = state(sids)
    # Not "pass errors='ignore'": remove does not take it.
    with pytest.raises(InvalidValueError, match=r"item ids are unknown: .* got \['cup'\]\. Leave them out\.$"):
        sids.remove(["ring", "cup"])
    with pytest.raises(InvalidValueError, match=r"would be empty: expected fewer than 3 ids, got all. Make a new one"):
        sids.remove(["ring", "bell", "book"])
    with pytest.raises(InvalidTypeError, match="got the str 'ring'"):
        sids.remove("ring")
    with pytest.raises(InvalidTypeError, match=r"expected a sequence of ids, got the int 10\. Write \[10\]"):
        sids.remove(10)
    assert state(sids) == before


def test_published_codes_stay_retired(sids, tmp_path):
    sids.remove(["bell"])
    assert sids.taken().tolist() == [[1, 2], [0, 2], [0, 3]]
    sids.save_pretrained(tmp_path)
    for catalogue in (sids, semid.SemanticIds.from_pretrained(tmp_path)):
        message = (
            r"codes belonged to removed items: expected free rows, got \[0, 3\] for \['cup'\]\. .* pass reuse=True"
        )
        with pytest.raises(InvalidValueError, match=message):
            catalogue.add(["jar", "cup"], [[0, 0], [0, 3]])
        catalogue.add(["jar", "cup"], [[0, 0], [0, 3]], reuse=True)
        assert catalogue.items_of([0, 3]) == "cup"


def test_reused_codes_are_taken_once(sids):
    sids.remove(["bell"])
    sids.add(["cup"], [[0, 3]], reuse=True)
    assert sids.taken().tolist() == [[1, 2], [0, 2], [0, 3]]


def test_fingerprint(sids, two_views):
    ids, codes = RING_BELL_BOOK
    again = semid.SemanticIds(ids[::-1], codes[::-1])
    assert again.fingerprint == sids.fingerprint and len(sids.fingerprint) == 64
    others = [
        semid.SemanticIds(["ring", "bell", "boot"], codes),
        semid.SemanticIds(ids, [[1, 2], [0, 3], [0, 1]]),
        semid.SemanticIds(ids, codes, codebook_sizes=[4, 4]),
        semid.SemanticIds(ids, {"x": codes}),
        semid.SemanticIds([1, 2, 3], codes),
        semid.SemanticIds(["1", "2", "3"], codes),
        two_views,
    ]
    assert len({sids.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1
    sids.add(["cup"], [[0, 0]])
    assert sids.fingerprint != again.fingerprint
    sids.remove(["cup"])
    assert sids.fingerprint == again.fingerprint


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("which", ["sids", "two_views"])
def test_save_and_load(which, mmap, tmp_path, request):
    original = request.getfixturevalue(which)
    original.save_pretrained(tmp_path / "sids")
    again = semid.SemanticIds.from_pretrained(tmp_path / "sids", mmap=mmap)
    assert repr(again) == repr(original) and state(again) == state(original)
    view = original.views[-1] if original.views else None
    assert again.items_at([0, 1, 2], view) == original.items_at([0, 1, 2], view)
    new = {name: [[1] * n_levels] for name, n_levels in again.n_levels.items()} if again.views else [[1, 1]]
    again.add([99] if again.views else ["99"], new)
    again.remove([10] if again.views else ["ring"])
    assert len(again) == 3


def test_slices(sids):
    part = sids[1:]
    assert list(part) == ["bell", "book"] and part.codebook_sizes == sids.codebook_sizes
    assert part.items_of([[0, 3], [1, 2]]) == ["bell", None]
    assert list(sids[::-1]) == ["book", "bell", "ring"]
    with pytest.raises(InvalidTypeError, match=r"expected a slice, got 0\. Use codes_of"):
        sids[0]
    with pytest.raises(InvalidValueError, match=r"the slice is empty: expected positions in 0 \.\. 2, got slice\(3,"):
        sids[3:]


def test_a_slice_of_views(two_views):
    part = two_views[:2]
    assert part.codes_of(20, "collaborative").tolist() == [1, 0, 0]
    assert part.codebook_sizes == two_views.codebook_sizes


@given(data=st.data())
def test_any_sequence_of_calls_agrees_with_a_dict(tmp_path_factory, data):
    """Add, remove, reuse, look up, save and load, beside a dict of live and a set of retired IDs."""
    rows = st.tuples(st.integers(0, 3), st.integers(0, 3))
    of_kind = data.draw(st.sampled_from([st.integers(0, 30), st.text("ab", max_size=4)]))
    first = data.draw(st.dictionaries(of_kind, rows, min_size=1, max_size=4).filter(
        lambda items: len(set(items.values())) == len(items)))  # fmt: skip
    live, retired, generation = dict(first), set(), 0
    sids = semid.SemanticIds(list(live), list(live.values()), codebook_sizes=[4, 4])
    for _ in range(data.draw(st.integers(1, 6))):
        call = data.draw(st.sampled_from(["add", "reuse", "remove", "reload"]))
        if call == "reload":
            folder = tmp_path_factory.mktemp("sids") / "saved"
            sids.save_pretrained(folder)
            sids = semid.SemanticIds.from_pretrained(folder, mmap=data.draw(st.booleans()))
        elif call == "remove":
            gone = data.draw(st.lists(st.sampled_from(list(live)), max_size=3, unique=True))
            if len(gone) == len(live):
                with pytest.raises(InvalidValueError, match="would be empty"):
                    sids.remove(gone)
            else:
                sids.remove(gone)
                retired |= {live.pop(item_id) for item_id in gone}
                generation += bool(gone)
        else:
            new = data.draw(st.dictionaries(of_kind, rows, min_size=1, max_size=3))
            codes = list(new.values())
            free = not (set(codes) & set(live.values())) and len(set(codes)) == len(codes)
            if free and not set(new) & set(live) and (call == "reuse" or not set(codes) & retired):
                sids.add(list(new), codes, reuse=call == "reuse")
                live |= new
                retired -= set(codes)
                generation += 1
            else:
                with pytest.raises(InvalidValueError):
                    sids.add(list(new), codes, reuse=call == "reuse")
        assert list(sids) == list(live) and sids.generation == generation
        np.testing.assert_array_equal(sids.codes_of(list(live)), list(live.values()))
        assert sids.items_of(list(live.values())) == list(live)
        assert {tuple(row) for row in sids.taken()[len(live) :].tolist()} == retired
        ranks = sids.ranks_of(list(live)).tolist()
        assert ranks == [sorted(live.values()).index(row) for row in live.values()]
        assert sids.items_at(ranks) == list(live)
    assert sids.fingerprint == semid.SemanticIds(list(live), list(live.values()), codebook_sizes=[4, 4]).fingerprint


def test_readers_see_one_generation_while_another_thread_changes_the_catalogue():
    ids = list(range(500))
    sids = semid.SemanticIds(ids, np.stack(np.divmod(ids, 25), axis=1), codebook_sizes=(21, 25))
    stopped = False

    def read():
        n_reads = 0
        while not stopped or n_reads == 0:
            # The item in front of all ranks comes and goes, so that a rank is another item in the next generation.
            assert sids.items_of(sids.codes_of(ids[1:])) == ids[1:]
            n_reads += 1
        return n_reads

    with ThreadPoolExecutor(2) as pool:
        reads = [pool.submit(read) for _ in range(2)]
        try:
            for _ in range(50):
                sids.remove([0])
                sids.add([0], [[0, 0]], reuse=True)
        finally:
            stopped = True
        assert all(read.result() > 0 for read in reads)
    assert sids.generation == 100


def test_codes_are_read_as_a_vocabulary_reads_them(sids):
    vocab = semid.SidVocabulary.from_token_ids([[10, 11], [20, 21, 22, 23]])
    for wrong in ([[1.0, 2.0]], [[True, False]], [[2**64, 0]], [["a", "b"]]):
        for call in (sids.items_of, vocab.to_tokens):
            with pytest.raises(InvalidTypeError, match="codes has a wrong dtype: expected integers, got "):
                call(wrong)
    for call in (sids.items_of, vocab.to_tokens):
        with pytest.raises(InvalidValueError, match="codes is ragged: expected rows of one length"):
            call([[1], [1, 2]])
