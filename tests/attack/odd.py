"""Values that do not belong where they are passed, and arrays that may."""

import random  # noqa: F401

import numpy as np
import torch

VALUES = [
    0, 1, -1, 3, 2**40, 2**63, 2**64, -(2**70), True, None, 1.5, float("nan"), "x", "", b"a", [], [[]], [1, 2], (0,),
    {0: 1}, {1, 2}, np.int8(3), np.array(2), np.array([1.0, 2.0]), object(), range(3),
]  # fmt: skip
SHAPES = [(0,), (1,), (3,), (2, 3), (1, 1, 3), (3, 0), (), (2, 2), (1, 4, 8), (2, 4, 8), (2, 5)]
DTYPES = ["i1", "u1", "i4", "i8", "u8", ">i4", ">i8", "f2", "f4", "f8", ">f4", "?", "c8", "O", "U3", "M8[s]", "m8[s]"]


def odd(rng):
    """A value that does not belong, or an array that may."""
    if rng.random() < 0.45:
        return rng.choice(VALUES)
    made = np.random.default_rng(rng.randrange(99)).integers(-3, 12, rng.choice(SHAPES)).astype(rng.choice(DTYPES))
    kind = rng.randrange(8)
    if kind == 0 and made.ndim:
        return made[::-1]
    if kind == 1:
        return np.asfortranarray(made)
    if kind == 2:
        return made.tolist()
    if kind == 3 and made.dtype.isnative and made.dtype.kind in "if":
        tensor = torch.from_numpy(np.ascontiguousarray(made))
        return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
    if kind == 4 and made.dtype.isnative and made.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(made)).requires_grad_()
    made.flags.writeable = kind != 5
    return made
