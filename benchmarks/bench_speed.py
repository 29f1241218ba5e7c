"""refgrad beside torch: seconds per call, measured in turn in one process, on the tutorial's expression and on every op of the table.

An op's arguments are drawn by its own record: float32 tensors of shape (3,) that require grad (ops that need more dims get the fewest they
take), plus whatever else it asks for (indices, masks, numbers). *Backward* is the call followed by a backward from its first differentiable
output with a gradient of ones, the leaves' gradients cleared. Ratios are medians over repeats; the median op is the median over ops.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import figures
import torch

import refgrad
from conformance.generate.programs import Drawer, Mix, draw_arguments, drawn_ops
from conformance.generate.providers import Stream
from conformance.program import Program, Ref, Statement
from conformance.subjects.eager_torch import EagerTorch
from conformance.subjects.reference import Reference
from conformance.subjects.walk import Walk
from refgrad._table import TABLE
from refgrad._tensor import Tensor

ATTEMPTS = 40  # draws tried for an op until one runs on both
ENGINES = (Reference(), EagerTorch())


# --- the tutorial's expression ----------------------------------------------------------------------------------------------


def expression(torch_: Any) -> Callable[[], None]:
    """The tutorial's expression, forward and backward, on an engine with torch's API."""
    x = torch_.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def run() -> None:
        x.grad = None
        y = x + 2
        z = y * y * 2
        m = z.mean()
        m.backward()

    return run


# --- every op -----------------------------------------------------------------------------------------------------------------


class _Plain(Drawer):
    """Draws operands of one kind only: float32, shape (3,), contiguous, ordinary values, requiring grad."""

    least = 1  # dims of an operand for which the op's record asks nothing

    def shape(self, ranks: tuple[int, int] = (0, 9), *_: Any) -> tuple[int, ...]:
        return (*(2, 3, 2, 2)[: max(ranks[0], self.least) - 1], 3) if ranks[1] else ()

    def dtype(self, allowed: tuple[str, ...]) -> str:
        return "float32" if "float32" in allowed else allowed[0]

    def literal(self, dtype: str, shape: tuple[int, ...], recipe: str = "", layout: str = "", requires_grad: bool | None = None) -> Ref:
        recipe = recipe if recipe in ("positive", "unit") else "ordinary"
        return super().literal(dtype, shape, recipe, "contiguous", dtype == "float32" if requires_grad is None else requires_grad)


@dataclass
class Call:
    """One op's call on one engine: what to call, with what, the leaves, and the output that backward starts from, if any."""

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    leaves: list[Any]

    def forward(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    def root(self) -> int | None:
        """The place of the first output that requires grad."""
        out = self.forward()
        outs = out if isinstance(out, (tuple, list)) else (out,)
        return next((i for i, o in enumerate(outs) if o.requires_grad and o.grad_fn is not None), None)

    def both(self, place: int, ones_like: Callable[[Any], Any]) -> Callable[[], None]:
        """Forward and backward as one call."""
        first = self.forward()
        several = isinstance(first, (tuple, list))
        gradient = ones_like(first[place] if several else first).detach()

        def run() -> None:
            for leaf in self.leaves:
                leaf.grad = None
            out = self.function(*self.args, **self.kwargs)
            (out[place] if several else out).backward(gradient)

        return run


def drawn(op: str) -> tuple[list[Statement], list[Any], dict[str, Any]] | None:
    """Tensor statements and arguments for the op, from the first seed whose call runs on both engines; None where none does."""
    for seed in range(ATTEMPTS):
        g = _Plain(Stream(seed), Mix(), Walk(Reference(), Program((), hooked=False), tensor_type=Tensor))
        g.least = 1 + (seed >= ATTEMPTS // 2)
        try:
            args, kwargs = draw_arguments(g, op)
            for engine in ENGINES:
                call_on(engine, op, g.statements, args, kwargs).forward()
        except Exception:  # drawn to be illegal, or beyond one of the two: another draw
            continue
        return g.statements, args, kwargs
    return None


def call_on(engine: Any, op: str, statements: list[Statement], args: list[Any], kwargs: dict[str, Any]) -> Call:
    walk = Walk(engine, Program((), hooked=False), tensor_type=engine.module.Tensor)
    for s in statements:
        walk.bind(s, engine.literal(s.args[0], bool(s.keyword("requires_grad", False))))
    bound = [walk.resolve(a) for a in args]
    named = {k: walk.resolve(v) for k, v in kwargs.items()}
    leaves = [t for t in walk.names.values() if t.requires_grad]
    if TABLE[op].function:
        return Call(engine.function(op), bound, named, leaves)
    return Call(getattr(engine.module.Tensor, op), bound, named, leaves)


def measure(op: str, times: int, repeats: int) -> tuple[float | None, float | None]:
    """refgrad/torch of the op: forward, and forward with backward; None where it cannot be called or differentiated."""
    found = drawn(op)
    if found is None:
        return None, None
    ours, theirs = (call_on(engine, op, *found) for engine in ENGINES)
    forward = figures.in_turn(ours.forward, theirs.forward, times, repeats)[2]
    place = theirs.root()
    if place is None or ours.root() != place:
        return forward, None
    runs = ours.both(place, refgrad.ones_like), theirs.both(place, torch.ones_like)
    try:
        for run in runs:
            run()
    except RuntimeError:  # a derivative that torch does not implement
        return forward, None
    return forward, figures.in_turn(*runs, times, repeats)[2]


# --- the figures --------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=40, help="calls per measurement")
    parser.add_argument("--repeats", type=int, default=9, help="measurements per op")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="list the N ops with the highest ratios, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    figures.heading()
    tutorial(options.repeats)
    names, _ = drawn_ops(Mix())
    ratios = {name: measure(name, options.times, options.repeats) for name in names}
    ops(ratios)
    print(f"\nnot measured: {', '.join(name for name, (forward, _) in ratios.items() if forward is None) or 'none'}")
    if options.slowest:
        slowest(ratios, options.slowest)


def tutorial(repeats: int) -> None:
    ours, theirs = expression(refgrad), expression(torch)
    for run in (ours, theirs):
        figures.seconds(run, 300)
    mine, its, ratio = figures.in_turn(ours, theirs, 300, 4 * repeats)
    rows = [["y = x + 2; z = y * y * 2; m = z.mean(); m.backward()", f"{mine * 1e6:.1f}", f"{its * 1e6:.1f}", f"{ratio:.2f}"]]
    figures.table("the tutorial's expression, x of shape (3,)", ["", "refgrad µs", "torch µs", "ratio"], rows)


def ops(ratios: dict[str, tuple[float | None, float | None]]) -> None:
    rows = []
    for place, way in enumerate(("forward", "forward and backward")):
        found = sorted(r for pair in ratios.values() if (r := pair[place]) is not None)
        quarter = statistics.quantiles(found, n=4)
        at_most_one = sum(r <= 1 for r in found) / len(found)
        rows.append([way, str(len(found)), *(f"{q:.2f}" for q in quarter), f"{found[-1]:.1f}", f"{at_most_one:.0%}"])
    figures.table(
        "refgrad/torch over ops, float32, shape (3,), requires grad",
        ["", "ops", "quarter", "median", "three quarters", "worst", "at most 1"],
        rows,
    )


def slowest(ratios: dict[str, tuple[float | None, float | None]], n: int) -> None:
    for place, way in enumerate(("forward", "forward and backward")):
        order = sorted(((r, name) for name, pair in ratios.items() if (r := pair[place]) is not None), reverse=True)
        print(f"\n{way}: " + ", ".join(f"{name} {ratio:.1f}" for ratio, name in islice(order, n)))


if __name__ == "__main__":
    main()
