"""The inner loops, and the switch between their implementations.

Two back ends carry the same names and signatures: Numba (``semid/kernels/*.py``) and, where it was built, plain C
(``semid_ext``). A kernel takes arrays only, writes into arrays that the caller made, and never raises.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from semid.errors import InvalidValueError, OptionalDependencyError

__all__ = ["BACKENDS", "available", "kernel", "show_backends", "use_backend"]

BACKENDS = ("ext", "numba")
# Kernel -> the module that defines it for Numba. `IN_EXT` lists those that the C extension has as well: all that a
# server needs, which loads a trie and decodes. Building one may wait for a compiler.
NUMBA_MODULES = {
    "walk": "semid.kernels.walk",
    "ranges": "semid.kernels.walk",
    "count_children": "semid.kernels.walk",
    "gather_children": "semid.kernels.walk",
    "pack_keys": "semid.kernels.build",
    "unpack_keys": "semid.kernels.build",
    "count_forks": "semid.kernels.build",
    "fill_levels": "semid.kernels.build",
    "mask_inplace": "semid.kernels.mask",
    "fill_bitmask": "semid.kernels.mask",
    "select": "semid.kernels.select",
}
IN_EXT = frozenset(NUMBA_MODULES) - {"pack_keys", "unpack_keys", "count_forks", "fill_levels"}

_forced: ContextVar[str | None] = ContextVar("semid_backend", default=None)


@functools.cache
def available() -> dict[str, str | None]:
    """Return for each back end None if it can be used, else the reason why not."""
    reasons: dict[str, str | None] = {"numba": None}
    try:
        importlib.import_module("semid_ext._core")
    except ImportError as error:
        reasons["ext"] = f"{error}; build it with SEMID_EXT=require pip install semid (needs a C compiler)"
    else:
        reasons["ext"] = None
    return {name: reasons[name] for name in BACKENDS}


def wanted() -> str:
    """Return the back end asked for: by `use_backend`, else by the environment variable ``SEMID_BACKEND``."""
    name = _forced.get() or os.environ.get("SEMID_BACKEND") or "auto"
    if name not in {"auto", *BACKENDS}:
        raise InvalidValueError(
            f"SEMID_BACKEND is unknown: expected auto, ext or numba, got {name!r}. Correct or unset it."
        )
    return name


def active() -> str:
    """Return the back end in use: ``ext`` or ``numba``."""
    name, missing = wanted(), available()
    if name == "auto":
        return "numba" if missing["ext"] else "ext"
    if missing[name]:
        raise OptionalDependencyError(
            f"back end {name!r} cannot be used: expected the compiled extension, got {missing[name]}. "
            "Or set SEMID_BACKEND=auto."
        )
    return name


def kernel(name: str) -> Callable[..., None]:
    """Return one kernel of the back end in use."""
    return _load(active(), name)


@functools.cache  # looking a module up costs as much as a small step
def _load(backend: str, name: str) -> Callable[..., None]:
    module = "semid_ext._core" if backend == "ext" and name in IN_EXT else NUMBA_MODULES[name]
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use one back end inside a ``with`` block, in this thread; raises if it is missing."""
    token = _forced.set(name)
    try:
        active()
        yield
    finally:
        _forced.reset(token)


def show_backends() -> None:
    """Print which implementation of the inner loops is used, and why.

    Examples
    --------
    >>> import semid
    >>> semid.show_backends()  # doctest: +SKIP
    back end   state      why
    ext        in use     SEMID_BACKEND=auto; kernels: count_children, fill_bitmask, ...
    numba      in use     for the kernels that ext does not have: count_forks, fill_levels, ...
    """
    used = active()
    rest = sorted(set(NUMBA_MODULES) - IN_EXT)
    print(f"{'back end':10} {'state':10} why")  # noqa: T201
    for name, missing in available().items():
        if missing:
            state, why = "missing", missing
        elif name == used:
            kernels = sorted(IN_EXT) if name == "ext" else sorted(NUMBA_MODULES)
            state, why = "in use", f"SEMID_BACKEND={wanted()}; kernels: {', '.join(kernels)}"
        elif name == "numba":
            state, why = "in use", f"for the kernels that ext does not have: {', '.join(rest)}"
        else:
            state, why = "ready", f"SEMID_BACKEND={wanted()} chose {used}"
        print(f"{name:10} {state:10} {why}")  # noqa: T201
