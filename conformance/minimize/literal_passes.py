"""The passes over tensor literals: dtype, shape, layout, values.

Sizes and dtypes must usually match between tensors, so each change is tried on all literals it could concern before it is tried on one.
A dim is never shrunk to 0: an empty tensor is a special case, not a simpler one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from decimal import Context, Decimal
from functools import partial
from typing import Final

from conformance.minimize.edits import Site, edit, edit_literals, literal_at, literal_sites, put
from conformance.minimize.literals import (
    FLOATS,
    cast,
    contiguous,
    decode,
    dense,
    drop_dim,
    elements,
    encode,
    keep,
    shifted,
    with_elements,
)
from conformance.minimize.simplicity import DTYPES, dtype_of, oddness_of_element, simpler_numbers
from conformance.minimize.steps import Steps, first_taken
from conformance.program import Atom, DType, Literal, Program

#: above this many, elements and indices are tried in runs only, and distinct values not one by one: it would cost too many runs
FEW: Final = 8

#: the exponent of 2 of each float dtype's smallest normal number
SMALLEST_NORMAL: Final = {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}

Change = Callable[[Literal], Literal]


# --- dtype -------------------------------------------------------------------------------------------------------------


def cast_dtypes(program: Program) -> Steps:
    """All literals and dtype arguments of one dtype become a plainer one, at once; then each literal by itself."""
    for old in reversed(DTYPES[1:]):
        program = yield from first_taken(program, (cast_all(program, old, new) for new in plainer_dtypes(old)))
    for site, literal in literal_sites(program):
        program = yield from first_taken(program, (put(program, site, cast(literal, new)) for new in plainer_dtypes(literal.dtype)))


def plainer_dtypes(dtype: str) -> Sequence[str]:
    """float32, and int64 for integers: nothing else is worth a run."""
    return ("float32",) if dtype in ("float64", "bfloat16", "float16", "int64") else ("float32", "int64") if dtype != "float32" else ()


def cast_all(program: Program, old: str, new: str) -> Program:
    def change(atom: Atom) -> Atom:
        if not isinstance(atom, (Literal, DType)) or dtype_of(atom) != old:
            return atom
        return cast(atom, new) if isinstance(atom, Literal) else DType(new)

    return edit(program, change)


# --- shape ---------------------------------------------------------------------------------------------------------------


def shrink_dims(program: Program) -> Steps:
    """Fewer indices in every dim of one size, integers of that value along with it or not; then in each dim by itself."""
    for size in sorted({n for _, literal in literal_sites(program) for n in literal.shape}, reverse=True):
        program = yield from first_taken(program, shrunk_everywhere(program, size))
    for site, literal in literal_sites(program):
        for dim, size in enumerate(literal.shape):
            now = literal_at(program, site)
            program = yield from first_taken(program, (put(program, site, keep(now, dim, kept)) for kept in fewer_indices(size)))


def shrunk_everywhere(program: Program, size: int) -> Iterator[Program]:
    for kept in fewer_indices(size):
        shrunk = edit_literals(program, partial(keep_everywhere, size=size, kept=kept))
        yield shrunk
        yield edit(shrunk, partial(same_integer, old=size, new=len(kept)))


def same_integer(atom: Atom, old: int, new: int) -> Atom:
    return new if type(atom) is int and atom == old else atom


def keep_everywhere(literal: Literal, size: int, kept: Sequence[int]) -> Literal:
    """Those indices of every dim of that size."""
    for dim, n in enumerate(literal.shape):
        literal = keep(literal, dim, kept) if n == size else literal
    return literal


def fewer_indices(size: int) -> list[tuple[int, ...]]:
    """What to keep of a dim: one end, two at one end, a half, all but one; the fewest first."""
    every = tuple(range(size))
    half = (size + 1) // 2
    dropped = every if size <= FEW else (0, size - 1)
    found = [every[:1], every[-1:], every[:2], every[-2:], every[:half], every[half:]]
    found += [(*every[:i], *every[i + 1 :]) for i in dropped]
    return sorted(dict.fromkeys(kept for kept in found if 0 < len(kept) < size), key=len)


def drop_dims(program: Program) -> Steps:
    """A dim of every literal of one rank, the first or the last; then each dim by itself."""
    for rank in sorted({len(literal.shape) for _, literal in literal_sites(program)} - {0}, reverse=True):
        program = yield from first_taken(program, (edit_literals(program, dropper(rank, dim)) for dim in (0, rank - 1)))
    for site, literal in literal_sites(program):
        for dim in reversed(range(len(literal.shape))):
            if literal.shape[dim]:
                program = yield put(program, site, drop_dim(literal_at(program, site), dim))


def dropper(rank: int, dim: int) -> Change:
    return lambda literal: drop_dim(literal, dim) if len(literal.shape) == rank and literal.shape[dim] else literal


# --- layout --------------------------------------------------------------------------------------------------------------


def lay_out_plainly(program: Program) -> Steps:
    """Contiguous; or at least without gaps, or without offset and unreached storage. All literals, then each."""
    program = yield edit_literals(program, contiguous)
    for site, literal in literal_sites(program):
        if not is_plain(literal):
            program = yield from first_taken(program, (put(program, site, layout(literal)) for layout in LAYOUTS))


def is_plain(literal: Literal) -> bool:
    return literal == contiguous(literal)


def tidy(literal: Literal) -> Literal:
    """The same layout, with zeros in the gaps and nothing behind the last element."""
    return with_elements(literal, elements(literal))


#: the plainest first
LAYOUTS: Final[tuple[Change, ...]] = (contiguous, dense, shifted, tidy)


# --- values --------------------------------------------------------------------------------------------------------------

#: an element of a dtype -> another; None leaves it
ElementChange = Callable[[str, bytes], bytes | None]


def simplify_values(program: Program) -> Steps:
    """All literals at once, then each by itself: as a whole, by distinct value, in ever shorter runs."""
    program = yield from first_taken(program, (edit_literals(program, each_element(change)) for change in WHOLESALE))
    for site, _ in literal_sites(program):
        literal = literal_at(program, site)
        program = yield from first_taken(program, (put(program, site, each_element(change)(literal)) for change in WHOLESALE))
        for part in (simplify_distinct, simplify_runs):
            program = yield from part(program, site)


def simplify_distinct(program: Program, site: Site) -> Generator[Program, Program, Program]:
    """All elements of one value together, the oddest value first."""
    literal = literal_at(program, site)
    values = set(elements(literal))
    if len(values) > FEW:
        return program
    for item in sorted(values, key=lambda item: (-oddness_of_element(literal.dtype, item), item)):
        candidates = (put(program, site, swapped(literal, item, new)) for new in simpler_elements(literal, item))
        program = yield from first_taken(program, candidates)
        literal = literal_at(program, site)
    return program


def simplify_runs(program: Program, site: Site) -> Generator[Program, Program, Program]:
    """Runs of elements become 0, 1 or 2, half of the literal at a time and less; single ones become any simpler element."""
    count = len(elements(literal_at(program, site)))
    size = count // 2
    while size > count // 64:  # a large literal whose every element counts is not tried element by element
        for start in range(0, count, size):
            literal = literal_at(program, site)
            program = yield from first_taken(program, (put(program, site, new) for new in simpler_runs(literal, start, size)))
        size //= 2
    return program


def simpler_runs(literal: Literal, start: int, size: int) -> Iterator[Literal]:
    items = elements(literal)
    run = items[start : start + size]
    if size == 1:
        yield from (with_elements(literal, [*items[:start], new, *items[start + 1 :]]) for new in simpler_elements(literal, run[0]))
        return
    for number in (0, 1, 2):
        yield with_elements(literal, [*items[:start], *(less_odd(literal.dtype, i, constant(number)) for i in run), *items[start + size :]])


def simpler_elements(literal: Literal, item: bytes) -> list[bytes]:
    """Less odd elements than ``item``: plain numbers, the plain NaN for one with a payload, and values that the literal holds already."""
    dtype = literal.dtype
    value = decode(dtype, item)
    numbers = [encode(dtype, n) for n in (*simpler_numbers(value), *([value] if value.is_nan() else []))]
    found = dict.fromkeys(new for new in (*numbers, *sorted(set(elements(literal)))) if new is not None)
    limit = oddness_of_element(dtype, item)
    return sorted((new for new in found if oddness_of_element(dtype, new) < limit), key=partial(oddness_of_element, dtype))


def swapped(literal: Literal, old: bytes, new: bytes) -> Literal:
    return with_elements(literal, [new if item == old else item for item in elements(literal)])


def each_element(change: ElementChange) -> Change:
    """That change made to every element which becomes less odd by it."""
    return lambda literal: with_elements(literal, [less_odd(literal.dtype, item, change) for item in elements(literal)])


def less_odd(dtype: str, item: bytes, change: ElementChange) -> bytes:
    new = change(dtype, item)
    return item if new is None or oddness_of_element(dtype, new) >= oddness_of_element(dtype, item) else new


def constant(number: int) -> ElementChange:
    return lambda dtype, _: encode(dtype, number)


def rounded(digits: int) -> ElementChange:
    """To so many significant digits; 0 digits: to a whole number."""

    def change(dtype: str, item: bytes) -> bytes | None:
        value = decode(dtype, item)
        return encode(dtype, value.to_integral_value() if not digits else Context(prec=digits).plus(value))

    return change


def ordinary_only(change: ElementChange) -> ElementChange:
    """NaN, infinities, -0.0 and denormals stay."""
    return lambda dtype, item: change(dtype, item) if is_ordinary(dtype, item) else None


def is_ordinary(dtype: str, item: bytes) -> bool:
    value = decode(dtype, item)
    if dtype not in FLOATS or (value.is_zero() and not value.is_signed()):
        return True
    return value.is_finite() and not value.is_zero() and abs(value) >= Decimal(2) ** SMALLEST_NORMAL[dtype]


#: the most aggressive first
WHOLESALE: Final[tuple[ElementChange, ...]] = (
    *(constant(number) for number in (0, 1, 2)),
    *(ordinary_only(constant(number)) for number in (0, 1, 2)),
    *(ordinary_only(rounded(digits)) for digits in (0, 1, 2)),
)
