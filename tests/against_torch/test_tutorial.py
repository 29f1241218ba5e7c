"""The tutorial runs on both engines, and every text a cell shows is the same, character by character."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance.script import compare

TUTORIAL = Path(__file__).parents[2] / "examples" / "autograd_tutorial.py"

#: what is changed in the text, so that nothing can have been made to fit one shape or constant
CHANGES = {
    "as it stands": (),
    "four elements": (
        ("torch.randn(3", "torch.randn(4"),
        ("[0.1, 1.0, 0.001]", "[0.1, 1.0, 0.001, -7.5]"),
        ("[1.0, 2.0, 3.0]", "[1.0, 2.0, 3.0, 0.5]"),
    ),
    "other constants": (
        ("x + 2", "x - 0.3"),
        ("* 2\n", "* 1.7\n"),
        ("weights * 3", "weights * 0.1"),
        ("lr=0.01", "lr=0.3"),
        ("[2.0]", "[-1e4]"),
    ),
    "two dims": (
        ("torch.randn(3", "torch.randn(2, 3"),
        ("torch.tensor([0.1, 1.0, 0.001]", "torch.tensor([[0.1, 1.0, 0.001]] * 2"),
        ("torch.ones(4", "torch.ones(2, 2"),
    ),
    "double precision": (
        ("requires_grad=True)", "requires_grad=True, dtype=torch.float64)"),
        ("dtype=torch.float32", "dtype=torch.float64"),
    ),
}


@pytest.mark.parametrize("seed", [0, 1, 7, 1234, 2**31])
@pytest.mark.parametrize("change", CHANGES)
def test_every_cell_shows_the_same_text_on_torch(tmp_path: Path, change: str, seed: int) -> None:
    text = TUTORIAL.read_text().replace("manual_seed(0)", f"manual_seed({seed})")
    for old, new in CHANGES[change]:
        assert old in text, f"the tutorial no longer holds {old!r}"
        text = text.replace(old, new)
    file = tmp_path / "tutorial.py"
    file.write_text(text)
    result = compare(file, "torch")
    assert len(result.cells) > 20
    differing = [cell for cell in result.cells if not cell.same]
    if change == "two dims":  # sums of six: torch's order of summation may show in the last printed digit
        differing = [cell for cell in differing if not _only_a_last_digit(cell.reference, cell.subject)]
    assert not differing, "\n".join(result.lines())


def _only_a_last_digit(ours: str, theirs: str) -> bool:
    """Whether two texts are the same but for numbers that differ by one unit in the last printed place."""
    number = re.compile(r"-?\d+\.\d+")
    if number.sub("#", ours) != number.sub("#", theirs):
        return False
    pairs = zip(number.findall(ours), number.findall(theirs), strict=True)
    return all(abs(int(a.replace(".", "")) - int(b.replace(".", ""))) <= 1 for a, b in pairs)


def test_a_difference_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("import torch\n\ntorch.__name__\n")
    result = compare(file, "torch")
    assert not result.same
    assert "DIFFERS" in "\n".join(result.lines())
