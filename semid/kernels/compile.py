"""How Numba compiles the kernels: one decorator, one policy."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["inlined", "njit", "prange"]

log = logging.getLogger("semid")
prange = numba.prange


def njit(function: Callable[..., Any] | None = None, *, parallel: bool = False, inlined: bool = False) -> Any:
    """Compile a kernel lazily, release the GIL, and keep the machine code on disk where that is safe.

    Signatures stay lazy, since an eager one refuses read-only arrays such as memory maps. ``fastmath`` stays off: it
    lets the compiler assume that there is no infinity, and masked scores are ``-inf``. What is
    `inlined` becomes part of each kernel that calls it: passing a trie's arrays costs more than reading a leaf.
    """
    if function is None:
        return lambda f: njit(f, parallel=parallel, inlined=inlined)
    # Parallel kernels are not cached: processes that fill the cache together can crash (numba #4807, #10128).
    cache = not parallel and os.environ.get("SEMID_NUMBA_CACHE", "1") != "0"
    compiled = numba.njit(function, parallel=parallel, nogil=True, forceinline=inlined)
    if cache:
        try:
            compiled.enable_caching()
        except RuntimeError:  # no folder that may be written: a read-only install, and no home
            note_no_cache()
    return compiled


@functools.cache
def note_no_cache() -> None:
    """Log, once, that kernels are compiled anew in each process."""
    log.warning(
        "Numba finds no folder to keep compiled kernels in: each process compiles them anew, for some seconds. Set "
        "NUMBA_CACHE_DIR to a folder that may be written."
    )


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a helper that becomes part of the kernels that call it."""
    return njit(function, inlined=True)
