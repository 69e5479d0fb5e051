"""What an import loads, and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import semid

PACKAGE = Path(semid.__file__).parent
HEAVY = {"torch", "transformers", "numba", "sklearn", "scipy", "matplotlib"}


def loaded_by(*command):
    code = f"import runpy, sys\ntry:\n    {command[0]}\nexcept SystemExit:\n    pass\nprint('MODULES', *sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(out.split("MODULES", 1)[1].split())


@pytest.mark.parametrize(
    "statement",
    ["import semid", "from semid.cli import main; sys.argv = ['semid', '--help']; main()"],
    ids=["import semid", "semid --help"],
)
def test_light(statement):
    assert not HEAVY & loaded_by(statement)


def test_every_public_name_exists():
    for name in semid.__all__:
        assert getattr(semid, name) is not None
    assert set(semid.__all__) <= set(dir(semid))
    with pytest.raises(AttributeError, match="module 'semid' has no attribute 'nonsense'"):
        semid.nonsense  # noqa: B018


def imports_of(path):
    """Return the modules that a file imports anywhere in it, type checking aside."""
    found = set()
    skipped = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


# Room -> the rooms of ours that it may import besides errors, io and the extras' helper.
MAY_IMPORT = {
    "kernels": set(),
    "io": set(),
    "trie": {"kernels"},
    "quantizers": {"kernels"},
    "collisions": {"kernels", "quantizers"},
    "vocabulary": set(),
    "catalog": {"collisions", "metrics", "trie"},
    "generation": {"trie", "vocabulary"},
    "metrics": {"quantizers"},
    "plots": {"metrics"},
}
EVERYWHERE = {"errors", "io", "_arrays", "_checks", "_optional", "_progress", "_threads", "_version"}
MAY_USE_TORCH = (
    "generation/", "quantizers/networks/", "trie/torch_mirror.py",
    "vocabulary/",
)  # fmt: skip


def room_files(room):
    folder = PACKAGE / room
    return sorted(folder.glob("**/*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room):
    files = room_files(room)
    assert files and all(file.exists() for file in files)
    for file in files:
        for module in imports_of(file):
            if module.startswith("semid."):
                other = module.split(".")[1]
                assert other in MAY_IMPORT[room] | EVERYWHERE | {room}, f"{file} imports {module}"
            assert module.split(".")[0] != "examples", f"{file} imports {module}"


def test_torch_stays_in_its_rooms():
    for file in PACKAGE.glob("**/*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        if any(module.split(".")[0] in {"torch", "transformers"} for module in imports_of(file)):
            assert name.startswith(MAY_USE_TORCH), f"{name} imports torch or transformers"
