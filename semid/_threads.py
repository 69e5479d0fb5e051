"""Blocks of rows on threads, so that results have the same bits on any number of cores.

BLAS splits one product differently on one core and on two, and then rounds differently. So a product here always has
the same shape and runs on one thread; several cores work on several blocks. The number of threads is that of BLAS:
``OMP_NUM_THREADS`` and ``threadpoolctl.threadpool_limits`` set it.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, final

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from semid._progress import progress_bar

__all__ = ["for_each_block", "one_blas_thread"]


@final
class _BlasGuard:
    """Keep BLAS at one thread while anybody is inside; several threads may be at once.

    A limit belongs to the process. Were each caller to save and restore it by itself, then of two that overlap the
    second would save the first one's limit, and restore that for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limiter: Any = None
        self._n_threads = 1

    @functools.cached_property
    def controller(self) -> ThreadpoolController:
        """The BLAS libraries of this process; looking for them takes milliseconds, so it is done once."""
        return ThreadpoolController().select(user_api="blas")

    def __enter__(self) -> int:
        """Return the number of threads to work with."""
        with self._lock:
            if self._inside == 0:
                found = [library.num_threads for library in self.controller.lib_controllers]
                self._n_threads = max(found, default=os.cpu_count() or 1)
                self._take_control()
                self._limiter = self.controller.limit(limits=1)
            self._inside += 1
            return self._n_threads

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._take_control()
                self._limiter.restore_original_limits()
                self._take_control()

    def _take_control(self) -> None:
        # From 3.8 on, threadpoolctl lets only the thread that first set a limit set another, and ignores the rest
        # without a word. Here the last to leave restores the limit, and it may be another thread than the first.
        for library in self.controller.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)


one_blas_thread = _BlasGuard()


def for_each_block(work: Callable[[int, int], None], n_rows: int, block_rows: int, *, label: str | None = None) -> None:
    """Call ``work(first, last)`` for consecutive blocks of rows, on as many threads as BLAS would use.

    Parameters
    ----------
    work : callable
        Writes its result into arrays of the caller; blocks must not touch each other's rows.
    n_rows : int
    block_rows : int
        Rows of a block; the last one may have fewer. It must not depend on the number of threads.
    label : str, optional
        Name of the progress bar, where `semid._progress.show_progress` asks for bars; None: no bar.
    """
    blocks = [(first, min(first + block_rows, n_rows)) for first in range(0, n_rows, block_rows)]
    bar = contextlib.nullcontext() if label is None else progress_bar(label, total=n_rows)
    with one_blas_thread as n_threads, bar as shown:
        for first, last in _run_blocks(work, blocks, min(n_threads, len(blocks))):
            if shown is not None:
                shown.update(last - first)


def _run_blocks(
    work: Callable[[int, int], None], blocks: Sequence[tuple[int, int]], n_threads: int
) -> Iterator[tuple[int, int]]:
    """Run the blocks and yield each when it is done, in order, so that the first bad row is the one reported."""
    if n_threads <= 1:
        for block in blocks:
            work(*block)
            yield block
        return
    # An OpenMP build of BLAS keeps its limit per thread, so each worker sets it as well.
    limit = functools.partial(one_blas_thread.controller.limit, limits=1)
    with ThreadPoolExecutor(n_threads, initializer=limit) as pool:
        futures = [pool.submit(work, *block) for block in blocks]
        try:
            for future, block in zip(futures, blocks, strict=True):
                future.result()
                yield block
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
