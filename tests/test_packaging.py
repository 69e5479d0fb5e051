"""The optional extension: build policies, and C that compiles without a warning."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(tmp_path, **environment):
    """Build the extension in a copy of the sources."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("semid", "semid_ext"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path,
        env=os.environ | {"SEMID_EXT": "auto"} | environment,
        capture_output=True,
        text=True,
    )


def built(tmp_path):
    return sorted(path.name for path in (tmp_path / "semid_ext").glob("*.so"))


NO_COMPILER = pytest.mark.parametrize("compiler", ["/no/such/compiler", "/bin/false"])


@NO_COMPILER
def test_a_machine_without_a_compiler_builds_quietly(tmp_path, compiler):
    pytest.importorskip("setuptools")
    result = build(tmp_path, CC=compiler)
    assert result.returncode == 0, result.stderr
    assert built(tmp_path) == []


@NO_COMPILER
def test_require_makes_a_failed_build_fatal(tmp_path, compiler):
    pytest.importorskip("setuptools")
    result = build(tmp_path, CC=compiler, SEMID_EXT="require")
    assert result.returncode != 0 and built(tmp_path) == []


def test_a_source_distribution_can_be_compiled(tmp_path):
    """It holds every C file and every header."""
    pytest.importorskip("setuptools")
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["sdist", "--dist-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {Path(name).name for name in tar.getnames() if "/semid_ext/" in name}
    assert held >= {path.name for path in (ROOT / "semid_ext").glob("*.[ch]")}


def test_off_does_not_compile(tmp_path):
    pytest.importorskip("setuptools")
    assert build(tmp_path, SEMID_EXT="off").returncode == 0
    assert built(tmp_path) == []


def test_an_unknown_policy_is_refused(tmp_path):
    pytest.importorskip("setuptools")
    result = build(tmp_path, SEMID_EXT="maybe")
    assert result.returncode != 0
    assert "SEMID_EXT has an unknown value: expected auto, off or require, got 'maybe'" in result.stderr


def test_the_c_code_compiles_without_warnings(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        pytest.skip("no C compiler or no Python headers")
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-fPIC", "-c"]
    command += ["-DPy_LIMITED_API=0x030B0000", f"-I{sysconfig.get_paths()['include']}"]
    command += map(str, sorted((ROOT / "semid_ext").glob("*.c")))
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
