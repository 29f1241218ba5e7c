"""dtypes, their categories, promotion, unit roundoff, and the one helper that narrows (rounds once, always)."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Final

import ml_dtypes
import numpy as np

BOOL, INT, FLOAT = 0, 1, 2  # torch's type categories, in the order in which they win


class dtype:
    """A torch dtype. Compares by identity, prints as ``torch.float32``."""

    __slots__ = ("category", "eta", "itemsize", "largest", "name", "np", "scalar_type", "tensor_type", "unit", "wide")

    def __init__(self, name: str, np_dtype: Any, category: int, tensor_type: str, unit: float = 0.0, eta: float = 0.0) -> None:
        self.name = name
        self.np = np.dtype(np_dtype)
        self.category = category
        self.itemsize = self.np.itemsize
        self.tensor_type = tensor_type  # as torch's version errors name it
        self.scalar_type = tensor_type.removesuffix("Tensor")  # as most errors name it: ``Long``, ``Float``
        self.unit = unit  # unit roundoff: half an ulp of 1
        self.eta = eta  # the smallest positive number
        self.largest = float(np.finfo(self.np).max) if name in ("float32", "float64", "float16") else 3.3895313892515355e38
        #: the numpy dtype one precision up, in which exactness is computed
        self.wide: np.dtype[Any] = {"float64": np.dtype(np.longdouble)}.get(name, np.dtype(np.float64)) if category == FLOAT else self.np

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        return self.name not in ("bool", "uint8")

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (by_name, (self.name,))


bool_ = dtype("bool", np.bool_, BOOL, "BoolTensor")
uint8 = dtype("uint8", np.uint8, INT, "ByteTensor")
int8 = dtype("int8", np.int8, INT, "CharTensor")
int16 = dtype("int16", np.int16, INT, "ShortTensor")
int32 = dtype("int32", np.int32, INT, "IntTensor")
int64 = dtype("int64", np.int64, INT, "LongTensor")
float16 = dtype("float16", np.float16, FLOAT, "HalfTensor", 2.0**-11, 2.0**-24)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOAT, "BFloat16Tensor", 2.0**-8, 2.0**-133)
float32 = dtype("float32", np.float32, FLOAT, "FloatTensor", 2.0**-24, 2.0**-149)
float64 = dtype("float64", np.float64, FLOAT, "DoubleTensor", 2.0**-53, 2.0**-1074)

ALL: Final = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
BY_NAME: Final = {d.name: d for d in ALL}
OF: Final[dict[Any, dtype]] = {d.np: d for d in ALL}
#: a dtype's name -> its element type, as C++ names it in errors
CPP_NAMES: Final = {
    "float32": "float",
    "float64": "double",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "int64": "long int",
    "int32": "int",
    "int16": "short int",
    "int8": "signed char",
    "uint8": "unsigned char",
    "bool": "bool",
}
#: the same, where an error is about a number that does not fit
ELEMENT_NAMES: Final = {
    **CPP_NAMES,
    **{name: f"{name}_t" for name in ("int8", "int16", "int64", "uint8")},
}
ALIASES: Final = {"float": float32, "double": float64, "half": float16, "long": int64, "int": int32, "short": int16}
F16, BF16, F32, F64 = float16.np, bfloat16.np, float32.np, float64.np
_DEFAULT = [float32]


def by_name(name: str) -> dtype:
    return BY_NAME[name]


def get_default_dtype() -> dtype:
    return _DEFAULT[0]


def as_dtype(value: Any) -> dtype | None:
    """A dtype for what torch takes as ``dtype=``: one of ours, Python's float, int and bool, or None."""
    if value is None or isinstance(value, dtype):
        return value
    if value is float:
        return float64
    if value is int:
        return int64
    if value is bool:
        return bool_
    raise TypeError(f"dtype must be torch.dtype, not {type(value).__name__}")


# --- promotion -----------------------------------------------------------------------------------------------------------

_SIGNED = (int8, int16, int32, int64)


@cache
def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype both fit in, by torch's lattice (float16 with bfloat16 gives float32)."""
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == INT:
        if uint8 in (a, b):
            other = b if a is uint8 else a
            return int16 if other is int8 else other
        return max(a, b, key=_SIGNED.index)
    if {a, b} == {float16, bfloat16}:
        return float32
    return a if a.itemsize > b.itemsize else b


def scalar_dtype(value: Any) -> dtype:
    """What a Python number counts as in promotion."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    return int64 if isinstance(value, int) else get_default_dtype()


@lru_cache(maxsize=4096)
def result_type(*operands: tuple[int, dtype]) -> dtype:
    """The common dtype of operands given as (priority, dtype): 2 for tensors with dims, 1 for 0-d tensors, 0 for Python numbers.

    A lower priority only takes part where its category is higher; Python floats then count as the default dtype.
    """
    result: dtype | None = None
    for priority in (2, 1, 0):
        here: dtype | None = None
        for rank, d in operands:
            if rank == priority:
                here = d if here is None else promote_types(here, d)
        if here is not None:
            if result is None:
                result = here
            elif here.category > result.category:
                result = here if result.category != FLOAT else promote_types(result, here)
    assert result is not None
    return result


# --- narrowing -----------------------------------------------------------------------------------------------------------


def narrow(array: np.ndarray, to: np.dtype[Any]) -> np.ndarray:
    """``array`` rounded once to ``to``.

    ml_dtypes casts float64 to bfloat16 through float32, which rounds twice; rounding to odd on the way to float32 makes the second
    rounding right (Boldo and Melquiond, 2008: innocuous with at least two extra bits). numpy's longdouble to float16 is direct.
    """
    if array.dtype is to:
        return array
    if to is BF16 and array.dtype.itemsize > 4 and array.dtype.kind == "f":
        return _round_to_odd(array).astype(BF16)
    return array.astype(to)


def _round_to_odd(wide: np.ndarray) -> np.ndarray:
    near = np.asarray(wide.astype(F32))
    bits = near.view(np.int32)
    exact = near.astype(wide.dtype)
    inexact = (exact != wide) & np.isfinite(near)
    # towards zero first: step back where rounding went away from zero, then set the last bit
    away = inexact & (np.abs(exact) > np.abs(wide))
    bits = np.where(away, bits - 1, bits)
    bits = np.where(inexact, bits | 1, bits)
    return np.asarray(bits, dtype=np.int32).view(F32)
