"""What "simpler" means beyond ``Program.sort_key``: the order in which the minimizer may only ever go down."""

from __future__ import annotations

from collections import Counter
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

from conformance.minimize.edits import canonical_names, literal_sites, sites
from conformance.minimize.literals import decode, elements, encode
from conformance.program import ITEMSIZE, Atom, DType, Literal, Program, Ref, Slice

#: dtypes from the plainest on
DTYPES = ("float32", "int64", "bool", "float64", "bfloat16", "float16", "int32", "int16", "int8", "uint8")

#: spellings that a plainer one may stand for; every kind not named here is plain
SPELLINGS = {"operator": 1, "method": 1, "inplace": 2, "augmented": 3}

Simplicity = tuple[int, ...]


def simplicity(program: Program) -> Simplicity:
    """Totally ordered and well-founded. It begins with ``sort_key``, so what is simpler is never larger."""
    leaves = [(site, atom) for site, atom in sites(program) if not isinstance(atom, tuple)]
    atoms = [atom for _, atom in leaves]
    return (
        *program.sort_key(),
        sum(_width(atom) for atom in atoms),
        sum(len(atom.shape) for atom in atoms if isinstance(atom, Literal)),
        sum(not s.observe for s in program) + (not program.hooked),
        sum(SPELLINGS.get(s.kind, 0) for s in program),
        sum(DTYPES.index(dtype_of(atom)) for atom in atoms if isinstance(atom, (Literal, DType))),
        sum(_layout(atom) for _, atom in literal_sites(program)),
        _reach_of_names(program),
        sum(oddness_of_scalar(atom) for atom in atoms),
        sum(oddness_of_literal(atom) for atom in atoms if isinstance(atom, Literal)),
        sum(a != b for a, b in zip(_bound(program), _bound(canonical_names(program)), strict=True)),
    )


def dtype_of(atom: Literal | DType) -> str:
    """The dtype's name; one that no literal can have counts as the last."""
    name = atom.dtype if isinstance(atom, Literal) else atom.name
    return name if name in DTYPES else DTYPES[-1]


def oddness(value: Decimal) -> int:
    """How odd a number looks: 0, 1, -1, 2 … 999, then fewer digits and smaller exponents first, then -0.0, ±inf, NaN."""
    negative = int(value.is_signed())
    if not value.is_finite() or (value.is_zero() and negative):
        return 10**6 + (4 if value.is_nan() else 2 if value.is_infinite() else 0) + negative
    if abs(value) < 1000 and value == value.to_integral_value():
        return 2 * int(abs(value)) + negative
    return 10**4 + 1000 * len(value.normalize(Context(prec=40)).as_tuple().digits) + 2 * abs(value.adjusted()) + negative


def simpler_numbers(value: Decimal) -> list[Decimal]:
    """Less odd numbers to try instead, the least odd first."""
    found = {Decimal(0), Decimal(1), Decimal(2)}
    if value.is_signed():
        found |= {Decimal(-1), value.copy_abs()}
    if value.is_finite():
        found |= {Decimal("0.5").copy_sign(value), value.to_integral_value()} if value != value.to_integral_value() else _below(value)
        found |= {Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(value) for digits in (1, 2, 3)}
    return sorted((n for n in found if oddness(n) < oddness(value)), key=oddness)


def oddness_of_scalar(atom: Atom) -> int:
    if isinstance(atom, (bool, int, float)):
        return oddness(as_decimal(atom))
    return sum(oddness(Decimal(part)) for part in parts(atom) if part is not None) if isinstance(atom, Slice) else 0


def as_decimal(scalar: float) -> Decimal:
    return Decimal(repr(scalar)) if isinstance(scalar, float) else Decimal(int(scalar))


def parts(atom: Slice) -> tuple[int | None, int | None, int | None]:
    return (atom.start, atom.stop, atom.step)


@lru_cache(maxsize=1 << 14)
def oddness_of_element(dtype: str, item: bytes) -> int:
    """As ``oddness``, where a NaN with a sign or payload is odder than the plain one."""
    value = decode(dtype, item)
    return oddness(value) + 2 * (value.is_nan() and item != encode(dtype, Decimal("NaN")))


@lru_cache(maxsize=1 << 10)
def oddness_of_literal(literal: Literal) -> int:
    """The sum over its elements, plus the number of distinct ones."""
    counts = Counter(elements(literal))
    return len(counts) + sum(count * oddness_of_element(literal.dtype, item) for item, count in counts.items())


def _below(value: Decimal) -> set[Decimal]:
    """Whole numbers nearer to zero: half, and one less."""
    return {(value / 2).to_integral_value(), value - Decimal(1).copy_sign(value)} if value else set()


def _width(atom: Atom) -> int:
    return 1 + sum(part is not None for part in parts(atom)) if isinstance(atom, Slice) else 1


def _layout(literal: Literal) -> int:
    return literal.offset + sum(literal.strides) + len(literal.data) // ITEMSIZE[literal.dtype]


def _reach_of_names(program: Program) -> int:
    """Over all uses of names, how late the used name was bound."""
    place = {name: i for i, name in enumerate(_bound(program))}
    return sum(place.get(atom.name, 0) for _, atom in sites(program) if isinstance(atom, Ref))


def _bound(program: Program) -> list[str]:
    return [name for statement in program for name in statement.out]
