"""The record of one op, and where records are kept.

A record's ``draw(drawer)`` returns (args, kwargs) as atoms; it may ask the drawer for tensors that satisfy a constraint. ``recipe``
restricts the values of fresh operands (a logarithm likes positive ones), ``dtypes`` what the op takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

FLOATS: Final[tuple[str, ...]] = ("float32", "float64", "bfloat16", "float16")
INTS: Final[tuple[str, ...]] = ("int64", "int32", "int16", "int8", "uint8")


@dataclass(frozen=True)
class Info:
    """One op's record."""

    draw: Callable[..., tuple[list[Any], dict[str, Any]]] | None = None
    recipe: str = ""  # the recipe for fresh operands in place of a drawn one, most of the time
    dtypes: tuple[str, ...] = FLOATS
    ranks: tuple[int, int] = (0, 9)
    weight: int = 10
    forms: tuple[str, ...] = ()  # restrict the spellings (call, method)
    drawn: bool = True
    short: bool = False  # no long vector is drawn: the result has the square of its elements, or as many outputs as it has


RECORDS: Final[dict[str, Info]] = {}


def record(*names: str, **fields: Any) -> None:
    """Declares the record of these ops. Raises ValueError where one has a record already."""
    for name in names:
        if name in RECORDS:
            raise ValueError(f"op {name} has two records")
        RECORDS[name] = Info(**fields)


def info(name: str) -> Info:
    return RECORDS.get(name, DEFAULT)


DEFAULT: Final = Info()
