"""What a person types. ``nox -s conformance`` is the main job, ``nox -s tests`` tests this project; ``nox --list`` shows all.

Every session installs what it needs by itself. Those that need torch share one environment, `.nox/torch-env-HASH`, where the hash
is of all that was asked for: a second run finds its stamp and starts at once. `CONFORMANCE_TORCH` names another torch, as a version
(`2.12.1`) or as a requirement (`torch>=2.12`, `./torch-2.14.0-….whl`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "tests", "conformance"]
nox.options.default_venv_backend = "none"  # see ``environment``

ROOT = Path(__file__).resolve().parent
REPORTS = ROOT / "reports"
SUITE_EVENTS = REPORTS / ".suite-events"
GATE_TORCH = "2.13.0"
GATE_PROGRAMS = 20_000

#: exit codes of ``conformance run`` (and of the gate): what they mean stands in the README
RED, BROKEN, NOTHING_JUDGED, INTERRUPTED = 1, 3, 4, 130

#: ``pytest -n auto`` and ``run --jobs`` start a process per core already. Were each to use a thread per core on top, as torch and BLAS
#: do by default, they would fight: every kernel would wait for the slowest of its threads, and take longer than alone. One thread
#: also adds up in one order, so that the same program gives the same bits in each run.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")}


# --- environments -------------------------------------------------------------------------------------------------------


def torch_requirement() -> str:
    wanted = os.environ.get("CONFORMANCE_TORCH", "").strip() or GATE_TORCH
    return f"torch=={wanted}" if wanted[0].isdigit() else wanted


def torch_environment(session: nox.Session) -> str:
    """The Python of the environment that has torch. One pip command asks for everything, so that nothing draws in another torch."""
    return environment(session, "torch", [torch_requirement(), "--editable", "."])


def environment(session: nox.Session, name: str, requirements: list[str]) -> str:
    """The Python of a virtual environment that holds ``requirements``, built if it does not stand yet.

    The stamp is written last: an environment whose building was interrupted has none and is built anew.
    """
    wanted = json.dumps([requirements, what_installing_reads(), platform.python_version(), sysconfig.get_platform()], indent=1)
    folder = ROOT / ".nox" / f"{name}-env-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "installed.json"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        session.log(f"building {folder.relative_to(ROOT)} from {' '.join(requirements)}: minutes the first time, not again")
        shutil.rmtree(folder, ignore_errors=True)
        session.run(sys.executable, "-m", "virtualenv", "--quiet", str(folder), silent=True)  # nox itself requires virtualenv
        session.run(str(python), "-m", "pip", "install", "--quiet", *requirements)
        stamp.write_text(wanted)
    return str(python)


def what_installing_reads() -> dict[str, object]:
    """The parts of pyproject.toml that an installation depends on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {"build-system": project["build-system"], "project": project["project"], "hatch": project["tool"]["hatch"]}


# --- running ------------------------------------------------------------------------------------------------------------


def variables(**more: str) -> dict[str, str]:
    """The environment of what a session runs: ours, one thread each, and no PYTHONPATH, whose torch would be judged in place of ours."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **ONE_THREAD, **more}


def code_of(session: nox.Session, *command: str, env: dict[str, str] | None = None) -> int:
    """The exit code of a command. nox's own ``run`` tells only 0 from the rest, and kills what takes time to end after Ctrl-C.

    Ctrl-C reaches the command as well: it is waited for while it keeps what it found and writes its report.
    """
    session.log(" ".join(command))
    interrupted = False
    with subprocess.Popen(command, cwd=ROOT, env=env or variables()) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return INTERRUPTED if interrupted and code not in (0, BROKEN) else code


def close(session: nox.Session, code: int, what: str) -> None:
    """Ends the session with this exit code. nox turns every failure into 1, which means "red" and would be wrong for the others."""
    if code == RED:
        session.error(f"{what}: exit code {code}")
    if code:
        print(f"{what}: exit code {code}", file=sys.stderr)
        sys.exit(code)


def run_pytest(session: nox.Session, python: str, *arguments: str, env: dict[str, str] | None = None) -> int:
    return code_of(session, python, "-m", "pytest", *arguments, env=env)


def judge_pytest(session: nox.Session, *arguments: str, processes: str = "auto") -> None:
    """Runs tests, on all cores unless told otherwise; any failure is a failure, whatever pytest calls it."""
    python = torch_environment(session)
    if code := run_pytest(session, python, "-n", processes, "--dist", "worksteal", *arguments):
        session.error(f"pytest's exit code {code}")


# --- sessions -----------------------------------------------------------------------------------------------------------


@nox.session
def conformance(session: nox.Session) -> None:
    """Judge torch: the Hypothesis suite, then 20,000 programs; one report covers both. Options go to `conformance run`."""
    python = torch_environment(session)
    same_verdict = variables(PYTHONHASHSEED="0")  # nothing may depend on it; were something to, the verdict would still be the commit's
    shutil.rmtree(SUITE_EVENTS, ignore_errors=True)
    SUITE_EVENTS.mkdir(parents=True)
    suite_env = {**same_verdict, "CONFORMANCE_EVENTS_DIR": str(SUITE_EVENTS)}
    suite = run_pytest(session, python, "conformance/suite", "-n", "auto", env=suite_env)
    if suite == INTERRUPTED:
        close(session, suite, "the suite was interrupted")
    bounded = any(option.split("=")[0] in ("--programs", "--seconds") for option in session.posargs)
    programs = () if bounded else ("--programs", str(GATE_PROGRAMS))
    run = ("run", *programs, "--merge-events", str(SUITE_EVENTS), *session.posargs)
    gate = code_of(session, python, "-m", "conformance", *run, env=same_verdict)
    if suite and gate in (0, NOTHING_JUDGED):  # it failed, and not by a divergence, which would have made the gate red
        close(session, BROKEN, f"the suite failed (pytest's exit code {suite}), see above")
    close(session, gate, "the gate")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests of this project that need no accelerator; what cannot run here says so."""
    judge_pytest(session, "tests", "-m", "not slow", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and mypy; all of them run, then the failed ones are named."""
    python = environment(session, "lint", ["--editable", ".[lint]"])
    tools = [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)]
    if failed := [" ".join(tool) for tool in tools if code_of(session, python, "-m", *tool)]:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the figures of docs/performance.md, each with its command. One thread: cores are compared, not machines."""
    python = torch_environment(session)
    scripts = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").glob("bench_*.py"))
    if failed := [script for script in scripts if code_of(session, python, script, *session.posargs)]:
        session.error(f"failed: {', '.join(failed)}")
    if not scripts:
        session.error("benchmarks/ holds no bench_*.py")


@nox.session
def quality(session: nox.Session) -> None:
    """Is the tester any good: planted defects must be caught, and nothing where none is planted."""
    judge_pytest(session, "tests/quality", *session.posargs, processes="0")  # each search has workers on both cores: two would share them


@nox.session
def campaign(session: nox.Session) -> None:
    """A long run with a fresh seed, which is printed: `nox -s campaign -- --seconds 3600`."""
    python = torch_environment(session)
    seed = str(secrets.randbelow(2**32))
    options = session.posargs or ["--seconds", "600"]
    print(f"seed {seed}")
    close(session, code_of(session, python, "-m", "conformance", "run", "--seed", seed, *options), f"the campaign with seed {seed}")


@nox.session
def op(session: nox.Session) -> None:
    """One op, for who adds or changes it: its entry, the tests that name it, 2,000 programs that draw it: `nox -s op -- exp`."""
    if not session.posargs:
        session.error("which op? nox -s op -- NAME")
    python = torch_environment(session)
    name, *options = session.posargs
    close(session, code_of(session, python, "-m", "conformance", "ops", name), f"conformance ops {name}")
    if run_pytest(session, python, "tests", "-m", "not slow", "-k", name) not in (0, 5):  # 5: no test names it
        session.error(f"a test that names {name} failed")
    run = ("run", "--ops", name, "--programs", "2000", "--out", str(REPORTS / "op"), *options)
    close(session, code_of(session, python, "-m", "conformance", *run), f"the programs that draw {name}")
