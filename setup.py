"""The optional C kernels; everything else about the package stands in pyproject.toml.

``SEMID_EXT`` decides at build time: unset tries and falls back quietly to Numba, ``off`` skips the compiler,
``require`` makes a failed build fatal (use it wherever wheels are made).
"""

import os

from setuptools import Extension, setup

policy = os.environ.get("SEMID_EXT") or "auto"
if policy not in {"auto", "off", "require"}:
    raise SystemExit(f"SEMID_EXT has an unknown value: expected auto, off or require, got {policy!r}.")

core = Extension(
    "semid_ext._core",
    ["semid_ext/_core.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],  # one abi3 binary for Python 3.11 and later
    py_limited_api=True,
    optional=policy != "require",
)
setup(
    ext_modules=[] if policy == "off" else [core],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
