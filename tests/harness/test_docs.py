"""The documentation says what is there: commands, options, sessions, links, and blocks of code that run as they stand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from conformance.cli import main
from conformance.known_failures import SHIPPED, known_table, load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("decisions/*.md")])

#: the blocks in which nothing stands that only exists at the reader's
RUNNABLE = [DOCS / "adding-an-op.md"]


def commands(group: click.Group = main, name: str = "conformance") -> Iterator[tuple[str, click.Command]]:
    yield name, group
    for part, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {part}")
        else:
            yield f"{name} {part}", command


COMMANDS = dict(commands())


def sections(page: str) -> dict[str, str]:
    """Heading -> text of the sections of the command line's page, without the backticks."""
    parts = re.split(r"^## `(.+)`$", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options(command: click.Command) -> set[str]:
    own = {name for p in command.params if isinstance(p, click.Option) for name in (*p.opts, *p.secondary_opts)}
    return own | {"--help", "-h"} if command is main else own - {"--help", "-h"}


def documented(text: str) -> set[str]:
    """The options in the first column of a section's table."""
    rows = re.findall(r"^\| (`-[^|]*) \|", text, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(--?[a-z-]+)", row)}


def blocks(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL))


def test_every_command_is_documented_and_every_documented_command_exists():
    assert set(sections("command-line.md")) - {"nox"} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented_and_every_documented_option_exists(name):
    assert documented(sections("command-line.md")[name]) == options(COMMANDS[name])


@pytest.mark.parametrize("name", [name for name, c in COMMANDS.items() if any(isinstance(p, click.Argument) for p in c.params)])
def test_a_command_with_arguments_shows_them(name):
    (argument,) = [p for p in COMMANDS[name].params if isinstance(p, click.Argument)][:1]
    word = argument.make_metavar(click.Context(COMMANDS[name])).strip("[]{}.").split("|")[0].rstrip("S")
    assert re.search(rf"`{name.removeprefix('conformance ')} \[?{word}", sections("command-line.md")[name])


def test_every_session_is_documented_and_every_documented_session_exists():
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    there = {
        f.name for f in tree.body if isinstance(f, ast.FunctionDef) for d in f.decorator_list if ast.unparse(d).startswith("nox.session")
    }
    assert set(re.findall(r"^\| `([a-z]+)` \|", sections("command-line.md")["nox"], flags=re.MULTILINE)) == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(r"`((?:conformance|refgrad|tests|docs|benchmarks|examples)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_worked_example_runs_as_it_stands(page, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(blocks(page), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("session", ["conformance", "tests"])
def test_the_readme_begins_with_the_two_commands(session):
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert f"python -m pip install nox && python -m nox -s {session}" in first


def test_the_findings_are_the_known_failures_that_are_shipped():
    table = "\n".join(known_table(load([SHIPPED]).entries))
    assert table in (ROOT / "docs" / "findings.md").read_text()
