"""The small public functions about dtypes."""

from __future__ import annotations

from typing import Any

from refgrad._dispatch import common_dtype
from refgrad._dtypes import dtype
from refgrad._tensor import Tensor


def result_type(tensor1: Any, tensor2: Any) -> dtype:
    """The dtype that an arithmetic op of these two (tensors or Python numbers) gives."""
    return common_dtype([tensor1, tensor2])


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether a cast keeps the category (bool < integer < float)."""
    return from_.category <= to.category


def is_tensor(obj: Any) -> bool:
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    return input.is_floating_point()


def numel(input: Tensor) -> int:
    return input.numel()
