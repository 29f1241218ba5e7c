"""The command line: every command does its work, bad input is one line and exit code 2, Ctrl-C keeps what was found."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from conformance.cli import main
from conformance.events import read
from conformance.generate.programs import from_seed
from conformance.known_failures import load
from conformance.output import write_all
from conformance.report.core import summarize
from tests.harness.writing import do, leaf, write
from tests.helpers import synthetic_divergence, synthetic_events

ROOT = Path(__file__).resolve().parents[2]
WRONG = "tests.harness.subjects:Wrong"
DRAW_EXP = ("--ops", "exp", "--dtype", "float32", "--jobs", "1")
#: exp, which Wrong gets wrong
EXP = write(leaf("t0", [1.0]), do("call", "exp", "@t0", out="t1"))


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def shown(*arguments: Any, code: int = 0) -> str:
    """What a command prints; it must end with this exit code."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    return result.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(*arguments: Any) -> str:
    """The one line by which a command refuses. It must exit with 2, print nothing else, and leave every file here as it was."""
    before = contents(Path.cwd())
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("conformance: ") and contents(Path.cwd()) == before
    return line.removeprefix("conformance: ")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with an earlier run in ./reports."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "CONFORMANCE_NO_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    write_all(tmp_path / "reports", synthetic_events([(synthetic_divergence(), "new")]), raising=lambda program: frozenset())
    return tmp_path


@pytest.fixture(scope="module")
def wrong_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that found Wrong's exp."""
    out = tmp_path_factory.mktemp("wrong") / "reports"
    assert "exp in wrong: value off" in shown("run", "--subject", WRONG, *DRAW_EXP, "--programs", 20, "--out", out, code=1)
    return out


@pytest.fixture
def found(here: Path, wrong_run: Path) -> str:
    """The id of what the run in ./reports found."""
    shutil.rmtree(here / "reports")
    shutil.copytree(wrong_run, here / "reports")
    return str(json.loads((here / "reports" / "gate.json").read_text())["causes"][0]["id"])


# --- bad input ----------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "subject": (("run", "--subject", "tensorflow"), "unknown subject 'tensorflow'; known: torch, refgrad"),
    "module of a subject": (("run", "--subject", "no.such:Engine"), "no module 'no' here"),
    "device": (("run", "--subject", "refgrad", "--device", "cuda"), "device 'cuda' cannot be used by subject 'refgrad'"),
    "dtype": (("run", "--dtype", "float13"), "unknown dtype 'float13'; known: bool, uint8"),
    "op": (("run", "--ops", "sinn"), "no op matches 'sinn'; the names are listed by: python -m conformance ops"),
    "weight": (("run", "--ops", "sin=often"), "the weight 'often' is no positive number"),
    "weight of nothing": (("run", "--ops", "sin=0"), "the weight '0' is no positive number"),
    "weight without end": (("run", "--ops", "sin=inf"), "the weight 'inf' is no positive number"),
    "option": (("run", "--programz", "3"), "No such option '--programz'"),
    "command": (("rum",), "No such command 'rum'"),
    "number": (("run", "--programs", "many"), "Invalid value for '--programs'"),
    "negative number": (("run", "--programs", "-1"), "Invalid value for '--programs'"),
    "programs and seconds": (("run", "--programs", "3", "--seconds", "3"), "--programs and --seconds exclude each other"),
    "shard": (("run", "--shard", "3/2"), "--shard 3/2: I is between 1 and N"),
    "shard of words": (("run", "--shard", "one"), "--shard one: write I/N"),
    "provider": (("run", "--provider", "dice"), "Invalid value for '--provider'"),
    "status to fail on": (("run", "--fail-on", "never"), "--fail-on never"),
    "known file": (("run", "--known", "nowhere.toml"), "nowhere.toml: cannot be read (no such file or directory)"),
    "baseline": (("run", "--baseline", "nowhere"), "nowhere: no run here"),
    "events of a suite": (("run", "--merge-events", "nowhere"), "nowhere: no folder"),
    "op to list": (("ops", "sinn"), "no op 'sinn' in the table"),
    "id to replay": (("replay", "abcdef"), "no divergence 'abcdef' in reports, and no such file"),
    "run to replay from": (("replay", "abcdef", "--out", "nowhere"), "no file 'abcdef', and no run"),
    "id to show": (("show", "abcdef"), "no divergence 'abcdef' in reports"),
    "id to accept": (("known", "accept", "abcdef", "--reason", "x"), "no divergence 'abcdef' in reports"),
    "run to report": (("report", "nowhere"), "nowhere: no run here"),
    "run to compare": (("diff", "reports", "nowhere"), "nowhere: no run here"),
    "run that found stale entries": (("known", "prune", "--out", "nowhere", "--file", "reports/gate.json"), "nowhere: no run here"),
    "file to prune": (("known", "prune", "--file", "nowhere.toml"), "nowhere.toml: no such file"),
    "script": (("script", "nowhere.py"), "nowhere.py: cannot be read"),
    "argument": (("replay",), "Missing argument 'ID|FILE'"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_that_says_what_is_wrong(here: Path, arguments: tuple[str, ...], says: str) -> None:
    assert says in refused(*arguments)


@pytest.mark.parametrize("name", ["file", "file/reports"])
def test_an_output_folder_that_cannot_be_written_is_one_line(here: Path, name: str) -> None:
    (here / "file").write_text("mine")
    assert "choose another folder with --out" in refused("run", "--subject", "refgrad", "--programs", 1, "--jobs", 1, "--out", name)


def test_a_reason_is_asked_for_before_anything_is_accepted(found: str) -> None:
    assert "needs a reason" in refused("known", "accept", found)


def program_text(change: Callable[[dict[str, Any]], object]) -> str:
    data = EXP.to_json()
    change(data)
    return json.dumps(data)


def statement(**fields: Any) -> Callable[[dict[str, Any]], object]:
    """Changes the last statement."""
    return lambda data: data["statements"][-1].update(fields)


def literal(**fields: Any) -> Callable[[dict[str, Any]], object]:
    """Changes the first statement's tensor."""
    return lambda data: data["statements"][0]["args"][0].update(fields)


BLOCK = [{"kind": "enter", "op": "load"}, {"kind": "exit"}]
#: what a program file may hold that is no program of this version, and what is said then
ILL: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "not JSON"),
    "another JSON": ("[1]", "no program"),
    "no UTF-8": ("\udcff", "not UTF-8"),
    "a higher format": (program_text(lambda data: data.update(format=2)), "format 2 is newer than 1"),
    "no format": (program_text(lambda data: data.pop("format")), '"format" is None'),
    "an op that is gone": (program_text(statement(op="expp")), "statement 1: op 'expp' is not in this version's table"),
    "a method that is no op": (program_text(statement(kind="method", op="backward")), "op 'backward' is not in this version's table"),
    "an in-place op that is gone": (program_text(statement(kind="inplace", op="expp", out=[])), "op 'expp' is not in this version's table"),
    "an unknown operator": (program_text(statement(kind="operator", op="exp")), "operator 'exp' is not in this version's table"),
    "an unknown kind": (program_text(statement(kind="system")), "unknown kind 'system'"),
    "an unknown block": (program_text(lambda data: data["statements"].extend(BLOCK)), "enter 'load'"),
    "an unknown optimizer": (program_text(statement(kind="optimizer", op="__class__")), "optimizer '__class__'"),
    "an unknown hook": (program_text(statement(kind="hook", op="eval")), "hook 'eval'"),
    "a name that is not bound": (program_text(statement(args=[{"ref": "t7"}])), "statement 1: 't7' is read before it is bound"),
    "a tensor without bits": (program_text(lambda data: data["statements"][0].update(args=[3])), "statement 0: a tensor statement has"),
    "a tensor that reaches beyond its bits": (program_text(literal(shape=[9])), "statement 0: a tensor reaches 9 elements"),
    "a tensor of no dtype": (program_text(literal(tensor="float13")), "unknown dtype 'float13'"),
    "a float that is none": (program_text(statement(args=[{"float": "0x1p99999"}])), "too large"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "says"), ILL.values(), ids=ILL)
def test_a_program_file_that_is_none_is_one_line_that_says_where(here: Path, text: str, says: str) -> None:
    (here / "p.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    line = refused("replay", "p.json", "--subject", "refgrad")
    assert line.startswith("p.json: ") and says in line


def entry(program: str) -> str:
    return f"[[known]]\nid = 'a'\nop = 'exp'\nfacet = 'value'\nreason = 'r'\nprogram = '{program}'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = [", "not TOML"),
        ("[[known]]\nid = 'a'\n", "entry 'a': no op"),
        ("[[known]]\nid = 'a'\nop = 'exp'\nfacet = 'speed'\nreason = 'r'\n", "unknown facet 'speed'"),
        (entry("{"), "program: not JSON"),
        (entry(program_text(statement(op="expp"))), "op 'expp' is not in"),
        (entry(program_text(lambda data: data.update(format=2))), "format 2 is newer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["given", "of the user"])
def test_a_known_file_that_is_none_is_one_line_that_says_where(here: Path, text: str, says: str, place: str) -> None:
    name = "k.toml" if place == "given" else "conformance-known.toml"
    (here / name).write_text(text)
    line = refused("run", "--subject", "refgrad", "--programs", 1, *(("--known", name) if place == "given" else ()))
    assert line.startswith(f"{name}: ") and says in line


def without_torch(here: Path) -> dict[str, str]:
    """An environment in which importing torch fails as where it is not installed."""
    (here / "path").mkdir()
    (here / "path" / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(here / "path"), str(ROOT)])}


def process(*arguments: Any, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "ignore", "-m", "conformance", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("run", "--programs", 1, "--jobs", 1), ("script", "s.py")])
def test_a_missing_torch_is_one_line_that_says_how_to_install_it(here: Path, arguments: tuple[Any, ...]) -> None:
    env = without_torch(here)
    (here / "s.py").write_text("1\n")
    before = contents(here)
    result = process(*arguments, env=env)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines()), contents(here)) == (2, "", 1, before)
    assert "torch" in result.stderr and "install" in result.stderr


def test_what_needs_no_torch_works_without_it(here: Path) -> None:
    result = process("run", "--subject", "refgrad", "--programs", 5, "--jobs", 1, env=without_torch(here))
    assert (result.returncode, result.stderr) == (0, "")


# --- run ----------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_report_and_ends_with_the_exit_code_of_its_gate(here: Path) -> None:
    text = shown("run", "--subject", "refgrad", "--programs", 30, "--jobs", 1, "--out", "new")
    assert "Green: no new cause in 30 programs." in text and "conformance: 30 passed, 0 failed, 0 skipped" in text
    assert set(contents(here / "new")) == {"index.html", "events.jsonl", "junit.xml", "summary.md", "gate.json"}


def test_a_run_that_judged_nothing_ends_with_4(here: Path) -> None:
    assert "Nothing was judged" in shown("run", "--subject", "refgrad", "--programs", 0, "--jobs", 1, code=4)


def test_statuses_to_fail_on_are_chosen(found: str) -> None:
    options = ("run", "--subject", WRONG, *DRAW_EXP, "--programs", 5, "--out", "again")
    assert "Green" in shown(*options, "--fail-on", "expired") and "Red" in shown(*options, code=1)


def test_a_time_bounds_a_run_too(here: Path) -> None:
    shown("run", "--subject", "refgrad", "--seconds", 0.2, "--jobs", 1, "--out", "new")
    assert summarize(read(here / "new")).start["planned"] == {"seconds": 0.2}


def test_annotations_come_where_a_workflow_runs_it_and_nowhere_else(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("run", "--subject", WRONG, *DRAW_EXP, "--programs", 5, "--out", "new")
    assert "::error" not in shown(*options, code=1)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert [line[:18] for line in shown(*options, code=1).splitlines() if line.startswith("::")][:1] == ["::error title=new "]


def test_a_baseline_says_what_changed(found: str, here: Path) -> None:
    shown("run", "--subject", "refgrad", *DRAW_EXP, "--programs", 5, "--out", "new", "--baseline", "reports")
    assert "- Changed: 0 new, 1 no longer seen, 0 still there" in (here / "new" / "summary.md").read_text().replace("\\", "")


def test_ctrl_c_keeps_what_was_found_writes_the_report_and_ends_with_130(here: Path) -> None:
    options = ("--subject", "tests.harness.subjects:Interrupting", *DRAW_EXP, "--seconds", 3600)
    result = process("run", *options, env={**os.environ, "PYTHONPATH": str(ROOT)})
    gate = json.loads((here / "reports" / "gate.json").read_text())
    assert (result.returncode, gate["verdict"], gate["exit"], gate["partial"]) == (130, "interrupted", 130, True), result.stderr
    assert {cause["op"] for cause in gate["causes"]} == {"exp"} and gate["judged"] >= 50
    assert result.stderr == "" and (here / "reports" / "index.html").is_file() and "Interrupted" in result.stdout
    assert (here / "reports" / "runs" / "20261124T160000" / "gate.json").is_file()


def test_ctrl_c_before_anything_was_judged_ends_with_130_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("conformance.run.execute", interrupted)
    before = contents(here)
    result = call("run", "--programs", 1)
    assert (result.exit_code, result.stderr.strip(), contents(here)) == (130, "conformance: interrupted", before)


# --- shards -------------------------------------------------------------------------------------------------------------


def test_the_event_files_of_shards_merge_into_the_whole(here: Path) -> None:
    options = ("run", "--subject", "refgrad", "--programs", 120, "--jobs", 1)
    for place in (1, 2):
        shown(*options, "--shard", f"{place}/2", "--out", f"shard{place}")
    text = shown("report", "shard1", "shard2/events.jsonl", "--out", "both")
    assert text.startswith("Green: no new cause in 120 programs.") and not json.loads((here / "both" / "gate.json").read_text())["partial"]


# --- one divergence -----------------------------------------------------------------------------------------------------


def test_a_divergence_is_replayed_by_its_id_on_the_subject_that_showed_it_and_on_another(found: str) -> None:
    text = shown("replay", found, "--subject", WRONG, code=1)
    assert "exp in wrong: value off by" in text and "> t1 = torch.exp(t0)" in text.replace("  ", " ")
    assert f"{found}: no divergence on refgrad, cpu" in shown("replay", found, "--subject", "refgrad")


def test_a_program_file_is_replayed(here: Path) -> None:
    (here / "p.json").write_text(json.dumps(EXP.to_json()))
    assert "exp in wrong" in shown("replay", "p.json", "--subject", WRONG, code=1)
    assert "p.json: no divergence on refgrad, cpu" in shown("replay", "p.json", "--subject", "refgrad")


def test_a_crash_is_replayed_without_ending_us(here: Path) -> None:
    (here / "p.json").write_text(json.dumps(EXP.to_json()))
    assert "exp in crashing" in shown("replay", "p.json", "--subject", "tests.harness.subjects:Crashing", code=1)


def test_a_program_that_was_drawn_is_replayed_from_its_file(here: Path) -> None:
    (here / "p.json").write_text(json.dumps(from_seed(11).to_json()))
    assert "no divergence on refgrad" in shown("replay", "p.json", "--subject", "refgrad")


def test_a_subject_that_cannot_replay_is_one_line(found: str) -> None:
    assert "unknown subject 'nosuch'" in refused("replay", found, "--subject", "nosuch")


def test_a_divergence_is_shown_with_its_program_evidence_and_reproducer(found: str) -> None:
    text = shown("show", found)
    assert "exp in wrong: value off by" in text and "reason: " in text and f"reports/reproducers/{found}.py" in text


def test_a_divergence_is_shown_as_text_for_a_bug_report(found: str) -> None:
    text = shown("show", found, "--issue")
    assert text.startswith("### exp in wrong") and "```python\n" in text and "import torch" in text


def test_a_program_file_is_no_divergence_to_show(here: Path) -> None:
    (here / "p.json").write_text(json.dumps(EXP.to_json()))
    assert "run it with: python -m conformance replay p.json" in refused("show", "p.json")


# --- known failures -----------------------------------------------------------------------------------------------------


def test_an_accepted_divergence_no_longer_makes_a_run_red_until_it_is_pruned(found: str, here: Path) -> None:
    options = ("run", "--subject", WRONG, *DRAW_EXP, "--programs", 20)
    ids = [cause["id"] for cause in json.loads((here / "reports" / "gate.json").read_text())["causes"]]
    for name in ids:
        assert f"exp-value-{name}" in shown("known", "accept", name, "--reason", "planted", "--reviewer", "me")
    assert "planted" in shown("known", "list") and shown("known", "lint", "conformance-known.toml") == ""
    assert "KNOWN" in shown(*options, "--out", "again")
    assert shown("known", "prune", "--out", "again") == "nothing to remove\n"
    text = (here / "conformance-known.toml").read_text().replace('subject = "wrong"', 'subject = "refgrad"')
    (here / "conformance-known.toml").write_text(text)
    assert "STALE" in shown("run", "--subject", "refgrad", *DRAW_EXP, "--programs", 5, "--out", "now")
    assert shown("known", "prune", "--out", "now").startswith("removed exp-value-")
    assert load([here / "conformance-known.toml"]).entries == ()


def test_an_accepted_divergence_is_not_accepted_twice(found: str) -> None:
    shown("known", "accept", found, "--reason", "planted")
    assert "covers" in refused("known", "accept", found, "--reason", "planted")


def test_lint_tells_what_is_wrong_with_a_file_and_ends_with_1(here: Path) -> None:
    (here / "k.toml").write_text("[[known]]\nid = 'a'\nop = 'expp'\nfacet = 'value'\nreason = 'r'\nexpires = 2020-01-31\n")
    lines = shown("known", "lint", "k.toml", code=1).splitlines()
    assert ["expired on 2020-01-31" in lines[0], "no op 'expp'" in lines[1], "no program" in lines[2], len(lines)] == [True] * 3 + [3]


def test_the_shipped_known_file_is_well_formed(here: Path) -> None:
    assert shown("known", "lint") == ""


# --- other runs ---------------------------------------------------------------------------------------------------------


def test_two_runs_are_compared(found: str, here: Path) -> None:
    write_all(here / "clean", synthetic_events())
    assert f"fixed {found}  exp in wrong" in shown("diff", "reports", "clean")
    assert f"new   {found}  exp in wrong" in shown("diff", "clean", "reports", code=1)
    assert f"still {found}" in shown("diff", "reports", "reports")
    assert shown("diff", "clean", "clean") == "no causes in either run\n"


def test_a_report_is_written_again(found: str, here: Path) -> None:
    (here / "reports" / "index.html").unlink()
    assert "Red" in shown("report", "reports") and (here / "reports" / "index.html").is_file() and not (here / "reports" / "runs").exists()


# --- what is covered, what can run --------------------------------------------------------------------------------------


def test_ops_are_listed_with_allowance_and_reason_and_one_by_its_name(here: Path) -> None:
    lines = shown("ops").splitlines()
    assert len(lines) >= 80 and shown("ops", "exp").splitlines() == [line for line in lines if line.split()[0] == "exp"]


def test_doctor_says_which_subjects_can_run_and_why_others_cannot(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "conformance.subjects.BUILT_IN", {"torch": "no_torch_here:Engine", "refgrad": "conformance.subjects.reference:make_reference"}
    )
    text = shown("doctor")
    assert "subject refgrad on cpu: can run" in text and "subject torch on cpu: subject 'torch' needs no_torch_here" in text


def test_a_script_is_compared_cell_by_cell(here: Path) -> None:
    (here / "s.py").write_text("import torch\n# %%\ntorch.tensor([1.0, 2.0]) * 2\n")
    text = shown("script", "s.py", "--subject", "refgrad")
    assert "tensor([2., 4.])" in text and text.endswith("s.py: every cell shows the same on refgrad and refgrad\n")


def test_help_and_version_end_with_0(here: Path) -> None:
    assert "Usage: " in shown("--help") and "--programs" in shown("run", "-h") and "version" in shown("--version")


def test_no_command_at_all_shows_the_help_and_ends_with_2(here: Path) -> None:
    result = call()
    assert result.exit_code == 2 and "Usage: " in result.output and "Traceback" not in result.output
