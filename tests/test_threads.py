import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from semid._threads import for_each_block, one_blas_thread


def blas_threads():
    return {library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_rows, block_rows", [(0, 4), (1, 4), (8, 4), (9, 4), (3, 100)])
def test_blocks_cover_each_row_once(n_threads, n_rows, block_rows):
    seen = np.zeros(n_rows, int)

    def work(first, last):
        assert 0 < last - first <= block_rows and first % block_rows == 0
        seen[first:last] += 1

    with threadpool_limits(n_threads):
        for_each_block(work, n_rows, block_rows)
    assert (seen == 1).all()


def test_as_many_threads_work_as_blas_had():
    meet = threading.Barrier(2)  # one thread alone would wait until the timeout
    with threadpool_limits(2):
        for_each_block(lambda first, last: meet.wait(timeout=20) and None, 2, 1)


def test_blas_has_one_thread_inside_and_its_own_number_after():
    with threadpool_limits(2):
        for_each_block(lambda first, last: np.testing.assert_equal(blas_threads(), {1}), 4, 1)
        assert blas_threads() == {2}


def test_overlapping_users_leave_the_limit_as_it_was():
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with one_blas_thread as n_threads:
            assert n_threads == 2
            entered.set()
            leave.wait(20)

    with threadpool_limits(2):
        other = threading.Thread(target=hold)
        other.start()
        entered.wait(20)
        with one_blas_thread as n_threads:
            assert n_threads == 2
            leave.set()
            other.join()
            assert blas_threads() == {1}
        assert blas_threads() == {2}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_first_error_in_row_order_is_raised(n_threads):
    def work(first, last):
        if first >= 3:
            raise ValueError(f"row {first}")

    with threadpool_limits(n_threads), pytest.raises(ValueError, match=r"^row 3$"):
        for_each_block(work, 8, 1)
