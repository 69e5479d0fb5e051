"""Saved folders: whole or not at all, and never mistaken for something else."""

import json
import os
import signal
import sys
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest

from semid.errors import FormatError, InvalidValueError
from semid.io import persistence
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


EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkdtemp")


def killed_at(number, call):
    """Run a call in a process that dies after so many events of the file system; False if it came to its end."""
    child = os.fork()
    if child == 0:
        left = [number]

        def die(event, args):
            if event in EVENTS:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        try:
            sys.addaudithook(die)
            call()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="expected os.fork, which this system lacks")
@pytest.mark.parametrize("inside", [False, True], ids=["folder", "working directory"])
def test_a_save_that_is_killed_anywhere_leaves_the_old_or_the_new(tmp_path, monkeypatch, inside):
    target = tmp_path / "a"
    save(target)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(target if inside else tmp_path / "elsewhere")
    number, seen = 0, set()
    while killed_at(number, lambda: save("." if inside else target, 2.0)):
        value = read_folder(target, class_name="Thing")[1]["x"][0, 0]
        assert value in {1, 2} and saved_class(target) == "Thing"
        seen.add(int(value))
        save("." if inside else target, 1.0)  # and the next save removes what was left
        assert [path.name for path in tmp_path.iterdir() if path.name not in {"a", "elsewhere"}] == []
        assert len(list(target.iterdir())) == 3
        number += 1
    assert seen == {1, 2} and number > 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="expected os.fork, which this system lacks")
@pytest.mark.parametrize("kind", ["folder", "mapped folder", "working directory", "mapped file"])
def test_a_reader_beside_a_writer_sees_one_version(tmp_path, monkeypatch, kind):
    target = tmp_path / "a"
    path = target if "file" not in kind else tmp_path / "t.safetensors"

    def write(value):
        if path is target:
            arrays = {name: np.full(1000, value, np.int64) for name in "xyz"}
            write_folder(folder, class_name="Thing", config={"size": value}, arrays=arrays, card="")
        else:
            write_tensors(path, {name: np.full(1000, value, np.int64) for name in "xyz"}, metadata={"size": str(value)})

    folder = target
    write(0)
    if kind == "working directory":
        monkeypatch.chdir(target)
        folder = "."
    writer = os.fork()
    if writer == 0:
        try:
            for value in range(1, 100_000):
                write(value)
        finally:
            os._exit(0)
    try:
        seen = set()
        for _ in range(400):
            if path is target:
                config, arrays = read_folder(target, class_name="Thing", mmap="mapped" in kind)
                size = config["size"]
            else:
                arrays, head = read_tensors(path, mmap=True)
                size = int(head["size"])
            assert {int(value) for array in arrays.values() for value in (array.min(), array.max())} == {size}
            seen.add(size)
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert len(seen) > 1


@pytest.mark.parametrize("flip", range(0, 4000, 7))
def test_a_flipped_bit_is_never_loaded(tmp_path, flip):
    save(tmp_path / "a")
    for name in ("config.json", "model.safetensors"):
        file = tmp_path / "a" / name
        whole = bytearray(file.read_bytes())
        at = flip % (8 * len(whole))
        whole[at // 8] ^= 1 << at % 8
        before = file.read_bytes()
        file.write_bytes(bytes(whole))
        try:
            config, arrays = read_folder(tmp_path / "a", class_name="Thing")
        except FormatError:
            file.write_bytes(before)
        else:  # white space, who wrote it, or the name of the checksum, which is an unknown entry then
            file.write_bytes(before)
            known = {name: value for name, value in config.items() if not isinstance(value, str) or len(value) != 64}
            assert known == {"size": 3} and (arrays["x"] == 1).all() and arrays["x"].shape == (2, 3)


def test_pipes_and_what_is_too_large(tmp_path):
    save(tmp_path / "a")
    (tmp_path / "a" / "config.json").unlink()
    os.mkfifo(tmp_path / "a" / "config.json")
    with pytest.raises(FormatError, match=r"expected a folder with config.json, got .* got a pipe or device"):
        read_folder(tmp_path / "a", class_name="Thing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="expected an ordinary file, got a pipe or device"):
        read_tensors(tmp_path / "pipe")
    save(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text("[" * 100_000)
    with pytest.raises(FormatError, match=r"config.json is damaged: .* got text that is not JSON"):
        read_folder(tmp_path / "b", class_name="Thing")
    with (tmp_path / "b" / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match=r"config.json is damaged: .* got more than 67108864 bytes"):
        read_folder(tmp_path / "b", class_name="Thing")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", 3, "model.zz.safetensors"])
def test_arrays_of_another_name_are_refused(tmp_path, name):
    save(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tensors": name}))
    with pytest.raises(FormatError, match=r"config.json is damaged: expected a complete file, got arrays in"):
        read_folder(tmp_path / "a", class_name="Thing")


@pytest.mark.parametrize("load", [saved_class, lambda folder: read_folder(folder, class_name="Other")[0]["version"]])
def test_a_folder_that_is_replaced_before_its_config_is_read(tmp_path, monkeypatch, load):
    """The reader holds the old folder, whose files are gone, and reads the new one."""
    X = np.zeros(3)

    def write(version):
        write_folder(tmp_path / "it", class_name="Other", config={"version": version}, arrays={"x": X}, card="")

    write(1)
    opened, real = [], persistence.open_file

    def late(path, *, folder=None):
        opened.append(path.name)
        if len(opened) == 1:
            write(2)
        return real(path, folder=folder)

    monkeypatch.setattr(persistence, "open_file", late)
    assert load(tmp_path / "it") in ("Other", 2)
    assert opened[:2] == ["config.json", "config.json"]
    (tmp_path / "it" / "config.json").unlink()
    with pytest.raises(FormatError, match=r"expected a folder with config\.json"):
        load(tmp_path / "it")
