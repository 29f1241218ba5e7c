"""What was drawn and judged, counted: the ops that count, op × dtype, op × pitfall, what was never drawn, the worst error of each op."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from conformance.events import Event, RunError

DTYPES: Final = ("float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")
FLOATS: Final = frozenset(DTYPES[:4])
#: in how many float dtypes and layouts an op's values and gradients must be judged before it counts
ENOUGH: Final = 2


@dataclass(frozen=True, slots=True)
class OpRow:
    """Where an op's values and gradients were judged. Only float dtypes are listed; counts are of judged tensors."""

    op: str
    values: int
    grads: int
    value_dtypes: tuple[str, ...]
    grad_dtypes: tuple[str, ...]
    value_layouts: tuple[str, ...]
    grad_layouts: tuple[str, ...]

    @property
    def counts(self) -> bool:
        return min(map(len, (self.value_dtypes, self.grad_dtypes, self.value_layouts, self.grad_layouts))) >= ENOUGH


@dataclass(frozen=True, slots=True)
class Grid:
    """A number for each op and column; a cell that was never drawn is 0. ``detail`` says more of a cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    detail: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst error seen of an op, in ulps, by dtype; None where nothing was measured."""

    op: str
    facet: str
    by_dtype: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    drawn: tuple[str, ...]
    never_drawn: tuple[str, ...]
    ops: tuple[OpRow, ...]
    coverage: Grid
    pitfalls: Grid
    accuracy_dtypes: tuple[str, ...]
    accuracy: tuple[Worst, ...]

    @property
    def counting(self) -> tuple[OpRow, ...]:
        return tuple(row for row in self.ops if row.counts)


def tabulate(start: Event, batches: Sequence[Event]) -> Tables:
    """All tables of a run. Raises RunError for a count under a name that is not of the declared form."""
    coverage = {_split(name, 4): number for name, number in added(batch["coverage"] for batch in batches).items()}
    pitfalls = {_split(name, 3): number for name, number in added(batch["pitfalls"] for batch in batches).items()}
    drawn = {op for op, *_ in (*coverage, *pitfalls)}
    ops = sorted(drawn | set(start["ops"]))
    dtypes, worst = _accuracy(batches)
    return Tables(
        drawn=tuple(op for op in ops if op in drawn),
        never_drawn=tuple(op for op in ops if op not in drawn),
        ops=tuple(_op_row(op, [(parts, n) for parts, n in coverage.items() if parts[0] == op]) for op in ops),
        coverage=_grid(ops, [(op, dtype, facet, n) for (op, dtype, facet, _), n in coverage.items()]),
        pitfalls=_grid(ops, [(op, pitfall, dtype, n) for (op, pitfall, dtype), n in pitfalls.items()]),
        accuracy_dtypes=dtypes,
        accuracy=worst,
    )


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Several tallies as one, the commonest first."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _split(name: str, parts: int) -> tuple[str, ...]:
    found = tuple(name.split("|"))
    if len(found) != parts:
        raise RunError(f"a batch counts {name!r}: {len(found)} parts where {parts} were expected; was it written by another version?")
    return found


def _op_row(op: str, counts: Sequence[tuple[tuple[str, ...], int]]) -> OpRow:
    def judged(facet: str) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
        cells = [(dtype, layout, n) for (_, dtype, of, layout), n in counts if of == facet and n]
        floats = [(dtype, layout) for dtype, layout, _ in cells if dtype in FLOATS]
        return sum(n for *_, n in cells), _in_order({dtype for dtype, _ in floats}), tuple(sorted({layout for _, layout in floats}))

    values, value_dtypes, value_layouts = judged("value")
    grads, grad_dtypes, grad_layouts = judged("grad")
    return OpRow(op, values, grads, value_dtypes, grad_dtypes, value_layouts, grad_layouts)


def _grid(ops: Sequence[str], cells: Sequence[tuple[str, str, str, int]]) -> Grid:
    """Cells are (op, column, what the detail tells apart, number)."""
    total: Counter[tuple[str, str]] = Counter()
    parts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for op, column, part, number in cells:
        total[op, column] += number
        parts[op, column][part] += number
    columns = _in_order({column for _, column in total})
    detail = {cell: ", ".join(f"{part} {n:,}" for part, n in sorted(found.items())) for cell, found in parts.items()}
    return Grid(columns, tuple((op, tuple(total[op, column] for column in columns)) for op in ops), detail)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (DTYPES.index(name) if name in DTYPES else len(DTYPES), name)))


def _accuracy(batches: Sequence[Event]) -> tuple[tuple[str, ...], tuple[Worst, ...]]:
    worst: dict[tuple[str, ...], float] = {}
    for batch in batches:
        for name, error in batch["accuracy"].items():
            place = _split(name, 3)
            worst[place] = max(error, worst.get(place, 0.0))
    dtypes = _in_order({dtype for _, dtype, _ in worst})
    rows = sorted({(op, facet) for op, _, facet in worst}, key=lambda row: (row[0], row[1] != "value"))
    return dtypes, tuple(Worst(op, facet, tuple(worst.get((op, dtype, facet)) for dtype in dtypes)) for op, facet in rows)
