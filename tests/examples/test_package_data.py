import hashlib
import sys

import pytest
from gensar.package_data import check_sha256, package_folder

from semid.errors import FormatError, OptionalDependencyError


def test_a_package_is_found_without_running_its_code(tmp_path, monkeypatch):
    package = tmp_path / "package_that_must_not_run"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_folder("package_that_must_not_run", requirement="x==1") == package
    assert "package_that_must_not_run" not in sys.modules


def test_a_missing_package_tells_the_pip_command():
    message = (
        r"cannot find the data package nothing_here: expected it in this Python environment, got none\. "
        r"Run pip install --no-deps nothing==1\.0$"
    )
    with pytest.raises(OptionalDependencyError, match=message):
        package_folder("nothing_here", requirement="nothing==1.0")


def test_checksum(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    check_sha256(path, digest, requirement="x==1")
    path.write_bytes(b"other")
    got = hashlib.sha256(b"other").hexdigest()
    message = f"is not the published file: expected SHA-256 {digest}, got {got}. Run pip install --force-reinstall"
    with pytest.raises(FormatError, match=message):
        check_sha256(path, digest, requirement="x==1")


def test_a_missing_file_tells_the_pip_command(tmp_path):
    message = r"is missing: expected the file of x==1, got none\. Run pip install --force-reinstall --no-deps x==1$"
    with pytest.raises(FormatError, match=message):
        check_sha256(tmp_path / "none", "0", requirement="x==1")
