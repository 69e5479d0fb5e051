"""Saved folders: whole or not at all, and never mistaken for something else."""

import json
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest

from semid.errors import FormatError, InvalidValueError
from semid.io.persistence import read_folder, read_tensors, saved_class, to_json, write_folder, write_tensors


def save(folder, value=1.0):
    write_folder(
        folder, class_name="Thing", config={"size": 3}, arrays={"x": np.full((2, 3), value, np.float32)}, card="# Thing"
    )


def test_round_trip(tmp_path):
    save(tmp_path / "a")
    config, arrays = read_folder(tmp_path / "a", class_name="Thing", mmap=True)
    assert config == {"size": 3} and isinstance(arrays["x"], np.memmap) and (arrays["x"] == 1).all()
    assert saved_class(tmp_path / "a") == "Thing"
    assert (tmp_path / "a" / "README.md").read_text() == "# Thing\n"


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("mmap", [False, True])
def test_every_dtype_and_shape(tmp_path, dtype, mmap):
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype), "none": np.empty((0, 4), dtype), "one": np.array(1, dtype)}
    write_tensors(tmp_path / "t.safetensors", arrays, metadata={"k": "v"})
    read, head = read_tensors(tmp_path / "t.safetensors", mmap=mmap)
    assert head == {"k": "v"}
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and read[name].shape == array.shape and (read[name] == array).all()


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path):
    save(tmp_path / "a")
    save(tmp_path / "a", 2.0)
    assert (read_folder(tmp_path / "a", class_name="Thing")[1]["x"] == 2).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_save_keeps_the_old_one(tmp_path):
    save(tmp_path / "a")
    with pytest.raises(TypeError):
        write_folder(tmp_path / "a", class_name="Thing", config={"x": object()}, arrays={}, card="")
    assert (read_folder(tmp_path / "a", class_name="Thing")[1]["x"] == 1).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(
        InvalidValueError, match="would be overwritten: expected a new, an empty or a saved semid folder"
    ):
        save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_of_another_library_is_left_alone(tmp_path):
    """A Hugging Face model has a config.json, too."""
    files = {"config.json": '{"model_type": "t5"}', "model.safetensors": "weights", "notes.txt": "mine"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidValueError, match="expected a new, an empty or a saved semid folder, got something"):
        save(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidValueError, match="would be overwritten"):
        save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(files)
    assert (tmp_path / "model.safetensors").read_text() == "weights"


def test_other_files_in_a_saved_folder_are_not_lost(tmp_path):
    save(tmp_path)
    (tmp_path / "notes.txt").write_text("keep")
    (tmp_path / ".git").mkdir()
    text = r"would lose files: expected config\.json, .* alone, got \.git, notes\.txt besides\. Move them away"
    with pytest.raises(InvalidValueError, match=text):
        save(tmp_path, 2.0)
    assert (tmp_path / "notes.txt").read_text() == "keep" and (tmp_path / ".git").is_dir()
    assert (read_folder(tmp_path, class_name="Thing")[1]["x"] == 1).all()


def test_the_working_directory_and_a_link_can_be_saved_to(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for folder, value in ((".", 1.0), (".", 2.0), ("../link", 3.0)):
        save(folder, value)
        for name in (".", tmp_path / "here", tmp_path / "link"):
            assert (read_folder(name, class_name="Thing")[1]["x"] == value).all()
    assert (tmp_path / "link").is_symlink() and {path.name for path in tmp_path.iterdir()} == {"here", "link"}


def test_all_files_have_the_mode_of_a_new_file(tmp_path):
    """safetensors 0.8 writes files that nobody but the owner can read."""
    save(tmp_path / "a")
    write_tensors(tmp_path / "t.safetensors", {"x": np.zeros(2)})
    (tmp_path / "new").touch()
    expected = (tmp_path / "new").stat().st_mode
    assert {path.stat().st_mode for path in [*(tmp_path / "a").iterdir(), tmp_path / "t.safetensors"]} == {expected}


def test_tensors_never_replace_a_folder(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(InvalidValueError, match="expected a file, got a folder"):
        write_tensors(tmp_path / "old", {"x": np.zeros(2)})


def test_messages_of_bad_folders(tmp_path):
    with pytest.raises(FormatError, match=r"cannot be loaded: expected a folder with config\.json, got No such file"):
        read_folder(tmp_path / "none", class_name="Thing")
    save(tmp_path / "a")
    with pytest.raises(FormatError, match=r"expected Other, got Thing\. Load it with Thing\.from_pretrained"):
        read_folder(tmp_path / "a", class_name="Other")
    config = tmp_path / "a" / "config.json"
    head = json.loads(config.read_text())
    config.write_text(json.dumps(head | {"format_version": 99}))
    with pytest.raises(FormatError, match="expected version 1, got 99"):
        read_folder(tmp_path / "a", class_name="Thing")
    config.write_text("{")
    with pytest.raises(FormatError, match="got text that is not JSON"):
        read_folder(tmp_path / "a", class_name="Thing")
    config.write_text('{"model_type": "t5"}')
    with pytest.raises(FormatError, match="was not saved by semid"):
        read_folder(tmp_path / "a", class_name="Thing")
    config.write_text(json.dumps(head))
    tensors = tmp_path / "a" / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"is damaged: expected a complete file, got \d+ bytes where 'x' ends"):
        read_folder(tmp_path / "a", class_name="Thing")


@pytest.mark.parametrize(
    "value, expected",
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.longdouble(2), 2.0),
        (Fraction(1, 4), 0.25),
        (np.array([8, 16]), [8, 16]),
        ([np.uint8(1), "a", None, True], [1, "a", None, True]),
        (MappingProxyType({"a": np.float32(2)}), {"a": 2.0}),
    ],
    ids=repr,
)
def test_numbers_arrays_and_mappings_of_any_kind(value, expected):
    found = json.loads(to_json({"x": value}))["x"]
    assert found == expected and type(found) is type(expected)


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        to_json(object())
