import pytest

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.checks import auto_codebook_size, is_auto, sizes_for, sizes_for_batches


@pytest.mark.parametrize("n_items", [64, 5_000, 1_000_000])
def test_auto_follows_the_number_of_items(n_items):
    assert is_auto("auto") and sizes_for("auto", 3, n_items=n_items) == (auto_codebook_size(n_items, 3),) * 3


def test_numbers_stay_whatever_the_number_of_items():
    assert not is_auto(16)
    assert sizes_for(16, 2, n_items=10) == sizes_for((16, 16), 2, n_items=None) == sizes_for_batches(16, 2) == (16, 16)


def test_batches_need_numbers():
    with pytest.raises(InvalidValueError, match="expected an integer or one per level, got 'auto', which needs the"):
        sizes_for_batches("auto", 3)
    with pytest.raises(InvalidTypeError, match="expected an integer or one per level, got 'automatic'"):
        sizes_for_batches("automatic", 3)
