"""A tensor as text, character for character as torch 2.13 prints it, from a numpy array and plain facts about the tensor.

What decides the text:

* All elements share one format. Finite nonzero elements choose it: whole numbers print as ``1.``, others with ``precision`` digits;
  scientific notation where the largest is over 1000 times the smallest or over 1e8, or (not whole) where the smallest is under
  1e-4. Zeros, infinities and nans neither choose the format nor widen the column. Of a summarized tensor only what shows is asked.
* A tensor of more than ``threshold`` elements shows ``edgeitems`` at each end of a long dimension.
* A row breaks where ``linewidth`` is reached; so does the list of suffixes after the closing bracket.
* ``dtype=`` is left out for the default dtype, int64 and bool; for an empty tensor only for the default dtype. ``size=`` shows for
  an empty tensor that is not 1-d, and always under ``edgeitems=0``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refgrad import _dtypes

__all__ = ["PrintOptions", "format_value", "get_printoptions", "set_printoptions", "size_repr", "tensor_repr"]

PREFIX = "tensor("


@dataclasses.dataclass(frozen=True)
class PrintOptions:
    """``precision`` in digits after the point, ``threshold`` and ``edgeitems`` in elements, ``linewidth`` in characters.

    ``sci_mode`` forces scientific notation or forbids it; None lets the values choose.
    """

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES: dict[str, PrintOptions] = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}

_options = PrintOptions()


def get_printoptions() -> PrintOptions:
    """The options in force."""
    return _options


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print, for the whole process.

    A profile (``default``, ``short`` or ``full``; others are ignored) comes first and sets all but ``sci_mode``; what
    is None stays as it was. ``sci_mode`` alone is set by every call, so leaving it out gives the choice back to the values.
    """
    global _options
    start = PROFILES.get(profile, _options) if profile is not None else _options
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    _options = dataclasses.replace(start, sci_mode=sci_mode, **changes)


def tensor_repr(
    array: np.ndarray,
    *,
    dtype_name: str | None = None,
    requires_grad: bool = False,
    grad_fn_name: str | None = None,
    tangent: str | None = None,
    default_dtype_name: str | None = None,
) -> str:
    """``repr`` of a tensor with these values.

    ``dtype_name`` is without ``torch.`` and defaults to the array's own; ``default_dtype_name`` defaults to the one in force.
    ``grad_fn_name`` (``AddBackward0``) is None for a leaf; ``tangent`` is the text of a forward-mode tangent.
    """
    dtype_name = dtype_name or array.dtype.name
    default_dtype_name = default_dtype_name or _dtypes.get_default_dtype().name
    suffixes = _shape_and_dtype(array, dtype_name, default_dtype_name)
    if grad_fn_name is not None:
        suffixes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    if tangent is not None:
        suffixes.append(f"tangent={tangent}")
    return _join_suffixes(PREFIX + _body(array), suffixes) + ")"


def format_value(value: Any, spec: str) -> str:
    """``format`` of a tensor of one element and no dimensions: that of the Python number ``value`` that it holds."""
    return format(value, spec)


def size_repr(shape: Sequence[int]) -> str:
    """``repr`` of a ``torch.Size``."""
    return f"torch.Size({list(shape)})"


# ---------------------------------------------------------------------------------------------------------- suffixes


def _shape_and_dtype(array: np.ndarray, dtype_name: str, default_dtype_name: str) -> list[str]:
    empty = array.size == 0
    unsaid = {default_dtype_name} if empty else {default_dtype_name, "int64", "bool"}
    suffixes = []
    if (empty and array.ndim != 1) or (not empty and not _options.edgeitems):
        suffixes.append(f"size={array.shape}")
    if dtype_name not in unsaid:
        suffixes.append(f"dtype=torch.{dtype_name}")
    return suffixes


def _join_suffixes(text: str, suffixes: Sequence[str]) -> str:
    """Each suffix goes on the line, or on the next one where it and two more characters would not fit."""
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * len(PREFIX) + suffix
            column = len(PREFIX) + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text


# ---------------------------------------------------------------------------------------------------------- elements


@dataclasses.dataclass(frozen=True)
class _Column:
    """How each element is written: ``write`` gives its text, which is then padded on the left to ``width``."""

    write: Callable[[Any], str]
    width: int

    def __call__(self, element: Any) -> str:
        return self.write(element).rjust(self.width)


def _column_for(shown: np.ndarray) -> _Column:
    """The format that fits these elements (bool, integer, or float64 for every floating dtype)."""
    if shown.dtype.kind != "f":
        return _Column(str, max((len(str(element)) for element in shown.ravel().tolist()), default=1))
    deciding = shown[np.isfinite(shown) & (shown != 0)]
    if not deciding.size:
        return _Column(_float_writer(exponents=False, whole=True), 1)
    whole = bool((deciding == np.ceil(deciding)).all())
    exponents = _wants_exponents(np.abs(deciding), whole) if _options.sci_mode is None else bool(_options.sci_mode)
    write = _float_writer(exponents, whole)
    return _Column(write, max(len(write(element)) for element in deciding.tolist()))


def _wants_exponents(magnitudes: np.ndarray, whole: bool) -> bool:
    largest, smallest = float(magnitudes.max()), float(magnitudes.min())
    return largest / smallest > 1000.0 or largest > 1e8 or (not whole and smallest < 1e-4)


def _float_writer(exponents: bool, whole: bool) -> Callable[[float], str]:
    if exponents:
        return f"{{:.{_options.precision}e}}".format
    if whole:
        return lambda element: f"{element:.0f}." if math.isfinite(element) else str(element)
    return f"{{:.{_options.precision}f}}".format


# ---------------------------------------------------------------------------------------------------------- brackets


def _body(array: np.ndarray) -> str:
    if array.size == 0:
        return "[]"
    values = array if array.dtype.kind in "biu" else array.astype(np.float64)
    summarize = array.size > _options.threshold
    column = _column_for(_shown(values) if summarize else values)
    return _nested(values, column, summarize, len(PREFIX))


def _is_cut(array: np.ndarray, summarize: bool) -> bool:
    return summarize and array.shape[0] > 2 * _options.edgeitems


def _shown(values: np.ndarray) -> np.ndarray:
    """The elements at the corners, which are those that a summary shows."""
    edge = _options.edgeitems
    for axis, length in enumerate(values.shape):
        if length > 2 * edge:
            values = np.take(values, [*range(edge), *range(length - edge, length)], axis=axis)
    return values


def _nested(values: np.ndarray, column: _Column, summarize: bool, indent: int) -> str:
    """The brackets and what stands in them; ``indent`` is the column of the opening bracket."""
    if values.ndim == 0:
        return column(values.item())
    if summarize and not _options.edgeitems:
        return "[...]"
    if values.ndim == 1:
        return _row(values, column, summarize, indent)
    edge = _options.edgeitems if _is_cut(values, summarize) else len(values)
    parts = [_nested(part, column, summarize, indent + 1) for part in values[:edge]]
    if edge < len(values):
        parts += ["...", *(_nested(part, column, summarize, indent + 1) for part in values[-edge:])]
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _row(values: np.ndarray, column: _Column, summarize: bool, indent: int) -> str:
    per_line = max(1, math.floor((_options.linewidth - indent) / (column.width + 2)))
    cells = _cells(values, column, summarize)
    lines = [", ".join(cells[i : i + per_line]) for i in range(0, len(cells), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _cells(values: np.ndarray, column: _Column, summarize: bool) -> list[str]:
    if not _is_cut(values, summarize):
        return [column(element) for element in values.tolist()]
    edge = _options.edgeitems
    first, last = values[:edge].tolist(), values[-edge:].tolist()
    return [*map(column, first), " ...", *map(column, last)]
