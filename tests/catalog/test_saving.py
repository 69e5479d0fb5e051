"""A saved catalogue: whole, verified, with its generation and its retired IDs."""

import dataclasses
import json

import numpy as np
import pytest

import semid
from semid.errors import FormatError
from semid.io import persistence
from semid.io.persistence import read_folder, write_folder


def test_generation_and_history_are_saved(sids, tmp_path):
    first = sids.fingerprint
    sids.remove(["bell"])
    sids.add(["cup"], [[0, 3]], reuse=True)
    sids.save_pretrained(tmp_path)
    again = semid.SemanticIds.from_pretrained(tmp_path)
    assert (again.generation, again.last_reuse) == (2, 2)
    assert again.history == {0: first, 2: sids.fingerprint}


@pytest.mark.parametrize("which", ["sids", "two_views"])
def test_mapped_arrays_stay_mapped(which, tmp_path, request):
    request.getfixturevalue(which).save_pretrained(tmp_path)
    again = semid.SemanticIds.from_pretrained(tmp_path, mmap=True, verify=False)
    contents = again._contents
    arrays = [*contents.codes.values(), *contents.order.values(), *contents.keys.arrays().values()]
    if which == "two_views":
        assert all(isinstance(array, np.memmap) for array in arrays)
    else:
        assert isinstance(contents.keys.mapped, np.memmap)
    assert again.items_at(np.arange(3), again.views[0] if again.views else None)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_folder_that_was_changed_by_hand(sids, tmp_path, file, mmap):
    sids.save_pretrained(tmp_path)
    path = tmp_path / file
    if file == "config.json":
        path.write_text(path.read_text().replace('"generation": 0', '"generation": 7'))
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    with pytest.raises(FormatError, match=r"is not as it was saved: expected checksum \w{64}, got \w{64}\. A file was"):
        semid.SemanticIds.from_pretrained(tmp_path, mmap=mmap)


def test_a_folder_of_another_version(sids, tmp_path):
    sids.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "layout"}))
    with pytest.raises(FormatError, match=r"has another layout: expected 2, got 1. Load it with the semid version"):
        semid.SemanticIds.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    with pytest.raises(FormatError, match=r"has an unknown format: expected version 1, got 99"):
        semid.SemanticIds.from_pretrained(tmp_path)


def test_a_folder_that_does_not_fit_together(sids, tmp_path):
    contents = sids._contents
    sids._contents = dataclasses.replace(contents, codes={None: contents.codes[None][:2]})
    sids._history[0] = "0"
    sids.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=r"is damaged: expected item ids and their codes, got ValueError: codes and"):
        semid.SemanticIds.from_pretrained(tmp_path)


def test_repeated_codes_in_an_unverified_folder(sids, tmp_path):
    codes = {None: np.array([[0, 1], [0, 1], [1, 0]], np.uint8)}
    sids._contents = dataclasses.replace(sids._contents, codes=codes)
    sids._history[0] = "0"
    sids.save_pretrained(tmp_path)
    again = semid.SemanticIds.from_pretrained(tmp_path, verify=False)
    with (
        pytest.warns(semid.trie.DuplicateCodesWarning),
        pytest.raises(FormatError, match=r"codes were damaged: expected 3 unique rows, got 2"),
    ):
        again.trie()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_keeps_what_was_saved(sids, tmp_path, monkeypatch, error):
    sids.save_pretrained(tmp_path / "sids")
    before = sids.fingerprint
    sids.add(["cup"], [[0, 0]])

    def interrupted(*arguments, **options):
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(persistence, "put_in_place", interrupted)
        sids.save_pretrained(tmp_path / "sids")
    assert semid.SemanticIds.from_pretrained(tmp_path / "sids").fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["sids"]
    sids.save_pretrained(tmp_path / "sids")
    assert semid.SemanticIds.from_pretrained(tmp_path / "sids").generation == 1


def forged(folder, change):
    """Change the arrays of a saved catalogue and make its checksum anew, as somebody with intent would."""
    config, arrays = read_folder(folder, class_name="SemanticIds")
    write_folder(folder, class_name="SemanticIds", config=config, arrays=change(dict(arrays)), card="")


def swapped(name, values):
    return lambda arrays: arrays | {name: np.asarray(values, arrays[name].dtype)}


FORGERIES = {
    "codes": (swapped("codes.0", [[1, 2], [0, 9], [0, 2]]), "codes outside their codebooks"),
    "equal codes": (swapped("codes.0", [[1, 2], [0, 2], [0, 2]]), "ranks that do not sort the codes"),
    "order": (swapped("order.0", [0, 1, 2]), "ranks that do not sort the codes"),
    "far order": (swapped("order.0", [0, 1, 3]), "ranks that are no positions"),
    "ends": (lambda arrays: arrays | {"item_ids.ends": arrays["item_ids.ends"][::-1].copy()}, "do not end one after"),
    "text": (lambda arrays: arrays | {"item_ids.text": arrays["item_ids.text"] | 128}, "UnicodeDecodeError"),
    "no text": (lambda arrays: {k: v for k, v in arrays.items() if k != "item_ids.text"}, "KeyError: 'item_ids.text'"),
    "places": (swapped("item_ids.key_at", [0, 0, 0]), "positions that are not those of the item ids"),
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("mmap", [False, True])
def test_forged_arrays_with_a_right_checksum_are_refused(sids, tmp_path, name, mmap):
    change, message = FORGERIES[name]
    sids.save_pretrained(tmp_path / "sids")
    forged(tmp_path / "sids", change)
    with pytest.raises(FormatError, match=message):
        semid.SemanticIds.from_pretrained(tmp_path / "sids", mmap=mmap)


@pytest.mark.parametrize("seed", range(100))
def test_a_forged_marisa_trie_is_never_used(tmp_path, seed):
    """The ids come from the text then; the bytes of the trie, which could end the process, are left alone."""
    ids = [f"item-{number * 7919 % 1000}" for number in range(200)]
    codes = np.stack(np.divmod(np.arange(200), 16), axis=1)
    sids = semid.SemanticIds(ids, codes)
    sids.save_pretrained(tmp_path / "sids")
    rng = np.random.default_rng(seed)

    def change(arrays):
        forged_bytes = bytearray(arrays["item_ids.marisa"].tobytes())
        for at in rng.integers(0, len(forged_bytes), 4):
            forged_bytes[at] ^= int(rng.integers(1, 256))
        return arrays | {"item_ids.marisa": np.frombuffer(bytes(forged_bytes), np.uint64)}

    forged(tmp_path / "sids", change)
    for mmap in (False, True):
        loaded = semid.SemanticIds.from_pretrained(tmp_path / "sids", mmap=mmap)
        assert list(loaded) == ids and loaded.items_of(codes) == ids
        np.testing.assert_array_equal(loaded.codes_of(ids), codes)


@pytest.mark.parametrize(
    ("name", "values"), [("ordered", [1, 1, 9]), ("position_at", [0, 0, 1]), ("place_of", [1, 2, 0])]
)
def test_forged_int_ids_are_refused(tmp_path, name, values):
    semid.SemanticIds([5, 1, 9], [[1, 2], [0, 3], [0, 2]]).save_pretrained(tmp_path / "sids")
    forged(tmp_path / "sids", swapped(f"item_ids.{name}", values))
    with pytest.raises(FormatError, match=r"item ids that do not ascend|positions that are no permutation"):
        semid.SemanticIds.from_pretrained(tmp_path / "sids")
