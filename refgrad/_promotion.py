"""The small public functions about dtypes and closeness."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from refgrad._dispatch import common_dtype
from refgrad._dtypes import FLOAT, bfloat16, dtype, get_default_dtype
from refgrad._errors import error
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


class finfo:
    """The limits of a floating dtype (the default one, where none is given)."""

    def __init__(self, type: dtype | None = None) -> None:
        kind = get_default_dtype() if type is None else type
        if kind.category != FLOAT:
            raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo to handle 'torch.finfo'")
        limits: Any = ml_dtypes.finfo(kind.np) if kind is bfloat16 else np.finfo(kind.np)
        self.bits, self.dtype, self.max, self.min = kind.itemsize * 8, kind.name, float(limits.max), float(limits.min)
        self.eps, self.tiny, self.resolution = float(limits.eps), float(limits.tiny), float(f"1e-{limits.precision}")
        self.smallest_normal = self.tiny

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype."""

    def __init__(self, type: dtype) -> None:
        if type.category == FLOAT:
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'")
        limits = np.iinfo(type.np)
        self.bits, self.dtype, self.min, self.max = type.itemsize * 8, type.name, int(limits.min), int(limits.max)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


def isclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    """Where ``|input - other| <= atol + rtol * |other|``, reckoned in their dtype (integers: in the default one)."""
    return _close("isclose", input, other, rtol, atol, equal_nan)


def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether ``isclose`` holds for every element."""
    return bool(_close("allclose", input, other, rtol, atol, equal_nan).all())


def _close(name: str, a: Any, b: Any, rtol: float, atol: float, equal_nan: bool) -> Any:
    for position, (argument, value) in enumerate((("input", a), ("other", b)), 1):
        if not isinstance(value, Tensor):
            raise error("must_be_tensor", name=name, argument=argument, position=position, found=type(value).__name__)
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{a.dtype.scalar_type} did not match {b.dtype.scalar_type}")
    for bound, limit in (("rtol", rtol), ("atol", atol)):
        if limit < 0:
            raise RuntimeError(f"{bound} must be greater than or equal to zero, but got {limit:g}")
    a, b = a.detach(), b.detach()
    close = a == b
    if equal_nan and a.is_floating_point():
        close = close | ((a != a) & (b != b))
    if not rtol and not atol:
        return close
    wide = b if b.is_floating_point() else b.to(get_default_dtype())
    apart = (a - wide).abs()
    return close | ((apart < float("inf")) & (apart <= (wide * rtol).abs() + atol))


for _function in (isclose, allclose):
    setattr(Tensor, _function.__name__, _function)
