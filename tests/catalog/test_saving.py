"""A saved catalogue: whole, verified, with its generation and its retired IDs."""

import dataclasses
import json

import numpy as np
import pytest

import semid
from semid.errors import FormatError
from semid.io import persistence


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
    again = semid.SemanticIds.from_pretrained(tmp_path)
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
