"""Types of arrays, as annotations name them; docstrings add the shape, and the dtype where the type leaves it open."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "BoolArray",
    "CodeArray",
    "DoubleArray",
    "FloatArray",
    "Int64Array",
    "IntArray",
    "Labels",
    "Matrix",
    "Rows",
]

# Any dtype.
Array = npt.NDArray[Any]
# Flags, such as a mask over items.
BoolArray = npt.NDArray[np.bool_]
# Codes, in the smallest unsigned dtype that fits the codebook sizes.
CodeArray = npt.NDArray[np.unsignedinteger[Any]]
# Floats of any precision.
FloatArray = npt.NDArray[np.floating[Any]]
# Floats of double precision, for sums and costs.
DoubleArray = npt.NDArray[np.float64]
# Integers of any width.
IntArray = npt.NDArray[np.integer[Any]]
# Integers of 64 bits: counts, keys and item ids.
Int64Array = npt.NDArray[np.int64]
# One vector per row, float32: embeddings, residuals, a codebook.
Matrix = npt.NDArray[np.float32]
# The cluster of each row of a matrix, int32.
Labels = npt.NDArray[np.int32]
# Positions of rows in a matrix, int64.
Rows = npt.NDArray[np.int64]
