"""Programs as values: a flat tuple of frozen statements that prints as PyTorch code and survives JSON.

A statement's arguments are *atoms*: ``Ref`` (a name bound earlier), ``Literal`` (a tensor's bits and layout), ``DType``,
``Slice``, ``DOTS``, ``None``, ``bool``, ``int``, ``float``, ``str``, and tuples of atoms. Nothing in a program is ever evaluated:
op names resolve through refgrad's table, everything else is one of the kinds below.

Exceptions: ``ProgramError`` for text that is not a program (the message says where and what to do).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

FORMAT: Final = 1

#: kind -> what it does. ``out`` holds the names a statement binds.
KINDS: Final[dict[str, str]] = {
    "tensor": "out = a tensor with the bits and layout of args[0]; kwargs may hold requires_grad",
    "call": "out = torch.<path of op>(*args, **kwargs)",
    "method": "out = args[0].<op>(*args[1:], **kwargs)",
    "operator": "out = args[0] <symbol of op> args[1]",
    "inplace": "args[0].<op>_(*args[1:], **kwargs)",
    "augmented": "args[0] <symbol of op>= args[1]",
    "getitem": "out = args[0][args[1]]",
    "setitem": "args[0][args[1]] = args[2]",
    "backward": "args[0].backward(**kwargs)",
    "grad": "out = torch.autograd.grad(*args, **kwargs)",
    "read_grad": "out = args[0].grad",
    "detach": "out = args[0].detach()",
    "hook": "out = args[0].register_hook(<the action named by op>)",
    "remove_hook": "args[0].remove()",
    "retain_grad": "args[0].retain_grad()",
    "requires_grad_": "args[0].requires_grad_(args[1])",
    "clear_grad": "args[0].grad = None (op 'none') or args[0].grad.zero_() (op 'zero')",
    "enter": "with torch.<op>(*args):  (no_grad, enable_grad, inference_mode, set_grad_enabled)",
    "exit": "leaves the innermost block that enter opened",
    "optimizer": "out = torch.optim.<op>(args[0], **kwargs)",
    "step": "args[0].step()",
    "zero_grad": "args[0].zero_grad(**kwargs)",
    "delete": "del args[0]",
}

#: what a program's own tensor hook may do with the gradient it receives
HOOK_ACTIONS: Final[dict[str, str]] = {
    "observe": "lambda grad: None",
    "double": "lambda grad: grad * 2",
    "zero": "lambda grad: grad * 0",
    "inplace": "lambda grad: (grad.mul_(2), None)[1]",
}


class ProgramError(ValueError):
    """A text or value that is not a well-formed program. The message is one line: where, what, what to do."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A name bound by an earlier statement (a tensor, an optimizer or a hook handle)."""

    name: str


@dataclass(frozen=True, slots=True)
class DType:
    """A torch dtype by its name, without the ``torch.``: ``float32``."""

    name: str


@dataclass(frozen=True, slots=True)
class Slice:
    start: int | None
    stop: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Dots:
    """``...`` in an index."""


DOTS: Final = Dots()


@dataclass(frozen=True, slots=True)
class Literal:
    """A tensor's bits: ``data`` are the little-endian bytes of the whole storage, strides and offset count elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    data: bytes


Atom = Any  # Ref | Literal | DType | Slice | Dots | None | bool | int | float | str | tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of a program. ``observe`` says whether subjects are looked at after it."""

    kind: str
    op: str = ""
    args: tuple[Atom, ...] = ()
    kwargs: tuple[tuple[str, Atom], ...] = ()
    out: tuple[str, ...] = ()
    observe: bool = True

    def refs(self) -> Iterator[str]:
        """The names this statement reads, in order, with repetitions."""
        found: list[str] = []
        _collect_refs(self.args, found)
        for _, value in self.kwargs:
            _collect_refs(value, found)
        return iter(found)

    def keyword(self, name: str, default: Atom = None) -> Atom:
        for key, value in self.kwargs:
            if key == name:
                return value
        return default


@dataclass(frozen=True, slots=True)
class Program:
    """Statements in order. ``hooked`` is False where the harness must not hook the program's tensors (see the walk)."""

    statements: tuple[Statement, ...]
    hooked: bool = True
    notes: tuple[tuple[str, str], ...] = field(default=(), compare=False)  # what drew it: seed, pitfalls; never judged

    def __len__(self) -> int:
        return len(self.statements)

    def __iter__(self) -> Iterator[Statement]:
        return iter(self.statements)

    def with_statements(self, statements: Iterable[Statement]) -> Program:
        return replace(self, statements=tuple(statements))

    def slice_before(self, end: int) -> Program:
        """The first ``end`` statements."""
        return self.with_statements(self.statements[:end])

    def without(self, dropped: Iterable[int]) -> Program:
        """Without the statements at these places, and without every later one that reads a name then unbound.

        A dropped ``enter`` takes its ``exit`` with it, and the other way round.
        """
        gone = set(dropped)
        for enter, leave in _blocks(self.statements):
            if enter in gone or leave in gone:
                gone |= {enter, leave}
        bound: set[str] = set()
        kept = []
        for i, statement in enumerate(self.statements):
            if i in gone or any(name not in bound for name in statement.refs()):
                continue
            bound.update(statement.out)
            if statement.kind == "delete":
                bound.difference_update(statement.refs())
            kept.append(statement)
        return self.with_statements(kept)

    def problems(self) -> list[str]:
        """Why this is no well-formed program; empty when it is one."""
        return list(_problems(self.statements))

    def sort_key(self) -> tuple[int, ...]:
        """What "smaller" means: fewer statements, then fewer elements, then simpler arguments, then less text."""
        sizes = [math.prod(atom.shape) for s in self.statements for atom in _atoms((s.args, s.kwargs)) if isinstance(atom, Literal)]
        complexity = sum(_complexity(atom) for s in self.statements for atom in _atoms((s.args, s.kwargs)))
        return (len(self.statements), sum(sizes), sum(len(s.args) + len(s.kwargs) for s in self.statements), complexity)

    def to_json(self) -> dict[str, Any]:
        """``{"format": 1, "statements": [...]}``; the caller may add ``torch``, ``key`` and ``right``."""
        return {"format": FORMAT, "hooked": self.hooked, "statements": [_statement_to_json(s) for s in self.statements]}

    @staticmethod
    def from_json(data: Any) -> Program:
        """The program in ``data`` (parsed JSON, or its text). Raises ProgramError."""
        if isinstance(data, (str, bytes)):
            try:
                data = json.loads(data)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ProgramError(f'not JSON: {error}; a program file starts with {{"format": {FORMAT}, …') from None
        if not isinstance(data, dict) or "statements" not in data or not isinstance(data["statements"], list):
            raise ProgramError('no program: a JSON object with "format" and "statements" was expected')
        found = data.get("format")
        if not isinstance(found, int) or found < 1:
            raise ProgramError(f'"format" is {found!r}: expected {FORMAT}')
        if found > FORMAT:
            raise ProgramError(f"format {found} is newer than {FORMAT}, the highest this version reads: upgrade torch-conformance")
        statements = tuple(_statement_from_json(i, s) for i, s in enumerate(data["statements"]))
        program = Program(statements, hooked=bool(data.get("hooked", True)))
        if problems := program.problems():
            raise ProgramError(problems[0])
        return program


# --- walking over atoms ----------------------------------------------------------------------------------------------


def _atoms(value: Atom) -> Iterator[Atom]:
    if isinstance(value, tuple):
        for item in value:
            yield from _atoms(item)
    else:
        yield value


def _collect_refs(value: Atom, found: list[str]) -> None:
    if value.__class__ is Ref:
        found.append(value.name)
    elif value.__class__ is tuple:
        for item in value:
            _collect_refs(item, found)


def map_atoms(value: Atom, change: Any) -> Atom:
    """``value`` with ``change`` applied to every atom that is no tuple."""
    if isinstance(value, tuple):
        return tuple(map_atoms(item, change) for item in value)
    return change(value)


def _complexity(atom: Atom) -> int:
    if isinstance(atom, bool) or atom is None:
        return 0
    if isinstance(atom, int):
        return min(abs(atom), 1000)
    if isinstance(atom, float):
        return 1 if atom.is_integer() else 3
    if isinstance(atom, Literal):
        contiguous = atom.strides == contiguous_strides(atom.shape) and atom.offset == 0
        return (0 if contiguous else 20) + sum(1 for byte in atom.data if byte)
    return 1


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements, as torch computes them (a size of 0 counts as 1)."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _blocks(statements: tuple[Statement, ...]) -> Iterator[tuple[int, int]]:
    opened: list[int] = []
    for i, statement in enumerate(statements):
        if statement.kind == "enter":
            opened.append(i)
        elif statement.kind == "exit" and opened:
            yield opened.pop(), i


def _problems(statements: tuple[Statement, ...]) -> Iterator[str]:
    bound: set[str] = set()
    depth = 0
    for i, s in enumerate(statements):
        if s.kind not in KINDS:
            yield f"statement {i}: unknown kind {s.kind!r}; known: {', '.join(KINDS)}"
        for name in s.refs():
            if name not in bound:
                yield f"statement {i}: {name!r} is read before it is bound"
        depth += (s.kind == "enter") - (s.kind == "exit")
        if depth < 0:
            yield f"statement {i}: exit without enter"
            depth = 0
        for name in s.out:
            if name in bound:
                yield f"statement {i}: {name!r} is bound twice"
            if not name.isidentifier():
                yield f"statement {i}: {name!r} is not a name"
        bound.update(s.out)
        if s.kind == "delete":
            bound.difference_update(s.refs())
    if depth:
        yield f"{depth} block(s) entered and never left"


# --- JSON --------------------------------------------------------------------------------------------------------------


def _statement_to_json(s: Statement) -> dict[str, Any]:
    return {
        "kind": s.kind,
        "op": s.op,
        "args": [_atom_to_json(a) for a in s.args],
        "kwargs": {key: _atom_to_json(value) for key, value in s.kwargs},
        "out": list(s.out),
        "observe": s.observe,
    }


def _statement_from_json(place: int, data: Any) -> Statement:
    try:
        return Statement(
            kind=str(data["kind"]),
            op=str(data.get("op", "")),
            args=tuple(_atom_from_json(a) for a in data.get("args", ())),
            kwargs=tuple((str(k), _atom_from_json(v)) for k, v in data.get("kwargs", {}).items()),
            out=tuple(str(name) for name in data.get("out", ())),
            observe=bool(data.get("observe", True)),
        )
    except ProgramError as error:
        raise ProgramError(f"statement {place}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProgramError(f"statement {place}: ill-formed ({type(error).__name__}: {error})") from None


def _atom_to_json(atom: Atom) -> Any:
    if atom is None or isinstance(atom, (bool, int, str)):
        return atom
    if isinstance(atom, float):
        return {"float": atom.hex() if math.isfinite(atom) else repr(atom)}
    if isinstance(atom, tuple):
        return [_atom_to_json(item) for item in atom]
    if isinstance(atom, Ref):
        return {"ref": atom.name}
    if isinstance(atom, DType):
        return {"dtype": atom.name}
    if isinstance(atom, Slice):
        return {"slice": [atom.start, atom.stop, atom.step]}
    if isinstance(atom, Dots):
        return {"dots": True}
    if isinstance(atom, Literal):
        return {
            "tensor": atom.dtype,
            "shape": list(atom.shape),
            "strides": list(atom.strides),
            "offset": atom.offset,
            "hex": atom.data.hex(),
        }
    raise TypeError(f"no atom: {atom!r}")


def _atom_from_json(data: Any) -> Atom:
    if data is None or isinstance(data, (bool, int, str)):
        return data
    if isinstance(data, list):
        return tuple(_atom_from_json(item) for item in data)
    if not isinstance(data, dict):
        raise ProgramError(f'{data!r} is no argument (floats are written as {{"float": hex}})')
    if "ref" in data:
        return Ref(str(data["ref"]))
    if "float" in data:
        return float.fromhex(data["float"])
    if "dtype" in data:
        return DType(str(data["dtype"]))
    if "slice" in data:
        return Slice(*data["slice"])
    if "dots" in data:
        return DOTS
    if "tensor" in data:
        return _literal_from_json(data)
    raise ProgramError(f"{data!r} is no argument this version knows")


def _literal_from_json(data: dict[str, Any]) -> Literal:
    literal = Literal(
        str(data["tensor"]),
        tuple(map(int, data["shape"])),
        tuple(map(int, data["strides"])),
        int(data["offset"]),
        bytes.fromhex(data["hex"]),
    )
    if len(literal.shape) != len(literal.strides) or min((*literal.shape, *literal.strides, literal.offset), default=0) < 0:
        raise ProgramError("a tensor's shape and strides have one non-negative entry per dim, its offset is not negative")
    itemsize = ITEMSIZE.get(literal.dtype)
    if itemsize is None:
        raise ProgramError(f"unknown dtype {literal.dtype!r}; known: {', '.join(ITEMSIZE)}")
    reach = (
        literal.offset + sum((n - 1) * s for n, s in zip(literal.shape, literal.strides, strict=True)) + 1 if 0 not in literal.shape else 0
    )
    if reach * itemsize > len(literal.data) or len(literal.data) % itemsize:
        raise ProgramError(f"a tensor reaches {reach} elements of {itemsize} bytes, its data has {len(literal.data)} bytes")
    return literal


#: bytes per element of each dtype that programs may hold
ITEMSIZE: Final[dict[str, int]] = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
}  # fmt: skip
