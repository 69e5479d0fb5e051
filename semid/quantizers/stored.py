"""Arrays of a saved quantizer: taken by name, each with the shape that it must have, and none left over."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import final

import numpy as np

from semid._arrays import Array, Int64Array, Matrix
from semid.errors import FormatError
from semid.quantizers.views import Scaling

__all__ = ["StoredArrays", "check_n_levels", "damage_as_format_error"]


@final
class StoredArrays:
    """What a folder holds, until it is taken; every method raises a KeyError or ValueError where it does not fit.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._left = dict(arrays)

    def take(self, name: str, shape: Sequence[int | None], *, dtype: str = "float32") -> Array:
        """Return a finite array of that shape, in which None stands for any size but 0."""
        array = self._left.pop(name)
        if array.ndim != len(shape) or any(
            size != expected if expected is not None else not size
            for size, expected in zip(array.shape, shape, strict=True)
        ):
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} of shape {array.shape}, not ({expected}{',' * (len(shape) == 1)})")
        if array.dtype != dtype:
            raise ValueError(f"{name} of dtype {array.dtype}, not {dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} with values that are not finite")
        return array

    def take_levels(self, name: str, sizes: Sequence[int], *, dim: int | None = None) -> tuple[Matrix, ...]:
        """Return one codebook per level; without `dim`, each may have its own."""
        return tuple(self.take(f"{name}_{level}", (size, dim)) for level, size in enumerate(sizes))

    def take_counts(self, name: str, sizes: Sequence[int]) -> tuple[Int64Array, ...]:
        """Return, per level, the rows behind each code; copies, since `partial_fit` adds to them."""
        return tuple(np.array(self.take(f"{name}_{level}", (size,), dtype="int64")) for level, size in enumerate(sizes))

    def take_scaling(self, suffix: str = "") -> Scaling:
        """Return how embeddings are standardised."""
        factor = float(self.take(f"factor{suffix}", (1,), dtype="float64")[0])
        if not factor > 0:
            raise ValueError(f"factor{suffix} of {factor}, not above 0")
        return Scaling(self.take(f"mean{suffix}", (None,)), factor)

    def check_none_left(self) -> None:
        """Raise a ValueError if there is an array that nobody took."""
        if self._left:
            raise ValueError(f"arrays {', '.join(sorted(self._left))} besides those of the parameters")


def check_n_levels(sizes: Sequence[int], n_levels: int) -> None:
    """Raise a ValueError unless there is one codebook size for each of one or more levels."""
    if not len(sizes) == n_levels > 0:
        raise ValueError(f"{len(sizes)} codebook sizes for {n_levels} levels")


@contextmanager
def damage_as_format_error(
    folder: str | os.PathLike[str], expected: str = "parameters and codebooks"
) -> Iterator[None]:
    """Turn what goes wrong while a quantizer is put together from its parts into a FormatError."""
    try:
        yield
    except FormatError:
        raise
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise FormatError(
            f"{folder} is damaged: expected {expected} that belong together, got {type(error).__name__}: {error}. Save "
            "it again."
        ) from error
