"""The optional C kernels; everything else about the package stands in pyproject.toml.

``SEMID_EXT`` decides at build time: unset tries and falls back quietly to Numba, ``off`` skips the compiler,
``require`` makes a failed build fatal (use it wherever wheels are made). ``SEMID_EXT_WERROR=1`` makes warnings errors:
for our own checks, never for a user's compiler.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

policy = os.environ.get("SEMID_EXT") or "auto"
if policy not in {"auto", "off", "require"}:
    raise SystemExit(f"SEMID_EXT has an unknown value: expected auto, off or require, got {policy!r}.")

folder = Path("semid_ext")
is_msvc = sys.platform == "win32"
strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"] if os.environ.get("SEMID_EXT_WERROR") == "1" else []
core = Extension(
    "semid_ext._core",
    sorted(path.as_posix() for path in folder.glob("*.c")),
    depends=sorted(path.as_posix() for path in folder.glob("*.h")),
    define_macros=[("Py_LIMITED_API", "0x030B0000")],  # one abi3 binary for Python 3.11 and later
    # Contracted products would round once where Numba rounds twice; -O3 is what makes vectors of the loops.
    extra_compile_args=[] if is_msvc else ["-std=c11", "-O3", "-ffp-contract=off", *strict],
    py_limited_api=True,
    optional=policy != "require",
)
setup(
    ext_modules=[] if policy == "off" else [core],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
