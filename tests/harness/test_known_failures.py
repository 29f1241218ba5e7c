"""Known failures: what an entry covers, how files are layered, refused, changed and checked."""

from __future__ import annotations

import datetime
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.divergence import Key
from conformance.known_failures import SHIPPED, Entry, KnownError, accept, attributes_of, holds, lint, load, prune, snippet
from tests.helpers import synthetic_divergence

MINIMAL = '[[known]]\nid = "a"\nop = "exp"\nfacet = "value"\nreason = "upstream says so"\n'
TODAY = datetime.date(2026, 11, 24)
KEY = Key("exp", "value", dtype="bfloat16")


def toml(folder: Path, text: str, name: str = "known.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def other(name: str) -> str:
    return MINIMAL.replace('"a"', f'"{name}"')


def entry(folder: Path, more: str = "") -> Entry:
    return load([toml(folder, MINIMAL + more)]).entries[0]


def refusal(path: Path) -> str:
    with pytest.raises(KnownError) as caught:
        load([path])
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_the_shipped_file_is_well_formed_and_without_doubts() -> None:
    load([SHIPPED])
    assert lint([SHIPPED], TODAY) == []


# --- what an entry covers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "covers"),
    [
        ("", True),
        ('dtype = "bfloat16"', True),
        ('dtype = "float32"', False),
        ('dtype = ["float16", "bfloat16"]', True),
        ('dtype = ["float16", "float32"]', False),
        ('dtype = "*"', True),
        ('mode = "forward"', False),
        ('trigger = "ordinary"', True),
        ('trigger = "special points"', False),
        ('subject = "compile"', False),
        ('error = "none"', False),
        ('when = { device = "cpu" }', True),
        ('when = { device = "cuda*" }', False),
        ('when = { device = "cpu", shape = "3" }', False),
        ('when = { shape = "3" }', False),
    ],
)
def test_an_entry_covers_what_its_fields_and_conditions_say(tmp_path: Path, more: str, covers: bool) -> None:
    assert entry(tmp_path, more).matches(KEY, {"device": "cpu"}) is covers


def test_an_entry_covers_a_sum_that_its_op_sent_a_part_of(tmp_path: Path) -> None:
    other = replace(KEY, op="mul")
    assert entry(tmp_path).matches(other, {"suspects": f"add {KEY.op}"})
    assert not entry(tmp_path).matches(other, {"suspects": "add"})
    assert not entry(tmp_path).matches(replace(other, facet="grad"), {"suspects": KEY.op})


@pytest.mark.parametrize("other", [replace(KEY, op="log"), replace(KEY, facet="grad")])
def test_an_entry_never_covers_another_op_or_facet(tmp_path: Path, other: Key) -> None:
    assert not entry(tmp_path).matches(other, {})


@pytest.mark.parametrize(
    ("predicate", "value", "expected"),
    [
        ("cuda*", "cuda:0", True),
        ("cuda*", "cpu", False),
        ("not cuda*", "cpu", True),
        ("inf | nan", "nan", True),
        ("inf | nan", "1.5", False),
        ("zero", "one zero", True),
        (">= 1e4", "12000", True),
        (">= 1e4", "9999", False),
        ("< 0", "-1e-40", True),
        ("!= 0", "0.0", False),
        (">= 1e4", "nan", False),
        (">= 1e4", "big", False),
        ("not >= 1e4", "12", True),
        ("3x*", "3x4", True),
    ],
)
def test_a_predicate_is_a_pattern_a_comparison_or_their_negation(predicate: str, value: str, expected: bool) -> None:
    assert holds(predicate, value) is expected


def test_shape_and_the_values_of_the_worst_element_are_known_of_every_divergence() -> None:
    found = attributes_of(synthetic_divergence())
    assert found.pop("call") == "0"
    assert found == {"shape": "3", "value": "0.5", "got": "0.5000012", "device": "cpu", "capability": "AVX2"}


@pytest.mark.parametrize(
    ("versions", "torch", "applies"),
    [
        ("", "2.13.0", True),
        (">=2.13,<2.15", "2.13.0+cpu", True),
        (">=2.13,<2.15", "2.15.0", False),
        (">=2.13", "2.14.0.dev20261101+cpu", True),
        ("==2.13.*", "2.13.1+cu128", True),
    ],
)
def test_an_entry_speaks_only_of_its_versions(tmp_path: Path, versions: str, torch: str, applies: bool) -> None:
    known = load([toml(tmp_path, f'{MINIMAL}torch = "{versions}"')])
    assert bool(known.for_torch(torch).match(KEY, {})) is applies


def test_an_entry_expires_the_day_after_its_date(tmp_path: Path) -> None:
    found = entry(tmp_path, "expires = 2026-11-24")
    assert not found.expired(TODAY) and found.expired(TODAY + datetime.timedelta(days=1))
    assert not entry(tmp_path).expired(datetime.date.max)


def test_a_later_file_replaces_an_entry_and_is_asked_first(tmp_path: Path) -> None:
    shipped = toml(tmp_path, MINIMAL + other("b"), "shipped.toml")
    own = toml(tmp_path, MINIMAL.replace("upstream says so", "ours"), "own.toml")
    known = load([shipped, own])
    assert [(e.id, e.reason) for e in known.entries] == [("a", "ours"), ("b", "upstream says so")]
    assert (found := known.match(KEY, {})) and found.file == own


def test_a_program_is_inline_json_or_a_file_beside_the_toml(tmp_path: Path) -> None:
    program = synthetic_divergence().program
    (tmp_path / "p.json").write_text(json.dumps(program.to_json()))
    assert entry(tmp_path, "program = 'p.json'").program == program
    assert entry(tmp_path, f"program = '{json.dumps(program.to_json())}'").program == program


# --- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[known]\n", "not TOML"),
        ('[known]\nid = "a"\n', "[[known]], with two brackets"),
        ('[[fails]]\nid = "a"\n', "'fails' at the top level"),
        (MINIMAL.replace('reason = "upstream says so"', ""), "entry 'a': no reason"),
        (MINIMAL.replace("upstream says so", "  "), "entry 'a': no reason"),
        (MINIMAL.replace('facet = "value"', ""), "entry 'a': no facet"),
        (MINIMAL.replace('"value"', '"*"'), 'facet is "*", but an entry never covers a whole op'),
        (MINIMAL.replace('"exp"', '"*"'), 'op is "*"'),
        (MINIMAL.replace('id = "a"', ""), "entry number 1: no id"),
        (MINIMAL.replace('"a"', '"a/../b"'), "other characters than letters"),
        (MINIMAL + MINIMAL, "this id stands twice"),
        (MINIMAL.replace('"value"', '"speed"'), "unknown facet 'speed'"),
        (MINIMAL + "colour = 'red'", "unknown field 'colour'"),
        (MINIMAL + "dtype = 3", "dtype is neither"),
        (MINIMAL + "dtype = []", "dtype is neither"),
        (MINIMAL + "mode = 3", "mode is no text"),
        (MINIMAL + "torch = '2.13'", "is no version range"),
        (MINIMAL + "expires = 'soon'", "is no date"),
        (MINIMAL + "when = 'cuda'", "when is no table"),
        (MINIMAL + "when = { moon = 'full' }", "unknown condition 'moon'"),
        (MINIMAL + "when = { shape = 3 }", "the condition shape is no text"),
        (MINIMAL + "program = 'gone.json'", "program 'gone.json' cannot be read (no such file or directory)"),
        (MINIMAL + "program = '{}'", "entry 'a': program: no program"),
        (MINIMAL + """program = '{"format": 2, "statements": []}'""", "format 2 is newer"),
    ],
)
def test_an_ill_formed_file_is_refused_with_file_entry_and_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(toml(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (no such file or directory)" in refusal(tmp_path / "gone.toml")


# --- accept, prune, lint -------------------------------------------------------------------------------------------------


def test_an_accepted_divergence_is_covered_and_comments_stay(tmp_path: Path) -> None:
    path = toml(tmp_path, f"# ours\n{MINIMAL}  # a comment\n")
    divergence = synthetic_divergence()
    added = accept(divergence, "torch rounds twice", torch="2.13.0+cpu", path=path, reviewer="A. Person", expires=TODAY)
    assert load([path]).match_divergence(divergence) == added
    assert path.read_text().startswith(f"# ours\n{MINIMAL}  # a comment\n")
    assert (added.reason, added.reviewer, added.expires, added.torch) == ("torch rounds twice", "A. Person", TODAY, ">=2.13.0")
    assert added.program == divergence.program


def test_accept_makes_the_file_where_there_is_none(tmp_path: Path) -> None:
    accept(synthetic_divergence(), "a reason", torch="2.13.0", path=tmp_path / "new.toml")
    assert len(load([tmp_path / "new.toml"]).entries) == 1


def test_an_accepted_entry_is_as_narrow_as_its_key(tmp_path: Path) -> None:
    added = accept(synthetic_divergence(), "a reason", torch="2.13.0", path=tmp_path / "new.toml")
    assert not added.matches(replace(synthetic_divergence().key, dtype="float64"), {"device": "cpu"})
    assert not added.matches(synthetic_divergence().key, {"device": "cuda:0"})


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_accept_refuses_without_a_reason(tmp_path: Path, reason: str) -> None:
    with pytest.raises(KnownError, match="needs a reason"):
        accept(synthetic_divergence(), reason, torch="2.13.0", path=tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()


def test_accept_refuses_what_is_covered_already(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    accept(synthetic_divergence(), "a reason", torch="2.13.0", path=path)
    before = path.read_text()
    with pytest.raises(KnownError, match=r"covers .* already"):
        accept(synthetic_divergence(), "again", torch="2.13.0", path=path)
    assert path.read_text() == before


def test_accept_leaves_an_ill_formed_file_alone(tmp_path: Path) -> None:
    path = toml(tmp_path, "[[known]\n")
    with pytest.raises(KnownError, match="not TOML"):
        accept(synthetic_divergence(), "a reason", torch="2.13.0", path=path)
    assert path.read_text() == "[[known]\n"


def test_accept_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(KnownError, match=r"cannot be written \(no such file or directory\); nothing was changed"):
        accept(synthetic_divergence(), "a reason", torch="2.13.0", path=tmp_path / "no folder" / "new.toml")


def test_a_snippet_needs_only_its_reason() -> None:
    [table] = tomllib.loads(snippet(synthetic_divergence(), "2.13.0"))["known"]
    assert table["reason"] == "" and table["op"] == "log_softmax" and table["dtype"] == "float32"


def test_prune_removes_only_what_is_stale_and_keeps_comments(tmp_path: Path) -> None:
    path = toml(tmp_path, "# ours\n" + MINIMAL + "\n" + other("b"))
    assert prune(path, ["a", "never there"]) == ["a"]
    assert [e.id for e in load([path]).entries] == ["b"] and "# ours" in path.read_text()


def test_prune_of_the_last_entry_leaves_a_file_that_loads(tmp_path: Path) -> None:
    path = toml(tmp_path, "# ours\n" + MINIMAL)
    assert prune(path, ["a"]) == ["a"] and load([path]).entries == () and "# ours" in path.read_text()


def test_prune_without_anything_stale_does_not_touch_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, MINIMAL)
    before = path.stat().st_ino
    assert prune(path, []) == [] and path.stat().st_ino == before


def test_lint_names_every_fault_at_once(tmp_path: Path) -> None:
    bad = toml(tmp_path, other("b").replace('facet = "value"', "") + MINIMAL.replace("upstream says so", ""), "bad.toml")
    odd = toml(tmp_path, MINIMAL.replace("exp", "gone") + "expires = 2026-01-01", "odd.toml")
    found = lint([bad, odd], TODAY, ops=["exp"])
    assert [line.split(": ", 2)[1:] for line in found] == [
        ["entry 'b'", "no facet; every entry needs id, op, facet, reason"],
        ["entry 'a'", "no reason; every entry needs id, op, facet, reason"],
        ["entry 'a'", "expired on 2026-01-01; look again, then renew or prune it"],
        ["entry 'a'", "no op 'gone' in the table; conformance ops lists them"],
        ["entry 'a'", "no program, so it can never be found stale; add the one that diverges"],
    ]


@pytest.mark.parametrize(
    ("one", "two", "overlaps"),
    [
        ("", "", True),
        ("", 'dtype = "float32"', True),
        ('dtype = "float64"', 'dtype = "float32"', False),
        ('dtype = ["float64", "float32"]', 'dtype = "float32"', True),
        ('mode = "reverse"', 'mode = "forward"', False),
        ('when = { device = "cpu" }', 'when = { device = "cuda*" }', False),
        ('when = { device = "cpu" }', 'when = { device = "cpu" }', True),
        ('when = { device = "cpu" }', "", True),
        ('torch = "<2.13"', 'torch = ">=2.13"', False),
        ('torch = "<2.13"', 'torch = ">=2.12"', True),
        ('torch = "<2.13"', 'torch = "<2.12"', True),
        ('torch = ">2.13"', 'torch = "<2.14"', True),
        ('torch = ">2.13"', 'torch = "==2.13.*"', True),
        ('torch = ">2.13"', 'torch = "==2.13"', False),
    ],
)
def test_lint_finds_entries_that_cover_the_same(tmp_path: Path, one: str, two: str, overlaps: bool) -> None:
    path = toml(tmp_path, f"{MINIMAL}{one}\n{other('b')}{two}\n")
    assert any("'a' and 'b' cover the same" in line for line in lint([path], TODAY)) is overlaps
