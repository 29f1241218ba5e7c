"""Writes a run into its folder: ``prepare`` before it starts, ``write_all`` when it is over.

The folder holds the latest run; earlier ones stay under ``runs/STAMP/``. Everything is rendered before anything is written.

Exceptions: ``OutputError`` for a folder that cannot be written (one line; nothing was overwritten).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from conformance import codegen, gate
from conformance.events import FILE_NAME, Event, RunError, dump, os_reason, read
from conformance.known_failures import KnownFailures
from conformance.program import ProgramError
from conformance.report import html, junit, markdown, reproducer
from conformance.report.core import Cause, PastCause, RunSummary, summarize
from conformance.report.text import visible

#: what a run writes, and what moves under runs/ when the next one starts
NAMES: Final = ("index.html", FILE_NAME, "junit.xml", "summary.md", "gate.json", "reproducers")
RUNS: Final = "runs"
#: how many earlier runs a page's sparklines show
MOST_PAST: Final = 20


class OutputError(ValueError):
    """The output folder cannot be written. The message is one line, and nothing was overwritten."""


def prepare(out: Path) -> Path:
    """Makes the folder ready for a new run, moves an earlier one under ``runs/STAMP/``, returns where events go. Raises OutputError."""
    _check_writable(out)
    _archive(out)
    return out / FILE_NAME


def write_all(out: Path, events: Sequence[Event], known: KnownFailures | None = None, *, baseline: Iterable[Cause] | None = None,
              path: codegen.Path = codegen.own_name, raising: reproducer.Raising = None) -> RunSummary:  # fmt: skip
    """Writes index.html, junit.xml, summary.md, gate.json and reproducers/ID.py of a run into ``out``, and returns its summary.

    Another run's files found there move under ``runs/STAMP/`` first. The run's event log must be closed: where it does not hold all of
    ``events`` (those of shards, put together), it is written again.
    ``baseline`` are another run's causes, ``path`` gives an op's attribute path, ``raising`` the statements of a program that rightly raise
    (default: asks refgrad). Raises OutputError with nothing overwritten, RunError for events that are no run.
    """
    _check_writable(out)
    own = _holds(out, events)
    summary = summarize(events, known, past=_past(out, own), baseline=baseline)
    files = dict(_rendered(summary, out, path, raising))
    files[FILE_NAME] = "".join(dump(event) + "\n" for event in events)
    if not own:
        _archive(out)
    try:
        _write(out, files)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({os_reason(error)}); choose another folder with --out") from None
    return summary


def _rendered(summary: RunSummary, out: Path, path: codegen.Path, raising: reproducer.Raising) -> Iterator[tuple[str, str]]:
    folder = visible(str(out))
    yield "index.html", html.render(summary, path, folder)
    yield "junit.xml", junit.render(summary)
    yield "summary.md", markdown.render(summary, path, folder)
    yield "gate.json", gate.to_text(summary)
    for cause in summary.causes:
        if cause.divergence and cause.reproducer:
            yield cause.reproducer, _reproducer(cause, summary.start["torch"], path, raising)


def _reproducer(cause: Cause, torch: str, path: codegen.Path, raising: reproducer.Raising) -> str:
    """The script; for a program that has no spelling one that says so."""
    assert cause.divergence is not None
    try:
        return reproducer.script(cause.divergence, torch, path, raising)
    except ProgramError as error:
        reason = f"this program cannot be printed ({error}); python -m conformance replay {cause.id} runs it"
        return f"raise SystemExit({reason!a})\n"


# --- the folder ----------------------------------------------------------------------------------------------------------


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({os_reason(error)}); choose another folder with --out") from None


def _holds(out: Path, events: Sequence[Event]) -> bool:
    """Whether the events in the folder are of this run (which is over, or is reported again), and not of another."""
    found, ours = _start(out / FILE_NAME), next((event for event in events if event["type"] == "start"), None)
    return found is not None and ours is not None and all(found[name] == ours[name] for name in ("time", "seed"))


def _start(file: Path) -> Event | None:
    try:
        return next((event for event in read(file) if event["type"] == "start"), None)
    except RunError:
        return None


def _archive(out: Path) -> None:
    """Moves what an earlier run wrote under ``runs/STAMP/``, the time it started."""
    found = [name for name in NAMES if (out / name).exists()]
    if not found:
        return
    start = _start(out / FILE_NAME)
    try:
        target = _unused(out / RUNS / (re.sub(r"\W", "", start["time"].split("+")[0]) if start else "unknown"))
        target.mkdir(parents=True)
        for name in found:
            (out / name).rename(target / name)
    except OSError as error:
        raise OutputError(f"{out}: its earlier run cannot be moved to {RUNS} ({os_reason(error)}); choose another --out") from None


def _unused(target: Path) -> Path:
    number, found = 1, target
    while found.exists():
        number += 1
        found = target.with_name(f"{target.name}-{number}")
    return found


def _past(out: Path, own: bool) -> list[Mapping[str, PastCause]]:
    """The causes of the runs that are kept, the oldest first."""
    folders = sorted(folder for folder in (out / RUNS).glob("*") if folder.is_dir())
    files = [folder / "gate.json" for folder in folders] + ([] if own else [out / "gate.json"])
    found = [gate.past(file) for file in files if file.exists()]
    return [{name: PastCause(int(c["programs"]), str(c["first_seen"])) for name, c in run.items()} for run in found[-MOST_PAST:]]


def _write(out: Path, files: Mapping[str, str]) -> None:
    """All files beside their places first, then each into its place: a full disk leaves what was there."""
    (out / "reproducers").mkdir(exist_ok=True)
    parts = {name: out / f"{name}.part" for name in files}
    try:
        for name, content in files.items():
            parts[name].write_text(content, encoding="utf-8", newline="\n")
        for name, part in parts.items():
            os.replace(part, out / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
