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
from typing import Any

from semid.errors import InvalidValueError, OptionalDependencyError

__all__ = ["BACKENDS", "available", "kernel", "show_backends", "use_backend"]

BACKENDS = ("ext", "numba")
# Kernel -> the module that defines it for Numba; the C extension has them all, so that a server which builds or loads a
# trie and decodes never waits for a compiler. Kernels of quantizers and of the resolver, which Numba alone has, are
# imported where they are used.
NUMBA_MODULES = {
    "walk": "semid.kernels.walk",
    "walk_tokens": "semid.kernels.walk",
    "ranges": "semid.kernels.walk",
    "count_children": "semid.kernels.walk",
    "gather_children": "semid.kernels.walk",
    "count_keys": "semid.kernels.sorting",
    "scatter_keys": "semid.kernels.sorting",
    "sort_keys": "semid.kernels.sorting",
    "sort_ties": "semid.kernels.sorting",
    "drop_repeats": "semid.kernels.sorting",
    "fill_levels": "semid.kernels.build",
    "mask_inplace": "semid.kernels.mask",
    "fill_bitmask": "semid.kernels.mask",
    "select": "semid.kernels.select",
}

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


def kernel(name: str) -> Callable[..., Any]:
    """Return one kernel of the back end in use."""
    return _load(active(), name)


@functools.cache  # looking a module up costs as much as a small step
def _load(backend: str, name: str) -> Callable[..., Any]:
    module = "semid_ext._core" if backend == "ext" else NUMBA_MODULES[name]
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
    ext        in use     SEMID_BACKEND=auto; building tries and decoding: count_children, ...
    numba      in use     SEMID_BACKEND=auto chose ext for tries; quantizers and resolve have no other
    """
    used = active()
    print(f"{'back end':10} {'state':10} why")  # noqa: T201
    for name, missing in available().items():
        if missing:
            state, why = "missing", missing
        elif name == used:
            names = ", ".join(sorted(NUMBA_MODULES))
            state, why = "in use", f"SEMID_BACKEND={wanted()}; building tries and decoding: {names}"
        elif name == "numba":
            state = "in use"
            why = f"SEMID_BACKEND={wanted()} chose {used} for tries; quantizers and resolve have no other"
        else:
            state, why = "ready", f"SEMID_BACKEND={wanted()} chose {used}"
        print(f"{name:10} {state:10} {why}")  # noqa: T201
