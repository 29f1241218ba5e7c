"""``conformance script FILE``: a PyTorch script of the user's, run cell by cell on refgrad and on another module; every text is compared.

Cells are separated by lines that start with ``# %%`` (as editors and jupytext write them); a script without any is one cell per
top-level statement. As in a notebook, a cell shows what it prints, then the ``repr`` of a last expression that is not None, or the
error it raises.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

MARK: Final = "# %%"
_Names = Mapping[str, Any] | None
#: where an object lies in memory says nothing
_ADDRESS: Final = re.compile(r"0x[0-9a-f]{6,}")


class ScriptError(ValueError):
    """A file that cannot be run. The message is one line."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Some lines of the script: where they start, their text, and what they show on each side."""

    line: int
    text: str
    reference: str = ""
    subject: str = ""

    @property
    def same(self) -> bool:
        return self.reference == self.subject


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells of a script, run on both."""

    file: str
    subject: str
    cells: tuple[Cell, ...]

    @property
    def same(self) -> bool:
        return all(cell.same for cell in self.cells)

    def lines(self) -> Iterator[str]:
        """The comparison for the terminal."""
        for number, cell in enumerate(self.cells, 1):
            first = next((t for t in cell.text.splitlines() if t.strip() and not t.startswith("#")), "")
            yield f"[{number}] line {cell.line}: {first[:80]}  {'same' if cell.same else 'DIFFERS'}"
            if cell.same:
                yield from (f"    {t}" for t in cell.reference.splitlines())
                continue
            yield from (f"    refgrad  {t}" for t in cell.reference.splitlines() or ["(nothing)"])
            yield from (f"    {self.subject:<8} {t}" for t in cell.subject.splitlines() or ["(nothing)"])
        differing = sum(not cell.same for cell in self.cells)
        verdict = "every cell shows the same" if self.same else f"{differing} of {len(self.cells)} cells differ"
        yield f"{self.file}: {verdict} on refgrad and {self.subject}"


def compare(file: Path, subject: str) -> Comparison:
    """Runs the file on refgrad and on the module ``subject``. Raises ScriptError for what is no script or no module."""
    cells = read_cells(file)
    sides = [run_cells(cells, str(file), module) for module in ("refgrad", subject)]
    shown = zip(cells, *sides, strict=True)
    return Comparison(file.name, subject, tuple(Cell(c.line, c.text, ours, theirs) for c, ours, theirs in shown))


def read_cells(file: Path) -> list[Cell]:
    try:
        text = file.read_text(encoding="utf-8")
        ast.parse(text)
    except OSError as error:
        raise ScriptError(f"{file}: cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        raise ScriptError(f"{file}: not Python ({error})") from None
    try:
        return list(split(text))
    except SyntaxError as error:
        raise ScriptError(f"{file}: a cell is not Python by itself ({error}); cells start at lines that begin with {MARK!r}") from None


def split(text: str) -> Iterator[Cell]:
    lines = io.StringIO(text).readlines()  # as Python counts them: a form feed ends no line
    marks = [i for i, line in enumerate(lines) if line.startswith(MARK)]
    if not marks:
        tree = ast.parse(text)
        ends = [_first_line(node) - 1 for node in tree.body[1:]] + [len(lines)]
        starts = [0, *ends[:-1]]
    else:
        starts = [0, *marks] if marks[0] else marks
        ends = [*starts[1:], len(lines)]
    for start, end in zip(starts, ends, strict=True):
        body = "".join(lines[start:end])
        if ast.parse(body).body:
            yield Cell(start + 1, body)


def _first_line(node: ast.stmt) -> int:
    """Where a statement starts: a decorated one at its first decorator."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def run_cells(cells: list[Cell], filename: str, module: str) -> list[str]:
    """What each cell shows when ``import torch`` means ``module``. An error ends its cell, not the script."""
    try:
        stand_in = importlib.import_module(module)
    except ImportError as error:
        raise ScriptError(f"module {module!r} cannot be imported ({error}); install it or name another with --subject") from None
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": _builtins(stand_in, module)}
    return [_run(cell, filename, namespace) for cell in cells]


def _builtins(stand_in: ModuleType, module: str) -> dict[str, Any]:
    original = builtins.__import__

    def import_(name: str, globals: _Names = None, locals: _Names = None, fromlist: Any = (), level: int = 0) -> Any:
        if name == "torch" or name.startswith("torch."):
            found = importlib.import_module(module + name.removeprefix("torch"))
            return found if fromlist else stand_in
        return original(name, globals, locals, fromlist, level)

    return {**vars(builtins), "__import__": import_}


def _run(cell: Cell, filename: str, namespace: dict[str, Any]) -> str:
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            body, last = _compiled(cell, filename)
            exec(body, namespace)
            if last is not None and (value := eval(last, namespace)) is not None:
                print(repr(value))
    except (Exception, SystemExit) as error:  # a cell may raise anything, which is what it shows
        print(f"{type(error).__name__}: {error}", file=out)
    return _ADDRESS.sub("0x…", out.getvalue())


def _compiled(cell: Cell, filename: str) -> tuple[CodeType, CodeType | None]:
    tree = ast.parse(cell.text)
    ast.increment_lineno(tree, cell.line - 1)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        return _compile(tree, filename, "exec"), _compile(last, filename, "eval")
    return _compile(tree, filename, "exec"), None


def _compile(tree: ast.Module | ast.Expression, filename: str, mode: str) -> CodeType:
    code: CodeType = compile(tree, filename, mode, dont_inherit=True)  # this file's own __future__ is not the script's
    return code
