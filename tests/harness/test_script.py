"""``conformance script``: how a script is cut into cells, what a cell shows, and how two sides are compared."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conformance.script import Cell, ScriptError, compare, read_cells, run_cells, split


def cells(text: str) -> list[tuple[int, str]]:
    return [(cell.line, cell.text) for cell in split(text)]


def shows(*texts: str, module: str = "refgrad") -> list[str]:
    """What cells with these texts show."""
    return run_cells([Cell(1, text) for text in texts], "s.py", module)


# --- cells --------------------------------------------------------------------------------------------------------------


def test_marks_cut_a_script_into_cells_that_know_their_line() -> None:
    assert cells("a = 1\n# %% second\nb = 2\nc = 3\n# %%\nd = 4\n") == [
        (1, "a = 1\n"), (2, "# %% second\nb = 2\nc = 3\n"), (5, "# %%\nd = 4\n"),
    ]  # fmt: skip


def test_a_cell_without_statements_is_none() -> None:
    assert cells("# %% [markdown]\n# words\n# %%\na = 1\n# %%\n") == [(3, "# %%\na = 1\n")]


def test_a_script_without_marks_is_cut_at_its_statements() -> None:
    assert cells("a = 1\n\nfor i in range(2):\n    a += i\na\n") == [(1, "a = 1\n\n"), (3, "for i in range(2):\n    a += i\n"), (5, "a\n")]


@pytest.mark.parametrize("body", ["def f():\n    return 1\n", "class C:\n    pass\n", "async def f():\n    return 1\n"])
def test_a_decorator_stays_with_what_it_decorates(body: str) -> None:
    assert cells(f"def d(f): return f\n@d\n@d\n{body}1\n") == [(1, "def d(f): return f\n"), (2, f"@d\n@d\n{body}"), (6, "1\n")]


def test_statements_on_one_line_are_one_cell() -> None:
    assert [text for _, text in cells("a = 1; b = 2\nc = 3\n")] == ["a = 1; b = 2\n", "c = 3\n"]


def test_lines_are_counted_as_python_counts_them() -> None:
    """A form feed and a line separator end no line of Python."""
    assert cells("a = 1\n\x0cb = '\u2028'\nc = 3\n") == [(1, "a = 1\n"), (2, "\x0cb = '\u2028'\n"), (3, "c = 3\n")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a = = 1\n", "not Python"),
        (b"a = '\xff'\n", "not Python"),
        (b"a = 1\x00\n", "not Python"),
        (b"a = '''\n# %%\n'''\n", "a cell is not Python by itself"),
    ],
)
def test_a_file_that_is_no_script_is_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "s.py").write_bytes(data)
    with pytest.raises(ScriptError, match=rf"^[^\n]*s\.py: {says}[^\n]*$"):
        read_cells(tmp_path / "s.py")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"^[^\n]*s\.py: cannot be read \([^\n]*\)$"):
        read_cells(tmp_path / "s.py")


# --- what a cell shows --------------------------------------------------------------------------------------------------


def test_a_cell_shows_what_it_prints_and_then_its_last_expression() -> None:
    assert shows("print('a')\n1 + 1\nprint('b')\n'c'\n") == ["a\nb\n'c'\n"]


def test_a_last_expression_that_is_none_or_no_expression_shows_nothing() -> None:
    assert shows("None\n", "a = 1\n", "print\nb = 2\n") == ["", "", ""]


def test_an_error_is_shown_with_its_type_and_ends_its_cell_only() -> None:
    assert shows("print('a')\n1 / 0\nprint('never')\n", "'next'\n") == ["a\nZeroDivisionError: division by zero\n", "'next'\n"]


@pytest.mark.parametrize("text", ["raise SystemExit(3)\n", "import sys\nsys.exit(3)\n", "exit(3)\n"])
def test_a_script_that_leaves_is_shown_and_does_not_take_us_with_it(text: str) -> None:
    assert shows(text, "'next'\n") == ["SystemExit: 3\n", "'next'\n"]


def test_an_interrupt_is_ours_and_not_the_scripts() -> None:
    with pytest.raises(KeyboardInterrupt):
        shows("raise KeyboardInterrupt\n")


def test_cells_share_their_names_and_run_as_the_main_module() -> None:
    assert shows("a = 2\n", "a * 3\n", "__name__\n") == ["", "6\n", "'__main__'\n"]


def test_where_an_object_lies_in_memory_is_masked_and_other_numbers_are_not() -> None:
    assert shows("object()\n", "0x7f, hex(255), '0x123'\n") == ["<object object at 0x…>\n", "(127, '0xff', '0x123')\n"]


def test_a_traceback_line_of_a_cell_is_that_of_the_file() -> None:
    (text,) = run_cells([Cell(40, "import sys\nsys._getframe().f_lineno\n")], "s.py", "refgrad")
    assert text == "41\n"


def test_our_own_future_imports_are_not_the_scripts() -> None:
    assert shows("def f(a: 1 + 1): pass\nf.__annotations__\n") == ["{'a': 2}\n"]


# --- which torch --------------------------------------------------------------------------------------------------------

IMPORTS = {
    "import torch": "torch.tensor([1.0])",
    "import torch as t": "t.tensor([1.0])",
    "from torch import tensor": "tensor([1.0])",
    "import torch.nn.functional as F": "F.relu(__import__('torch').tensor([1.0]))",
    "import torch.nn.functional\nimport torch": "torch.nn.functional.relu(torch.tensor([1.0]))",
    "from torch.nn import functional": "functional.relu(__import__('torch').tensor([1.0]))",
    "import torch\nfrom torch.optim import SGD": "(SGD([torch.tensor([1.0], requires_grad=True)], lr=0.1), torch.tensor([1.0]))[1]",
}


@pytest.mark.parametrize("line", IMPORTS)
def test_every_way_to_import_torch_means_the_module_that_is_asked_for(line: str) -> None:
    assert shows(f"{line}\nshown = {IMPORTS[line]}\ntype(shown).__module__.split('.')[0], shown\n") == ["('refgrad', tensor([1.]))\n"]


def test_other_imports_are_what_they_are() -> None:
    assert shows("import math, torchlike_that_is_not_there\n") == ["ModuleNotFoundError: No module named 'torchlike_that_is_not_there'\n"]


def test_the_import_of_this_process_is_left_alone() -> None:
    before = __import__
    shows("import torch\n")
    assert __import__ is before and "refgrad" not in str(sys.modules.get("torch"))


# --- comparing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that says 2 where refgrad says its own, and lacks the rest."""
    module: Any = ModuleType("other_engine")
    module.is_grad_enabled = lambda: 2
    monkeypatch.setitem(sys.modules, "other_engine", module)
    return "other_engine"


def test_a_script_is_run_on_both_sides_and_each_cell_is_compared(tmp_path: Path, other: str) -> None:
    (tmp_path / "s.py").write_text("import torch\n# %%\n'same'\n# %%\ntorch.is_grad_enabled()\n# %%\nprint()\n")
    result = compare(tmp_path / "s.py", other)
    assert [(cell.line, cell.reference, cell.subject, cell.same) for cell in result.cells] == [
        (1, "", "", True), (2, "'same'\n", "'same'\n", True), (4, "True\n", "2\n", False), (6, "\n", "\n", True),
    ]  # fmt: skip
    assert not result.same


def test_the_comparison_shows_each_cell_once_where_it_is_the_same_and_both_sides_where_not(tmp_path: Path, other: str) -> None:
    (tmp_path / "s.py").write_text(
        "import torch\n'same'\ntorch.is_grad_enabled()\nprint(torch.is_grad_enabled() or '') if torch.is_grad_enabled() == 2 else None\n"
    )
    assert list(compare(tmp_path / "s.py", other).lines()) == [
        "[1] line 1: import torch  same",
        "[2] line 2: 'same'  same",
        "    'same'",
        "[3] line 3: torch.is_grad_enabled()  DIFFERS",
        "    refgrad  True",
        "    other_engine 2",
        "[4] line 4: print(torch.is_grad_enabled() or '') if torch.is_grad_enabled() == 2 else None  DIFFERS",
        "    refgrad  (nothing)",
        "    other_engine 2",
        "s.py: 2 of 4 cells differ on refgrad and other_engine",
    ]  # fmt: skip


def test_a_script_is_the_same_on_refgrad_and_refgrad(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import torch\ntorch.manual_seed(3)\ntorch.rand(2)\ntorch.tensor([1]) + 'a'\n")
    result = compare(tmp_path / "s.py", "refgrad")
    assert result.same and list(result.lines())[-1] == "s.py: every cell shows the same on refgrad and refgrad"


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("1\n")
    with pytest.raises(
        ScriptError, match=r"^module 'no_such_engine' cannot be imported \([^\n]*\); install it or name another with --subject$"
    ):
        compare(tmp_path / "s.py", "no_such_engine")
