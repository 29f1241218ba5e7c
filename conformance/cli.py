"""The command line: ``python -m conformance`` and the script ``conformance``."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from conformance.divergence import Divergence
from conformance.events import Event, RunError, merge, os_reason, read
from conformance.known_failures import SHIPPED, USER, KnownError, KnownFailures, accept, known_table, lint, load, prune
from conformance.output import OutputError
from conformance.program import HOOK_ACTIONS, Literal, Program, ProgramError, Statement

USAGE, INTERRUPTED = 2, 130
PATH: Final = click.Path(path_type=Path)
#: the blocks that a program may enter
MODES: Final = ("no_grad", "enable_grad", "inference_mode", "set_grad_enabled")


class _Refused(click.ClickException):
    """Bad input: one line that says what is wrong and what to do; exit code 2."""

    exit_code = USAGE

    def show(self, file: Any = None) -> None:
        click.echo(f"conformance: {self.message}", err=True)


def refuse(error: Exception | str) -> NoReturn:
    raise _Refused(" ".join(str(error).split()))


def _version() -> str:
    try:
        return importlib.metadata.version("torch-conformance")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


class _Group(click.Group):
    """Says what is wrong with a command line in one line, and what Ctrl-C means in the exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(USAGE)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "conformance"
            _fail(_Refused(f"{_sentence(error.format_message())}; see {command} --help"))
        except click.ClickException as error:
            _fail(error)
        except (KeyboardInterrupt, click.Abort):
            click.echo("conformance: interrupted", err=True)
            sys.exit(INTERRUPTED)


def _fail(error: click.ClickException) -> NoReturn:
    error.show()
    sys.exit(error.exit_code)


def _sentence(message: str) -> str:
    """Click's words in one line, to be continued."""
    return " ".join(message.split()).rstrip(".")


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CONFORMANCE", "max_content_width": 110}
)
@click.version_option(_version())
def main() -> None:
    """Tell whether a PyTorch computes what it should.

    \b
    python -m conformance run --seconds 60          judge the installed torch for a minute
    python -m conformance run --ops 'log*' --dtype float32
    python -m conformance replay 7f3a2c             run one divergence of the last run again
    """


# --- run --------------------------------------------------------------------------------------------------------------------


def _ops(_: Any, __: Any, values: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    return tuple(_weighted(value) for value in values)


def _weighted(value: str) -> tuple[str, float]:
    pattern, _, weight = value.partition("=")
    try:
        number = float(weight or 1)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        refuse(f"--ops {value}: the weight {weight!r} is no positive number; write PATTERN or PATTERN=WEIGHT")
    return pattern, number


def _shard(_: Any, __: Any, value: str) -> tuple[int, int]:
    try:
        place, count = (int(part) for part in value.split("/"))
    except ValueError:
        refuse(f"--shard {value}: write I/N, such as 1/4")
    if not 1 <= place <= count:
        refuse(f"--shard {value}: I is between 1 and N")
    return place, count


def _fail_on(_: Any, __: Any, value: str) -> tuple[str, ...]:
    from conformance.gate import FailOnError, parse_fail_on

    try:
        return tuple(parse_fail_on(value))
    except FailOnError as error:
        refuse(error)


@main.command()
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    default=("torch",),
    show_default=True,
    metavar="NAME[@PYTHON]",
    help="repeatable; PYTHON: the interpreter that has it, where it is another",
)
@click.option("--device", default="cpu", show_default=True, help="as torch spells it: cpu, cuda, cuda:1, mps …")
@click.option("--ops", multiple=True, callback=_ops, metavar="PATTERN[=WEIGHT]", help="draw these ops only; repeatable")
@click.option("--dtype", "dtypes", multiple=True, metavar="NAME", help="draw these dtypes only; repeatable")
@click.option("--seed", type=int, default=None, help="default: always the same one, for the same verdict")
@click.option("--programs", type=click.IntRange(min=0), default=None, help="how many programs  [default: 20000]")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=None, help="run for so long instead")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="worker processes")
@click.option(
    "--executor",
    default="",
    metavar="NAME",
    help="who runs the batches: processes, an entry point, MODULE:NAME  [default: our own workers]",
)
@click.option("--shard", callback=_shard, default="1/1", metavar="I/N", help="every N-th batch, for a CI matrix")
@click.option("--provider", type=click.Choice(["stream", "hypothesis"]), default="stream", show_default=True)
@click.option("--known", "known_files", multiple=True, type=PATH, help="a known-failure file over the shipped one; repeatable")
@click.option("--baseline", type=PATH, default=None, metavar="RUN", help="an earlier run to compare with")
@click.option("--fail-on", callback=_fail_on, default="new,expired", show_default=True, help="statuses that make the gate red")
@click.option("--merge-events", type=PATH, default=None, metavar="DIR", help="add the events in this folder to the report")
@click.option("--out", type=PATH, default=Path("reports"), show_default=True)
def run(**options: Any) -> None:
    """Draw programs, judge them, write the report; the exit code is the gate's.

    Exit codes: 0 green, 1 red, 2 usage, 3 the harness broke, 4 nothing was judged, 130 interrupted.
    """
    from conformance.report.markdown import workflow_commands
    from conformance.report.terminal import Terminal
    from conformance.run import execute
    from conformance.subjects import SubjectError

    settings = _settings(options)
    known = _known(options["known_files"])
    try:
        with Terminal() as terminal:
            summary = execute(settings, known, terminal.feed, sys.argv[1:])
            terminal.finish(summary, str(settings.out / "index.html"))
    except (SubjectError, OutputError, RunError, KnownError) as error:
        refuse(error)
    if os.environ.get("GITHUB_ACTIONS"):
        for line in workflow_commands(summary):
            click.echo(line)
    sys.exit(summary.exit)


def _settings(options: dict[str, Any]) -> Any:
    from conformance.generate.programs import Mix, drawn_ops
    from conformance.run import DEFAULT_SEED, Settings
    from refgrad._dtypes import BY_NAME

    if options["seconds"] is not None and not math.isfinite(options["seconds"]):
        refuse(f"--seconds {options['seconds']}: give a number of seconds")
    if options["programs"] is not None and options["seconds"] is not None:
        refuse("--programs and --seconds exclude each other: give one of them")
    for name in options["dtypes"]:
        if name not in BY_NAME:
            refuse(f"unknown dtype {name!r}; known: {', '.join(BY_NAME)}")
    mix = Mix(ops=options["ops"], dtypes=tuple(options["dtypes"]))
    for pattern, _ in options["ops"]:
        if not drawn_ops(Mix(ops=((pattern, 1.0),)))[0]:
            refuse(f"no op matches {pattern!r}; the names are listed by: python -m conformance ops")
    if options["executor"]:
        _check_executor(options["executor"], options["subjects"])
    seconds = options["seconds"]
    return Settings(
        subjects=tuple(options["subjects"]), device=options["device"], mix=mix,
        seed=DEFAULT_SEED if options["seed"] is None else options["seed"],
        programs=None if seconds is not None else 20_000 if options["programs"] is None else options["programs"], seconds=seconds,
        jobs=options["jobs"], shard=options["shard"], out=options["out"], fail_on=options["fail_on"], provider=options["provider"],
        merge_events=options["merge_events"], baseline=options["baseline"], executor=options["executor"],
    )  # fmt: skip


def _check_executor(name: str, subjects: tuple[str, ...]) -> None:
    from conformance.isolation.executors import ExecutorError, executor

    try:
        executor(name)
    except ExecutorError as error:
        refuse(error)
    if any("@" in subject for subject in subjects):
        refuse("--executor runs batches in processes of its own, so a subject of another interpreter (@) needs a run without --executor")


def _known(files: tuple[Path, ...]) -> KnownFailures:
    layers = [SHIPPED, *([USER] if USER.exists() else []), *files]
    try:
        found = load(layers)
    except KnownError as error:
        refuse(error)
    names = _op_names()
    for entry in found.entries:
        if entry.op not in names:
            refuse(f"{entry.file}: entry {entry.id!r}: no op {entry.op!r} in the table; python -m conformance ops lists them")
        if entry.program is not None:
            _check(entry.program, f"{entry.file}: entry {entry.id!r}: program")
    return found


# --- one divergence -----------------------------------------------------------------------------------------------------------


def _find(which: str, out: Path) -> tuple[Program, Divergence | None]:
    """A program by a divergence's id in the last run, or from a file."""
    path = Path(which)
    if path.is_file():
        return _from_file(path), None
    try:
        events = read(out)
    except RunError as error:
        refuse(f"no file {which!r}, and no run to look for that id in ({error})")
    for event in events:
        if event["type"] in ("divergence", "known") and event.get("id", event.get("entry")) == which and "divergence" in event:
            found = Divergence.from_json(event["divergence"])
            _check(found.program, f"{out}: {which}")
            return found.program, found
    refuse(f"no divergence {which!r} in {out}, and no such file; ids stand in the report and in {out / 'gate.json'}")


def _from_file(path: Path) -> Program:
    try:
        program = Program.from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        refuse(f"{path}: not UTF-8; a program file is JSON")
    except OSError as error:
        refuse(f"{path}: cannot be read ({os_reason(error)})")
    except (ProgramError, ArithmeticError, RecursionError) as error:
        refuse(f"{path}: {error}")
    if not program.statements:
        refuse(f"{path}: the program has no statements, so nothing could be judged")
    _check(program, str(path))
    return program


def _check(program: Program, where: str) -> None:
    """Refuses a program that names what this version does not have. Nothing in a file may reach further than these names."""
    for index, statement in enumerate(program.statements):
        if problem := _problem(statement):
            refuse(f"{where}: statement {index}: {problem}; remove it, or use the version that wrote it")


def _problem(s: Statement) -> str:
    from conformance.subjects.walk import OPERATORS
    from refgrad import optim
    from refgrad._table import TABLE

    names: dict[str, Container[str]] = {
        **dict.fromkeys(("call", "method", "inplace"), TABLE), **dict.fromkeys(("operator", "augmented"), OPERATORS),
        "enter": MODES, "hook": HOOK_ACTIONS, "clear_grad": ("none", "zero"), "optimizer": [n for n in dir(optim) if n[:1].isupper()],
    }  # fmt: skip
    if s.kind in names and s.op not in names[s.kind]:
        return f"{'op' if names[s.kind] is TABLE else s.kind} {s.op!r} is not in this version's table"
    if s.kind == "tensor" and not (len(s.args) == 1 and isinstance(s.args[0], Literal)):
        return "a tensor statement has a tensor's bits as its one argument"
    return ""


@main.command()
@click.argument("which", metavar="ID|FILE")
@click.option("--subject", default="torch", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=PATH, default=Path("reports"), show_default=True, help="the run that ID is of")
def replay(which: str, subject: str, device: str, out: Path) -> None:
    """Run one divergence or program file again. Exit code 1 where it diverges, 0 where it does not."""
    from conformance.run import replay as run_again
    from conformance.subjects import SubjectError

    program, _ = _find(which, out)
    try:
        found = run_again(program, subject, device)
    except SubjectError as error:
        refuse(error)
    if found is None:
        click.echo(_source(program))
        click.echo(f"{which}: no divergence on {subject}, {device}")
        return
    click.echo(describe(found))
    sys.exit(1)


@main.command()
@click.argument("which", metavar="ID")
@click.option("--issue", is_flag=True, help="as text ready for an upstream bug report")
@click.option("--out", type=PATH, default=Path("reports"), show_default=True)
def show(which: str, issue: bool, out: Path) -> None:
    """Print one divergence: program, evidence, reproducer."""
    _, found = _find(which, out)
    if found is None:
        refuse(f"{which} is a program file, not a divergence; run it with: python -m conformance replay {which}")
    if issue:
        from conformance.report import reproducer
        from conformance.run import path_of

        version = _start(out)["torch"]
        try:
            text = reproducer.script(found, version, path_of)
        except ProgramError as error:
            refuse(f"{which}: this program cannot be printed ({error}); python -m conformance replay {which} runs it")
        click.echo(f"### {found.title()}\n\n```python\n{text}```\n")
        return
    click.echo(describe(found))
    click.echo(f"reproducer: {out / 'reproducers' / (found.key.id + '.py')}")


def _start(run: Path) -> Event:
    try:
        return next(event for event in read(run) if event["type"] == "start")
    except StopIteration:
        refuse(f"{run}: this run has no start; is it a part of one?")
    except RunError as error:
        refuse(error)


def _source(program: Program) -> str:
    from conformance.codegen import source
    from conformance.run import path_of

    return source(program, path=path_of)


def describe(found: Divergence) -> str:
    """A divergence for the terminal: the title, the program with the wrong statement marked, what was allowed and what came."""
    from conformance.codegen import lines
    from conformance.report.text import visible
    from conformance.run import path_of

    out = [found.title(), ""]
    out += [f"{'>' if index == found.statement else ' '} {line}" for index, line in lines(found.program, path=path_of)]
    evidence = found.evidence
    out += ["", f"{found.tensor}: expected {evidence.expected}", f"{' ' * len(found.tensor)}  got      {evidence.got}"]
    for e in evidence.elements:
        out.append(f"  {list(e.index)}: exact {e.exact}, allowed [{e.low}, {e.high}], got {e.got}, off by {e.ulps:.3g} ulp")
    if evidence.hidden:
        out.append(f"  … and {evidence.hidden} more elements")
    out.append(f"reason: {evidence.reason}")
    return "\n".join(visible(line) for line in out)


# --- known failures -----------------------------------------------------------------------------------------------------------


@main.group()
def known() -> None:
    """The known-failure files: list, accept, lint, prune."""


@known.command("list")
@click.option("--known", "known_files", multiple=True, type=PATH)
@click.option("--markdown", is_flag=True, help="as a table, such as the one of docs/findings.md")
def known_list(known_files: tuple[Path, ...], markdown: bool) -> None:
    """Every entry: its id, what it covers, its reason."""
    entries = _known(known_files).entries
    if markdown:
        click.echo("\n".join(known_table(entries)))
        return
    for entry in entries:
        click.echo(f"{entry.id}  {entry.op} {entry.facet} {','.join(entry.dtype)}  {' '.join(entry.reason.split())}")


@known.command("accept")
@click.argument("which", metavar="ID")
@click.option("--reason", default="", help="why it may stand")
@click.option("--reviewer", default="")
@click.option("--upstream", default="", help="the upstream report")
@click.option("--out", type=PATH, default=Path("reports"), show_default=True)
def known_accept(which: str, reason: str, reviewer: str, upstream: str, out: Path) -> None:
    """Add an entry for a divergence to ./conformance-known.toml."""
    _, found = _find(which, out)
    if found is None:
        refuse(f"{which} is no divergence of {out}")
    version = _start(out)["torch"]
    try:
        entry = accept(found, reason, torch=version, reviewer=reviewer, upstream=upstream)
    except KnownError as error:
        refuse(error)
    click.echo(f"{USER}: entry {entry.id} added; it covers {found.title()}")


@known.command("lint")
@click.argument("files", nargs=-1, type=PATH)
def known_lint(files: tuple[Path, ...]) -> None:
    """What is wrong with these files (default: the shipped one and yours). Exit code 1 where something is."""
    problems = lint(files or [SHIPPED, *([USER] if USER.exists() else [])], datetime.datetime.now(datetime.UTC).date(), _op_names())
    for problem in problems:
        click.echo(problem)
    sys.exit(1 if problems else 0)


@known.command("prune")
@click.option("--out", type=PATH, default=Path("reports"), show_default=True, help="the run that says what is stale")
@click.option("--file", "file", type=PATH, default=USER, show_default=True)
def known_prune(out: Path, file: Path) -> None:
    """Remove the entries that the last run found stale."""
    if not file.exists() and file != USER:
        refuse(f"{file}: no such file; name a known-failure file with --file")
    try:
        stale = [e["entry"] for e in read(out) if e["type"] == "known" and e["status"] == "stale"]
        removed = prune(file, stale) if file.exists() else []
    except (RunError, KnownError) as error:
        refuse(error)
    click.echo(f"removed {', '.join(removed)}" if removed else "nothing to remove")


def _op_names() -> list[str]:
    from refgrad._table import TABLE

    return [
        *TABLE,
        "backward",
        "grad",
        "SGD",
        "inplace",
        "inference_mode",
        "augmented",
        "getitem",
        "setitem",
        "detach",
        "step",
        "zero_grad",
        "clear_grad",
        "hook",
    ]


# --- what is covered, what can run ----------------------------------------------------------------------------------------------


@main.command()
@click.argument("name", required=False)
def ops(name: str | None) -> None:
    """The ops that are covered, with allowance and reason; or all about one."""
    from refgrad._table import OVERLOADS, TABLE

    if name is not None and name not in TABLE:
        refuse(f"no op {name!r} in the table; the names are listed by: python -m conformance ops")
    for entry_name in [name] if name else sorted(n for n in TABLE if not n.startswith("_")):
        for entry in OVERLOADS[entry_name]:
            click.echo(f"{entry.path:<40} {allowance(entry):<34} {entry.reason}")


def allowance(entry: Any) -> str:
    """The allowance of one evaluation, in words."""
    if entry.composite:
        return "composite: that of its ops"
    if entry.error == "exact":
        return "exact"
    k = "k(n)" if callable(entry.ulps) else entry.ulps if entry.ulps is not None else 1.0 if entry.direct else 4.0
    relative = "its scale" if entry.scale is not None else "the op on magnitudes" if entry.error in ("linear", "bilinear") else "the result"
    return f"{k} u of {relative}"


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN", type=PATH)
@click.option("--out", type=PATH, default=None, help="default: the run's own folder")
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write the reports of a run (or of the shards of one) again."""
    from conformance.output import write_all
    from conformance.run import path_of

    try:
        parts = [read(r) for r in runs]
        events = merge(parts)
        folder = out or (runs[0] if runs[0].is_dir() else runs[0].parent)
        summary = write_all(folder, events, _known(()), path=path_of)
    except (RunError, OutputError, KnownError) as error:
        refuse(error)
    click.echo(f"{summary.sentence} {folder / 'index.html'}")


@main.command()
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
def diff(before: Path, after: Path) -> None:
    """What is new, fixed and still there between two runs. Exit code 1 where something is new."""
    from conformance.report.core import changes, summarize

    try:
        old, now = (summarize(read(run)).causes for run in (before, after))
    except RunError as error:
        refuse(error)
    titles = {cause.id: cause.title for cause in (*old, *now)}
    found = changes(old, now)
    for word, ids in (("new", found.new), ("fixed", found.fixed), ("still", found.still)):
        for name in ids:
            click.echo(f"{word:<6}{name}  {titles[name]}")
    if not titles:
        click.echo("no causes in either run")
    sys.exit(1 if found.new else 0)


@main.command()
def doctor() -> None:
    """What is installed, which subjects can run, and why not."""
    from conformance.subjects import SubjectError, known_subjects, subject

    for package in ("torch-conformance", "numpy", "scipy", "ml_dtypes", "hypothesis", "torch"):
        try:
            click.echo(f"{package:<20} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            click.echo(f"{package:<20} not installed")
    for name in known_subjects():
        for device in ("cpu", "cuda") if name == "torch" else ("cpu",):
            try:
                subject(name, device)
                click.echo(f"subject {name} on {device}: can run")
            except SubjectError as error:
                click.echo(f"subject {name} on {device}: {error}")


@main.command()
@click.argument("file", type=PATH)
@click.option("--subject", default="torch", show_default=True, help="the module to compare with")
def script(file: Path, subject: str) -> None:
    """Run a PyTorch script, cell by cell, on refgrad and on a subject, and compare every text that a cell shows."""
    from conformance.script import ScriptError, compare

    try:
        result = compare(file, subject)
    except (ScriptError, OSError) as error:
        refuse(error)
    for line in result.lines():
        click.echo(line)
    sys.exit(0 if result.same else 1)
