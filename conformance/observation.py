"""What a subject showed after one statement.

An observation holds, per live tensor name (``t3``, and ``t3.grad`` for its ``.grad``), a ``TensorState`` and the bits. Fields that a
subject cannot show are ``ABSENT``: counted as not compared, never as passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np


class Absent:
    """The one value of a field that a subject cannot show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "absent"

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class TensorState(NamedTuple):
    """Everything but the values. Any field may be ABSENT."""

    dtype: Any  # "float32"
    shape: Any  # tuple of int
    strides: Any  # in elements
    offset: Any  # in elements
    alias: Any  # the earliest bound live name that shares this storage (itself, when nobody earlier does)
    base: Any  # the live name of `_base`; "unnamed" where the base has no live name; None where it is no view
    requires_grad: Any
    is_leaf: Any
    grad_fn: Any  # class name, "" when there is none
    output_nr: Any
    retains_grad: Any
    is_inference: Any
    # writes since this object was first seen (a fresh gradient's own `_version` tells how it was computed); ABSENT for inference tensors,
    # which do not track it
    version: Any
    identity: Any  # how many distinct objects this name has been bound to so far (only `.grad` ever changes)


#: state field -> the facet under which a difference in it is reported
FACET_OF_FIELD: Final[dict[str, str]] = {
    "dtype": "dtype",
    "shape": "shape",
    "strides": "strides",
    "offset": "strides",
    "alias": "aliasing",
    "base": "aliasing",
    "requires_grad": "requires_grad",
    "is_leaf": "is_leaf",
    "grad_fn": "grad_fn",
    "output_nr": "grad_fn",
    "retains_grad": "requires_grad",
    "is_inference": "requires_grad",
    "version": "version",
    "identity": "grad_identity",
}


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that a statement raised: its type's name and its text, as the subject gave it."""

    type: str
    message: str


@dataclass(slots=True)
class Arrival:
    """A gradient that reached one slot of a named tensor in one backward call, before the program's own hooks. A slot is one gradient edge
    of a name.

    ``flowed`` is what the program's hooks on that slot made of it (the same array when there are none). ``order`` is 1 for the gradient of
    a named tensor, 2 for the gradient that reached an arrival of a ``create_graph`` backward, and so on; ``of`` is then that arrival's
    (statement, place in its observation's list).
    """

    name: str
    slot: int
    value: np.ndarray
    flowed: np.ndarray
    order: int = 1
    of: tuple[int, int] | None = None
    differentiable: bool = False  # the gradient has a graph of its own (create_graph), and is hooked in turn


@dataclass(slots=True)
class Observation:
    """After the statement at ``index``: what was raised and warned, the state and bits of every live tensor, what arrived."""

    index: int
    raised: Raised | None = None
    warnings: tuple[str, ...] = ()
    states: dict[str, TensorState] | None = None  # None where the program says not to look
    values: dict[str, np.ndarray] = field(default_factory=dict)  # only those whose bits or layout changed since the last look
    arrivals: list[Arrival] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)  # a name -> the earlier name of the same tensor object
    slots: dict[str, int] = field(default_factory=dict)  # the current slot of every name that has been hooked
    unsupported: str = ""  # NotImplementedError's text: skipped, and counted
