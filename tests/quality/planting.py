"""How a defect is planted in real torch: by replacing Python attributes of the torch package, in a worker process that does nothing else.

While the harness reads bits or makes literals, and while a defect itself computes, torch is as it was: a defect shows in what programs
call, nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from conformance.program import Literal
from conformance.subjects.eager_torch import EagerTorch
from refgrad._table import TABLE

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect. ``op`` and ``facet`` are what a new cause must name, ``part`` says which part of torch it is in."""

    op: str
    facet: str
    part: str
    what: str
    plant: Callable[[], None]


PARTS: Final = ("values", "gradients", "bookkeeping", "state", "optimizer")
MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(op: str, facet: str, part: str, what: str) -> Callable[[Callable[[], None]], Callable[[str], Planted]]:
    """Declares a mutant. The decorated function's name becomes that of the subject: called with a device, it plants the defect for good."""

    def declare(plant: Callable[[], None]) -> Callable[[str], Planted]:
        MUTANTS[plant.__name__] = Mutant(op, facet, part, what, plant)

        def make(device: str) -> Planted:
            plant()
            return Planted(device)

        return make

    return declare


# --- torch as it was --------------------------------------------------------------------------------------------------------

_sound = False


@contextmanager
def sound_torch() -> Iterator[None]:
    """No defect shows inside."""
    global _sound
    before, _sound = _sound, True
    try:
        yield
    finally:
        _sound = before


class Planted(EagerTorch):
    """The subject. Its own reading and making of tensors is not what the defect is in."""

    def literal(self, literal: Literal, requires_grad: bool) -> Any:
        with sound_torch():
            return super().literal(literal, requires_grad)

    def bits(self, tensor: Any) -> np.ndarray:
        with sound_torch():
            return super().bits(tensor)


def patch(place: Any, name: str, wrap: Callable[[Function], Function]) -> None:
    """``place.name`` becomes ``wrap(original)``, which may call whatever it likes of torch without meeting itself."""
    original = getattr(place, name)
    defective = wrap(original)

    def planted(*args: Any, **kwargs: Any) -> Any:
        if _sound:
            return original(*args, **kwargs)
        with sound_torch():
            return defective(*args, **kwargs)

    setattr(place, name, planted)


# --- defects of an op -------------------------------------------------------------------------------------------------------

_OPERATORS: Final = {"add": ("__add__", "__radd__"), "mul": ("__mul__", "__rmul__"), "remainder": ("__mod__",)}


def replace(op: str, wrap: Callable[[Function], Function]) -> None:
    """Every out-of-place spelling of the op: the function, the method, the operators."""
    *path, name = TABLE[op].path.split(".")
    place: Any = torch
    for part in path:
        place = getattr(place, part)
    if hasattr(place, name):
        patch(place, name, wrap)
    for method in (op, *_OPERATORS.get(op, ())):
        if hasattr(torch.Tensor, method):
            patch(torch.Tensor, method, wrap)


def wrong_value(op: str, formula: Function) -> None:
    """The op's floating-point result holds what ``formula(*args, **kwargs)`` gives (None: what it held); all else about it is right."""

    def wrap(original: Function) -> Function:
        def defective(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            if out.is_floating_point() and out.numel():
                with torch.no_grad():
                    wrong = formula(*map(_plain, args), **kwargs)
                    if wrong is not None:
                        out.detach().data.copy_(wrong)
            return out

        return defective

    replace(op, wrap)


def wrong_gradient(op: str, formula: Function) -> None:
    """The op's node sends ``formula(sent, arrived, out, *args, **kwargs)`` in place of ``sent``: one gradient, or None, per input."""

    def wrap(original: Function) -> Function:
        def defective(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            if out.grad_fn is not None:
                shown, given = out.detach().clone(), [_kept(a) for a in args]
                out.grad_fn.register_hook(lambda sent, arrived: _defective(formula, sent, arrived[0], shown, *given, **kwargs))
            return out

        return defective

    replace(op, wrap)


def _defective(formula: Function, sent: tuple[Any, ...], *rest: Any, **kwargs: Any) -> tuple[Any, ...]:
    with sound_torch():
        return tuple(formula(sent, *rest, **kwargs))


def wrong_result(op: str, change: Callable[[Any], Any]) -> None:
    """The op returns ``change(result)``."""
    replace(op, lambda original: lambda *args, **kwargs: change(original(*args, **kwargs)))


def _plain(argument: Any) -> Any:
    """Without its graph, and sharing nothing with it that tells of a write."""
    return argument.detach() if isinstance(argument, torch.Tensor) else argument


def _kept(argument: Any) -> Any:
    """As it is now: a program may write into it before the backward comes."""
    return argument.detach().clone() if isinstance(argument, torch.Tensor) else argument


def leaves_below(root: Any) -> list[Any]:
    """The leaves that a backward from ``root`` may accumulate into."""
    if root.grad_fn is None:
        return [root] if root.requires_grad else []
    seen, open_, leaves = set(), [root.grad_fn], []
    while open_:
        node = open_.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        open_ += [following for following, _ in node.next_functions if following is not None]
    return leaves
