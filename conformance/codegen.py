"""Program → the Python source one would write: reproducers, torch.compile, the report.

A tensor's bits come out exactly: as decimals where they read back, as hexadecimal bytes where they don't (NaN payloads), with
``as_strided`` where the layout is odd.

Exceptions: ``ProgramError`` for a statement that has no spelling (an operator without a symbol).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from conformance.minimize.literals import FLOATS, decode, elements, encode, storage
from conformance.program import (
    HOOK_ACTIONS,
    KINDS,
    Atom,
    Dots,
    DType,
    Literal,
    Program,
    ProgramError,
    Ref,
    Slice,
    Statement,
    contiguous_strides,
)

#: op -> symbol between two operands
SYMBOLS: Final[Mapping[str, str]] = MappingProxyType({
    "add": "+", "sub": "-", "mul": "*", "div": "/", "true_divide": "/", "pow": "**", "matmul": "@", "remainder": "%",
    "floor_divide": "//", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "bitwise_left_shift": "<<",
    "bitwise_right_shift": ">>", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
})  # fmt: skip

#: op -> what stands before and after its one operand
UNARY: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"neg": ("-", ""), "positive": ("+", ""), "bitwise_not": ("~", ""), "abs": ("abs(", ")")}
)

WIDTH: Final = 120
INDENT: Final = "    "

#: from this many equal elements on, ``torch.full`` is easier to read than a list
MANY: Final = 9

T = TypeVar("T")
Path = Callable[[str], str]
_NOTHING_EXPECTED: Final[Mapping[int, str]] = MappingProxyType({})


def own_name(op: str) -> str:
    return op


def source(program: Program, *, module: str = "torch", path: Path = own_name, expect: Mapping[int, str] = _NOTHING_EXPECTED) -> str:
    """A script that runs the program on ``module``, which it imports as ``torch``.

    ``path`` gives an op's attribute path, such as ``nn.functional.relu``. The statements in ``expect`` (place -> the error that is right)
    may raise: the script prints their error and goes on; a block's beginning is never guarded. Raises ProgramError.
    """
    header = "import torch" if module == "torch" else f"import {module} as torch"
    return "\n".join([header, "", *(text for _, text in lines(program, path=path, expect=expect)), ""])


def lines(program: Program, *, path: Path = own_name, expect: Mapping[int, str] = _NOTHING_EXPECTED) -> list[tuple[int, str]]:
    """Each printed line with the place of its statement. An exit prints nothing, or the ``pass`` of an empty block."""
    printed: list[tuple[int, str]] = []
    depth = 0
    for place, statement in enumerate(program):
        if statement.kind == "exit":
            if _opens_block(program, place):
                printed.append((place, INDENT * depth + "pass"))
            depth = max(depth - 1, 0)
            continue
        text = _wrapped(_spelled(place, statement, path), statement)
        if place in expect and statement.kind != "enter":
            text = _guarded(text, expect[place])
        printed += [(place, INDENT * depth + line) for line in text]
        depth += statement.kind == "enter"
    return printed


def expression(atom: Atom) -> str:
    """An argument as Python source."""
    return _BY_TYPE[type(atom)](atom)


# --- statements ------------------------------------------------------------------------------------------------------


def _spelled(place: int, statement: Statement, path: Path) -> str:
    _refuse_code(place, statement)
    spell = getattr(_Spelling(place, statement, path), statement.kind)
    try:
        return str(spell())
    except IndexError:
        raise ProgramError(f"statement {place}: too few arguments for {KINDS[statement.kind]}") from None


def _refuse_code(place: int, statement: Statement) -> None:
    """A program is data from anywhere, so what would be printed as it stands must be a name."""
    if statement.kind not in KINDS:
        raise ProgramError(f"statement {place}: unknown kind {statement.kind!r}; known: {', '.join(KINDS)}")
    atoms = _flat((statement.args, tuple(value for _, value in statement.kwargs)))
    dtypes = [atom.name for atom in atoms if isinstance(atom, DType)]
    for text in (*([statement.op] if statement.op else ()), *dict(statement.kwargs), *statement.out, *dtypes):
        if not all(part.isidentifier() for part in text.split(".")):
            raise ProgramError(f"statement {place}: {text!r} is not a name, so it cannot be printed as code")


def _flat(atom: Atom) -> Iterator[Atom]:
    if isinstance(atom, tuple):
        for item in atom:
            yield from _flat(item)
    else:
        yield atom


@dataclass(frozen=True, slots=True)
class _Spelling:
    """One method for each of ``KINDS``, of the same name."""

    place: int
    statement: Statement
    path: Path

    def tensor(self) -> str:
        return self._binds(_tensor(self.statement.args[0], self.statement.kwargs))

    def call(self) -> str:
        return self._binds(f"torch.{self.path(self.statement.op)}({self._arguments(0)})")

    def method(self) -> str:
        return self._binds(f"{self._first()}.{self.statement.op}({self._arguments(1)})")

    def operator(self) -> str:
        op, args = self.statement.op, self.statement.args
        if len(args) == 1:
            before, after = self._known(UNARY, op)
            return self._binds(f"{before}{expression(args[0])}{after}")
        return self._binds(f"{self._operand(args[0])} {self._known(SYMBOLS, op)} {expression(args[1])}")

    def inplace(self) -> str:
        return self._binds(f"{self._first()}.{self.statement.op}_({self._arguments(1)})")

    def augmented(self) -> str:
        return f"{self._first()} {self._known(SYMBOLS, self.statement.op)}= {expression(self.statement.args[1])}"

    def getitem(self) -> str:
        return self._binds(f"{self._first()}[{_index(self.statement.args[1])}]")

    def setitem(self) -> str:
        return f"{self._first()}[{_index(self.statement.args[1])}] = {expression(self.statement.args[2])}"

    def backward(self) -> str:
        keywords = [(key, _as_list(value) if key == "inputs" else expression(value)) for key, value in self.statement.kwargs]
        positional = [expression(value) for value in self.statement.args[1:]]
        return f"{self._first()}.backward({', '.join([*positional, *(f'{key}={text}' for key, text in keywords)])})"

    def grad(self) -> str:
        targets = ", ".join(self.statement.out) + ("," if len(self.statement.out) == 1 else "")
        positional = [_as_list(value) for value in self.statement.args]
        call = f"torch.autograd.grad({', '.join([*positional, *_keywords(self.statement)])})"
        return f"{targets} = {call}" if targets else call

    def read_grad(self) -> str:
        return self._binds(f"{self._first()}.grad")

    def detach(self) -> str:
        return self._binds(f"{self._first()}.detach()")

    def hook(self) -> str:
        return self._binds(f"{self._first()}.register_hook({self._known(HOOK_ACTIONS, self.statement.op)})")

    def remove_hook(self) -> str:
        return f"{self._first()}.remove()"

    def retain_grad(self) -> str:
        return f"{self._first()}.retain_grad()"

    def requires_grad_(self) -> str:
        return self._binds(f"{self._first()}.requires_grad_({self._arguments(1)})")

    def clear_grad(self) -> str:
        return f"{self._first()}.grad = None" if self.statement.op == "none" else f"{self._first()}.grad.zero_()"

    def enter(self) -> str:
        return f"with torch.{self.statement.op}({self._arguments(0)}):"

    def optimizer(self) -> str:
        parameters, *others = self.statement.args
        arguments = [_as_list(parameters), *map(expression, others), *_keywords(self.statement)]
        return self._binds(f"torch.optim.{self.statement.op}({', '.join(arguments)})")

    def step(self) -> str:
        return f"{self._first()}.step()"

    def zero_grad(self) -> str:
        return f"{self._first()}.zero_grad({self._arguments(1)})"

    def delete(self) -> str:
        return f"del {self._first()}"

    def _binds(self, value: str) -> str:
        return f"{', '.join(self.statement.out)} = {value}" if self.statement.out else value

    def _first(self) -> str:
        atom = self.statement.args[0]
        return atom.name if isinstance(atom, Ref) else f"({expression(atom)})"

    def _operand(self, atom: Atom) -> str:
        """A left operand: ``-1 ** x`` would be ``-(1 ** x)``."""
        text = expression(atom)
        return f"({text})" if text.startswith("-") and self.statement.op == "pow" else text

    def _arguments(self, start: int) -> str:
        return ", ".join([*map(expression, self.statement.args[start:]), *_keywords(self.statement)])

    def _known(self, table: Mapping[str, T], op: str) -> T:
        if op not in table:
            raise ProgramError(f"statement {self.place}: no {self.statement.kind} is called {op!r}; known here: {', '.join(table)}")
        return table[op]


def _keywords(statement: Statement) -> list[str]:
    return [f"{key}={expression(value)}" for key, value in statement.kwargs]


def _as_list(value: Atom) -> str:
    return f"[{', '.join(map(expression, value))}]" if isinstance(value, tuple) else expression(value)


def _index(atom: Atom) -> str:
    """What stands between the brackets: here slices have colons, and a tuple needs no parentheses unless it is empty."""
    if isinstance(atom, tuple) and atom:
        return ", ".join(map(_index_item, atom)) + ("," if len(atom) == 1 else "")
    return _index_item(atom)


def _index_item(atom: Atom) -> str:
    if not isinstance(atom, Slice):
        return expression(atom)
    start, stop, step = ("" if part is None else str(part) for part in (atom.start, atom.stop, atom.step))
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


def _opens_block(program: Program, place: int) -> bool:
    """Whether the exit at ``place`` follows its enter at once, so that the block would be empty."""
    return place > 0 and program.statements[place - 1].kind == "enter"


def _guarded(text: list[str], expected: str) -> list[str]:
    comment = f"  # right: {ascii(expected)[1:-1]}" if expected else ""
    return [
        "try:",
        *(INDENT + line for line in text),
        f"except Exception as error:{comment}",
        f'{INDENT}print(f"{{type(error).__name__}}: {{error}}")',
    ]


def _wrapped(text: str, statement: Statement) -> list[str]:
    """Long tensors go over several lines; each break is inside the parentheses of the call."""
    if statement.kind != "tensor" or len(text) <= WIDTH:
        return [text]
    before, parenthesis, inside = text.partition("(")
    return textwrap.wrap(
        inside, WIDTH, initial_indent=before + parenthesis, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )


# --- arguments -----------------------------------------------------------------------------------------------------------


def _float(value: float) -> str:
    text = repr(value)
    return text if text.lstrip("-")[0].isdigit() else f'float("{text}")'


def _tuple(items: Iterable[Atom]) -> str:
    texts = [expression(item) for item in items]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


_BY_TYPE: Final[dict[type, Callable[..., str]]] = {
    Ref: lambda atom: atom.name,
    Literal: lambda atom: _tensor(atom),
    DType: lambda atom: f"torch.{atom.name}",
    Slice: lambda atom: f"slice({atom.start}, {atom.stop}, {atom.step})",
    Dots: lambda atom: "...",
    type(None): repr,
    bool: repr,
    int: repr,
    float: _float,
    str: ascii,
    tuple: _tuple,
}


# --- tensors ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Creation:
    """``torch.<function>(<arguments>)<then>``; keywords such as requires_grad can go into the call only where nothing follows."""

    function: str
    arguments: list[str]
    then: str = ""
    keywords: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"torch.{self.function}({', '.join([*self.arguments, *self.keywords])}){self.then}"


def _tensor(literal: Literal, kwargs: tuple[tuple[str, Atom], ...] = ()) -> str:
    """The literal as source: a leaf without a base. So a view is detached, and ``requires_grad`` stands behind it."""
    creation = _plain(literal) if _is_plain(literal) else _strided(literal)
    inside = [f"{key}={expression(value)}" for key, value in kwargs if key != "requires_grad" or not creation.then]
    behind = [f".requires_grad_({expression(value)})" for key, value in kwargs if key == "requires_grad" and creation.then]
    detached = f"{creation.then}.detach()" if creation.then else ""
    return str(replace(creation, keywords=inside, then=detached + "".join(behind)))


def _is_plain(literal: Literal) -> bool:
    return literal.strides == contiguous_strides(literal.shape) and literal.offset == 0 and len(storage(literal)) == len(elements(literal))


def _strided(literal: Literal) -> _Creation:
    stored = Literal(literal.dtype, (len(storage(literal)),), (1,), 0, literal.data)
    layout = f"{_tuple(literal.shape)}, {_tuple(literal.strides)}, {literal.offset}"
    creation = _plain(stored)
    return _Creation(creation.function, creation.arguments, f"{creation.then}.as_strided({layout})")


def _plain(literal: Literal) -> _Creation:
    """A contiguous tensor without spare storage."""
    dtype, items = literal.dtype, elements(literal)
    if not items:
        return _Creation("empty", [_tuple(literal.shape), f"dtype=torch.{dtype}"])
    texts = [_decimal(dtype, item) for item in items]
    if None in texts:
        reshaped = "" if len(literal.shape) == 1 else f".reshape({_tuple(literal.shape)})"
        return _Creation("frombuffer", [f"bytearray.fromhex({_hexadecimal(literal.data)})", f"dtype=torch.{dtype}"], reshaped)
    if len(items) >= MANY and len(set(items)) == 1:
        return _Creation("full", [_tuple(literal.shape), str(texts[0]), f"dtype=torch.{dtype}"])
    return _Creation("tensor", [_nested(iter(map(str, texts)), literal.shape), f"dtype=torch.{dtype}"])


def _decimal(dtype: str, item: bytes) -> str | None:
    """The element as a Python literal that converts to exactly these bits; None where there is none (NaN payloads, odd bools)."""
    value = decode(dtype, item)
    if encode(dtype, value) != item:
        return None
    if dtype == "bool":
        return str(bool(value))
    return _float(float(value)) if dtype in FLOATS else str(value)


def _nested(texts: Iterator[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return next(texts)
    return f"[{', '.join(_nested(texts, shape[1:]) for _ in range(shape[0]))}]"


def _hexadecimal(data: bytes) -> str:
    """String literals next to each other, which Python joins, so that a long one can go over several lines."""
    return " ".join(f'"{data[i : i + 32].hex()}"' for i in range(0, len(data), 32))
