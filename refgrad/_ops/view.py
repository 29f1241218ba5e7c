"""Views: they share storage and version counter, and their gradients are views of gradients or scatter into zeros."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided as np_as_strided

from refgrad._errors import error
from refgrad._storage import Storage, locations
from refgrad._table import TABLE, op
from refgrad._tensor import Tensor, geometry


def strided(owner: np.ndarray, shape, strides, offset) -> np.ndarray:
    """A view of the memory that ``owner`` starts, by element strides."""
    flat = owner.reshape(-1) if owner.flags.c_contiguous else owner
    item = owner.itemsize
    return np_as_strided(flat[offset : offset + 1] if flat.size else flat, shape=shape, strides=[s * item for s in strides])


@op(promote="none", view=True, vjp=dict(input=lambda grad, input_shape: TABLE["sum_to_size"].public(grad, input_shape)))
def expand(input, size):
    size = tuple(size)
    extra = len(size) - input.ndim
    target = tuple(input.shape[i - extra] if n == -1 else n for i, n in enumerate(size))
    return np.broadcast_to(input, target)


@op(promote="none", view=True, vjp=dict(input=lambda grad, input_shape: grad.reshape(input_shape)))
def view(input, size):
    out = input.view()
    out.shape = size
    return out


@op(promote="none", view=True, vjp=dict(input=lambda grad, dim: grad.squeeze(dim)))
def unsqueeze(input, dim):
    return np.expand_dims(input, dim)
