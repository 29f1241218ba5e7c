"""From events to every format: verdicts, numbers, gold texts, hostile input, the page's content policy, the output folder."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html.parser
import io
import itertools
import json
import os
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rich.console
from markdown_it import MarkdownIt

from conformance import gate
from conformance.divergence import Divergence
from conformance.events import RunError, read
from conformance.known_failures import Entry, KnownFailures
from conformance.output import OutputError, prepare, write_all
from conformance.report import html as page
from conformance.report import junit, markdown
from conformance.report.core import Cause, RunSummary, changes, summarize
from conformance.report.terminal import Terminal
from conformance.report.text import visible
from conformance.report.verdict import EXIT_CODES, PRECEDENCE, FailOnError, parse_fail_on, strongest, verdict
from tests.helpers import HOSTILE, synthetic_batch, synthetic_divergence, synthetic_end, synthetic_events, synthetic_start

GOLD = Path(__file__).parent / "gold"
ENTRY = Entry(
    "exp-bf16", "exp", "value", "rounds through float32; upstream calls it intended", reviewer="A. Person", upstream="pytorch#1",
    expires=datetime.date(2027, 1, 31),
)  # fmt: skip
KNOWN = KnownFailures((ENTRY, Entry("atan2-origin", "atan2", "grad", "was wrong at the origin")))


def nothing_raises(program: Any) -> list[int]:
    return []


def state_divergence() -> Divergence:
    wrong = {"elements": (), "expected": "requires_grad=True", "got": "requires_grad=False"}
    return synthetic_divergence("sum", "requires_grad", tensor="t2", seed=9, **wrong)


def known_divergence(seed: int) -> Divergence:
    return synthetic_divergence("exp", "value", dtype="bfloat16", tensor="t1", seed=seed, ulps=float("inf"))


def typical_events() -> list[Any]:
    """Three programs under one new cause, one under another, two known, one stale entry."""
    new = [(synthetic_divergence(seed=seed), "new") for seed in (7, 8, 11)]
    known = [(known_divergence(seed), "known", "exp-bf16") for seed in (20, 21)]
    return synthetic_events([*new, (state_divergence(), "new"), *known], known=[("exp-bf16", "known"), ("atan2-origin", "stale")])


def typical() -> RunSummary:
    return summarize(typical_events(), KNOWN)


def cause(summary: RunSummary, op: str) -> Cause:
    [found] = [cause for cause in summary.causes if cause.key.op == op]
    return found


# --- the verdict ---------------------------------------------------------------------------------------------------------


def test_every_combination_of_verdicts_answers_with_the_strongest() -> None:
    order = ("usage", "broken", "interrupted", "red", "nothing_judged", "green")
    for size in range(1, 7):
        for applying in itertools.combinations(order, size):
            assert strongest(reversed(applying)) == applying[0]
    assert [EXIT_CODES[name] for name in PRECEDENCE] == [2, 3, 130, 1, 4, 0]


@pytest.mark.parametrize(
    ("statuses", "judged", "interrupted", "broken", "answer"),
    [
        ([], 10, False, False, "green"),
        (["known", "stale", "flaky"], 10, False, False, "green"),
        (["known", "new"], 10, False, False, "red"),
        (["expired"], 10, False, False, "red"),
        ([], 0, False, False, "nothing_judged"),
        (["new"], 0, False, False, "red"),
        ([], 0, True, False, "interrupted"),
        (["new"], 10, True, False, "interrupted"),
        (["new"], 10, True, True, "broken"),
        ([], 0, False, True, "broken"),
    ],
)
def test_the_verdict_of_a_run(statuses: list[str], judged: int, interrupted: bool, broken: bool, answer: str) -> None:
    assert verdict(statuses, judged, interrupted=interrupted, broken=broken) == answer


def test_fail_on_decides_which_statuses_are_red() -> None:
    assert parse_fail_on("new, stale") == ("new", "stale") and parse_fail_on("") == ()
    with pytest.raises(FailOnError, match="--fail-on old: no such status; use any of new, expired, flaky, stale, known"):
        parse_fail_on("new,old")
    assert [summarize(synthetic_events(known=[("e", "stale")], start={"fail_on": on})).exit for on in (["stale"], ["new"])] == [1, 0]


@pytest.mark.parametrize(
    ("events", "sentence", "code"),
    [
        (synthetic_events(), "Green: no new cause in 98 programs.", 0),
        (synthetic_events([(synthetic_divergence(), "new")]), "Red: 1 new cause in 1 of 98 programs.", 1),
        (typical_events(), "Red: 2 new causes in 4 of 98 programs.", 1),
        (
            synthetic_events([(synthetic_divergence(), "new"), (state_divergence(), "expired")], batch={"judged": 9919}),
            "Red: 1 new and 1 expired cause in 2 of 9,919 programs.",
            1,
        ),
        (synthetic_events([(known_divergence(1), "known", "e")]), "Green: no new cause in 98 programs; 1 known cause.", 0),
        (
            synthetic_events([(synthetic_divergence(), "new")], start={"fail_on": ["expired"]}),
            "Green: 1 new cause in 98 programs, none of which fails this gate.",
            0,
        ),
        (synthetic_events(batch={"judged": 0}), "Nothing was judged: none of 100 programs reached a verdict.", 4),
        (
            synthetic_events([(synthetic_divergence(), "new")], end={"interrupted": True, "reason": "Ctrl-C"}),
            "Interrupted: Ctrl-C. Until then: 1 new cause in 1 of 98 programs.",
            130,
        ),
        (
            synthetic_events(end={"broken": True, "reason": "no memory"}),
            "Broken: no memory. Until then: no new cause in 98 programs.",
            3,
        ),
        (
            synthetic_events()[:-1],
            "Broken: the run was killed before its end. Until then: no new cause in 98 programs.",
            3,
        ),
    ],
)
def test_the_sentence_says_the_verdict_and_why(events: list[Any], sentence: str, code: int) -> None:
    summary = summarize(events, KNOWN)
    assert (summary.sentence, summary.exit) == (sentence, code)


def test_a_run_without_a_start_is_refused() -> None:
    with pytest.raises(RunError, match="0 start events where a run has one"):
        summarize([synthetic_batch(), synthetic_end()])


# --- the numbers ---------------------------------------------------------------------------------------------------------


def test_divergences_group_by_key_and_count_distinct_programs() -> None:
    events = synthetic_events([(synthetic_divergence(seed=seed), "new") for seed in (7, 8, 7)])
    [found] = summarize(events).causes
    assert (found.programs, found.seeds, found.order, found.ops) == (2, (7, 8), 1, ("log_softmax", "sum"))
    assert found.first_seen == "2026-11-24T16:00:02+00:00" and found.reproducer == f"reproducers/{found.id}.py"


def test_causes_come_new_first_then_stale_then_known() -> None:
    assert [(c.status, c.key.op) for c in typical().causes] == [
        ("new", "log_softmax"),
        ("new", "sum"),
        ("stale", "atan2"),
        ("known", "exp"),
    ]


def test_of_new_causes_the_one_in_most_programs_comes_first() -> None:
    divergences = [(synthetic_divergence("log", seed=1), "new"), *((synthetic_divergence("sin", seed=n), "new") for n in (2, 3))]
    assert [found.key.op for found in summarize(synthetic_events(divergences)).causes] == ["sin", "log"]


def test_a_key_that_is_partly_known_is_new_and_says_what_is_covered() -> None:
    [found] = summarize(synthetic_events([(synthetic_divergence(seed=1), "known", "e"), (synthetic_divergence(seed=2), "new")])).causes
    assert (found.status, found.programs, found.covered, found.seeds) == ("new", 1, 1, (2,))


def test_the_smallest_program_of_a_cause_is_shown() -> None:
    longer = synthetic_divergence(seed=1)
    extra = longer.program.statements[1]
    longer = longer.with_program(longer.program.with_statements([*longer.program.statements, replace(extra, out=("t9",))]))
    [found] = summarize(synthetic_events([(longer, "new"), (synthetic_divergence(seed=2), "new")])).causes
    assert found.divergence is not None and len(found.divergence.program) == 4


def test_the_first_table_adds_up() -> None:
    [row] = typical().subjects
    assert (row.new, row.known, row.passed, row.inconclusive, row.not_run) == (4, 2, 92, 12, 2)
    assert row.new + row.known + row.passed == 98


def test_a_program_with_a_new_and_a_known_cause_counts_once_as_new() -> None:
    [row] = summarize(synthetic_events([(synthetic_divergence(seed=7), "new"), (known_divergence(7), "known", "e")])).subjects
    assert (row.new, row.known, row.passed) == (1, 0, 97)


def test_programs_that_an_interrupted_run_never_reached_are_not_run() -> None:
    summary = summarize(synthetic_events(start={"planned": {"programs": 150}}, end={"interrupted": True}))
    assert summary.partial and summary.subjects[0].not_run == 52
    assert summarize(synthetic_events(start={"planned": {"programs": 150}})).partial and not summarize(synthetic_events()).partial


def test_two_subjects_have_a_line_each() -> None:
    subjects = [{"name": name, "device": "cpu", "version": "", "note": ""} for name in ("torch", "compile")]
    start, *middle, end = synthetic_events([(synthetic_divergence(), "new")], start={"subjects": subjects})
    summary = summarize([start, *middle, synthetic_batch(subject="compile", judged=50), end])
    assert [(row.name, row.new, row.passed) for row in summary.subjects] == [("torch", 1, 97), ("compile", 0, 50)]


def test_a_stale_entry_is_a_cause_without_programs_and_a_replayed_one_with_one() -> None:
    summary = summarize(synthetic_events(known=[("exp-bf16", "known"), ("atan2-origin", "stale")]), KNOWN)
    assert [(c.id, c.status, c.programs, c.key.op) for c in summary.causes] == [
        ("atan2-origin", "stale", 0, "atan2"),
        ("exp-bf16", "known", 1, "exp"),
    ]


def test_an_entry_that_is_in_no_file_any_more_is_still_reported() -> None:
    summary = summarize(synthetic_events(known=[("gone", "stale")]))
    assert summary.causes[0].entry_id == "gone" and "in none of the files" in page.render(summary)


def test_an_op_counts_with_two_float_dtypes_and_two_layouts_of_both_facets() -> None:
    full = {f"exp|{d}|{f}|{lay}": 1 for d in ("float32", "float64") for f in ("value", "grad") for lay in ("contiguous", "strided")}

    def counts(coverage: dict[str, int]) -> bool:
        return bool(summarize(synthetic_events(batch={"coverage": coverage})).tables.counting)

    assert counts(full)
    for lacking in ("float64|value", "float64|grad", "value|strided", "grad|contiguous"):
        dtype_or_layout = [name for name in full if lacking in name]
        assert dtype_or_layout and not counts({name: n for name, n in full.items() if name not in dtype_or_layout})
    assert not counts({name.replace("float64", "int64"): n for name, n in full.items()})
    assert not counts({name: 0 if "float64" in name else n for name, n in full.items()})


def test_tables_add_batches_and_show_what_was_never_drawn() -> None:
    start, batch, end = synthetic_events()
    tables = summarize([start, batch, synthetic_batch(accuracy={"exp|float32|value": 0.7, "exp|float64|grad": 0.2}), end]).tables
    assert tables.never_drawn == ("lgamma",) and tables.drawn == ("exp", "log_softmax", "sum")
    assert dict(tables.coverage.rows)["exp"] == (40, 40) and tables.coverage.columns == ("float32", "float64")
    assert dict(tables.coverage.rows)["lgamma"] == (0, 0) and tables.coverage.detail["exp", "float32"] == "grad 20, value 20"
    assert dict(tables.pitfalls.rows)["exp"] == (0, 8) and tables.pitfalls.columns == ("empty and tiny", "special points")
    assert [(w.op, w.facet, w.by_dtype) for w in tables.accuracy][:2] == [("exp", "value", (0.7, None)), ("exp", "grad", (None, 1.0))]


def test_a_count_under_a_name_of_another_form_is_refused() -> None:
    with pytest.raises(RunError, match="2 parts where 4 were expected"):
        summarize(synthetic_events(batch={"coverage": {"exp|float32": 1}}))


def test_changes_against_a_baseline() -> None:
    seen = [(synthetic_divergence(), "new"), (known_divergence(1), "known", "e")]
    before = summarize(synthetic_events(seen, known=[("gone", "stale")])).causes
    divergences = [(synthetic_divergence(), "new"), (state_divergence(), "new")]
    now = summarize(synthetic_events(divergences, known=[("atan2-origin", "stale")]), KNOWN)
    found = changes(before, now.causes)
    assert [len(ids) for ids in (found.new, found.fixed, found.still)] == [1, 1, 1]
    assert found.new == (cause(now, "sum").id,) and found.still == (cause(now, "log_softmax").id,)


# --- gold texts ----------------------------------------------------------------------------------------------------------


BEFORE = {"td": " | ", "th": " | ", "dd": ": "} | dict.fromkeys(("tr", "h1", "h2", "h3", "h4", "pre", "dt", "p", "summary"), "\n")


class PageText(html.parser.HTMLParser):
    """What a page says, a block a line; script and style aside."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.hidden = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden = tag in ("script", "style")
        self.text += BEFORE.get(tag, "")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self.hidden else re.sub(r"\s+", " ", data)


def page_text(source: str) -> str:
    parser = PageText()
    parser.feed(source)
    return "\n".join(line for line in (re.sub(r" +", " ", raw).strip() for raw in parser.text.splitlines()) if line.strip(" |")) + "\n"


def terminal_text(events: list[Any], summary: RunSummary) -> str:
    console = rich.console.Console(file=io.StringIO(), highlight=False, markup=False, emoji=False, width=200)
    with Terminal(console) as terminal:
        for event in events:
            terminal.feed(event)
    terminal.finish(summary, "reports/index.html")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def scrubbed(text: str) -> str:
    """Without what differs between runs and versions."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "TIME", text)
    return text.replace("2.13.0+cpu", "TORCH").replace(">=2.13.0", ">=TORCH")


def assert_gold(name: str, text: str) -> None:
    """Compares with ``gold/name``; ``CONFORMANCE_WRITE_GOLD=1`` writes it instead, to be read before it is committed."""
    __tracebackhide__ = True
    if os.environ.get("CONFORMANCE_WRITE_GOLD"):
        (GOLD / name).write_text(scrubbed(text), encoding="utf-8")
    assert scrubbed(text) == (GOLD / name).read_text(encoding="utf-8")


def test_the_summary_is_gold() -> None:
    assert_gold("summary.md", markdown.render(typical()))


def test_the_terminal_is_gold() -> None:
    assert_gold("terminal.txt", terminal_text(typical_events(), typical()))


def test_the_junit_file_is_gold() -> None:
    assert_gold("junit.xml", junit.render(typical()))


def test_the_gate_file_is_gold() -> None:
    assert_gold("gate.json", gate.to_text(typical()))


def test_the_page_says_what_is_gold() -> None:
    assert_gold("page.txt", page_text(page.render(typical())))


def test_the_same_sentence_stands_in_every_format() -> None:
    summary = typical()
    sentence = summary.sentence
    assert f"<title>{sentence}</title>" in page.render(summary)
    assert markdown.render(summary).startswith(f"# {sentence}\n")
    assert f"\n{sentence}\n" in terminal_text(typical_events(), summary)
    assert gate.gate(summary)["sentence"] == sentence


def test_gate_json_holds_every_declared_field() -> None:
    found = json.loads(gate.to_text(typical()))
    declared = "schema verdict exit partial programs judged inconclusive skipped seconds seed torch capability subjects known_files ops"
    declared += " causes"
    of_causes = "id key title status op ops facet trigger order mode dtype subject blame programs first_seen reproducer"
    assert set(declared.split()) <= found.keys() and {"drawn", "never_drawn"} <= found["ops"].keys()
    assert all(set(of_causes.split()) <= one.keys() for one in found["causes"])


def test_an_empty_green_run_shows_the_same_first_screen() -> None:
    text = page_text(page.render(summarize(synthetic_events())))
    assert "Green: no new cause in 98 programs." in text and "1 op never drawn, 2 programs skipped" in text and "no baseline" in text


def test_junit_tells_known_from_inconclusive_from_skipped() -> None:
    root = ET.fromstring(junit.render(typical()))
    kinds = [(element.get("type"), element.get("message")) for element in root.iter("skipped")]
    assert ("conformance.known", ENTRY.reason) in kinds
    assert [kind for kind, _ in kinds] == [
        "conformance.stale", "conformance.known", "conformance.inconclusive", "conformance.skipped", "conformance.never_drawn",
    ]  # fmt: skip
    assert root.get("failures") == "2" and len(list(root.iter("failure"))) == 2


def test_junit_of_a_run_that_judged_nothing_is_an_error() -> None:
    root = ET.fromstring(junit.render(summarize(synthetic_events(batch={"judged": 0}))))
    assert [element.get("type") for element in root.iter("error")] == ["conformance.nothing_judged"] and root.get("errors") == "1"


def test_a_long_summary_stays_under_its_limit_and_says_what_it_left_out() -> None:
    many = summarize(synthetic_events([(synthetic_divergence(f"op{n}", seed=n), "new") for n in range(50)]))
    text = markdown.render(many, limit=20_000)
    shown = text.count("\n## new: ")
    assert len(text.encode()) < 21_000 and 0 < shown < 50 and f"{50 - shown} more causes left out here" in text


def test_annotations_name_a_few_causes_and_count_the_rest() -> None:
    many = summarize(synthetic_events([(synthetic_divergence(f"op{n}", seed=n), "new") for n in range(50)]))
    lines = markdown.workflow_commands(many)
    assert len(lines) == 10 and lines[-1] == "::error title=conformance::41 more causes; see the report"
    assert lines[0].startswith("::error title=new ") and "op0" in lines[0]
    assert markdown.workflow_commands(summarize(synthetic_events())) == []


def test_a_plain_line_comes_every_ten_seconds_where_there_is_no_terminal() -> None:
    start, _, end = synthetic_events()
    batches = [synthetic_batch(elapsed=float(second)) for second in (4, 9, 11, 15, 22)]
    text = terminal_text([start, *batches, end], summarize([start, *batches, end]))
    assert [line[:6] for line in text.splitlines() if " programs   " in line] == ["  11 s", "  22 s"]


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = rich.console.Console(file=io.StringIO(), force_terminal=True, highlight=False)
    Terminal(console).finish(typical(), "x")
    assert isinstance(console.file, io.StringIO) and "\x1b[31m" not in console.file.getvalue() and "31m" not in console.file.getvalue()


# --- hostile input -------------------------------------------------------------------------------------------------------


def hostile_events() -> list[Any]:
    """Hostile text in every place that a subject, a program, a known file or the machine fills."""
    encodable = HOSTILE.replace("\ud800", "")  # a key is hashed as UTF-8
    key = replace(synthetic_divergence().key, op=encodable, error=encodable, trigger=encodable)
    divergence = replace(
        synthetic_divergence(facet="error", elements=(), expected=HOSTILE, got=HOSTILE, reason=HOSTILE, blame=HOSTILE, tensor=HOSTILE),
        key=replace(key, facet="error"), attributes={HOSTILE: HOSTILE},
    )  # fmt: skip
    elements = [replace(element, exact=HOSTILE, got=HOSTILE, low=HOSTILE) for element in synthetic_divergence().evidence.elements]
    numeric = replace(synthetic_divergence(elements=tuple(elements)), key=key)
    subject = {"name": "torch", "device": HOSTILE, "version": HOSTILE, "note": HOSTILE}
    start = {name: HOSTILE for name in ("capability", "commit", "python", "platform", "provider")} | {
        "subjects": [subject], "argv": [HOSTILE], "plugins": [HOSTILE], "known_files": [HOSTILE], "ops": ["exp", HOSTILE.replace("|", "")],
    }  # fmt: skip
    batch = {"skipped": {HOSTILE: 2}, "not_compared": {HOSTILE: 2}}
    end = {"broken": True, "reason": HOSTILE}
    divergences = [(divergence, "new"), (numeric, "known", "e")]
    return synthetic_events(divergences, known=[(HOSTILE, "stale")], start=start, batch=batch, end=end)


def hostile_summary() -> RunSummary:
    entry = Entry("e", "exp", "value", HOSTILE, upstream=HOSTILE, reviewer=HOSTILE, when=(("device", HOSTILE),))
    return summarize(hostile_events(), KnownFailures((entry,)))


def formats() -> Iterator[tuple[str, str]]:
    summary = hostile_summary()
    yield "page", page.render(summary)
    yield "summary", markdown.render(summary)
    yield "junit", junit.render(summary)
    yield "gate", gate.to_text(summary)
    yield "terminal", terminal_text(hostile_events(), summary)
    yield "annotations", "\n".join(markdown.workflow_commands(summary))


FORMATS = [name for name, _ in formats()]


@pytest.mark.parametrize("name", FORMATS)
def test_no_character_that_hides_or_commands_reaches_any_format(name: str) -> None:
    text = dict(formats())[name]
    found = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
    assert found <= {"\n"}
    assert "\\x1b[2J" in text.replace("\\\\", "\\").replace("\\u001b", "\\x1b").replace("\\[", "[")


def test_hostile_markup_is_text_on_the_page() -> None:
    text = dict(formats())["page"]
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text and text.count("<script>") == 1
    assert "{{7*7}}" in text


def test_hostile_markup_is_text_in_markdown() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(dict(formats())["summary"])
    inside = [child for token in tokens for child in token.children or ()]
    assert {token.type for token in inside} <= {"text", "text_special", "softbreak", "html_inline"}
    assert {token.content for token in inside if token.type == "html_inline"} == {"<!-- -->"}
    assert not [token for token in tokens if token.type == "html_block"] and "@all" not in dict(formats())["summary"].replace("```", "")


def test_hostile_text_breaks_no_table_row_of_the_summary() -> None:
    rows = [line for line in dict(formats())["summary"].splitlines() if line.startswith("| ")]
    assert rows and all(line.count("|") in (7, 6) for line in rows)


def test_a_fence_is_longer_than_any_run_of_backticks_in_it() -> None:
    literal_name = synthetic_divergence()
    program = literal_name.program
    text = "a```` b"
    statements = [program.statements[0], replace(program.statements[1], kwargs=(("note", text),)), *program.statements[2:]]
    rendered = markdown.render(summarize(synthetic_events([(literal_name.with_program(program.with_statements(statements)), "new")])))
    assert "\n`````python\n" in rendered and text in rendered


def test_hostile_text_is_one_annotation() -> None:
    lines = markdown.workflow_commands(hostile_summary())
    assert len(lines) == 3 and all(re.match(r"::(error|warning) title=[^:,]*::", line) for line in lines)
    assert "%3A%3Aerror%3A%3A" in lines[-1].split("::")[1]


def test_the_junit_file_parses_whatever_is_in_it() -> None:
    assert ET.fromstring(dict(formats())["junit"]).get("failures") == "1"


def test_visible_shows_escapes_and_keeps_what_is_plain() -> None:
    assert visible("a\x1b[1m\x00\u202e\u200b\ufeff\ud800\uffff é ∞ 😀\n") == "a\\x1b[1m\\x00\\u202e\\u200b\\ufeff\\ud800\\uffff é ∞ 😀\\x0a"
    assert visible("a\nb\tc", keep="\n\t") == "a\nb\tc"


# --- the page's manners --------------------------------------------------------------------------------------------------


def policy(source: str) -> str:
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', source)
    assert found
    return html.unescape(found[1])


@pytest.mark.parametrize("tag", ["style", "script"])
def test_the_policy_admits_exactly_the_one_style_and_the_one_script(tag: str) -> None:
    source = page.render(hostile_summary())
    [content] = re.findall(rf"(?s)<{tag}>(.*?)</{tag}>", source)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}'" in policy(source)


def test_the_policy_denies_everything_else() -> None:
    found = policy(page.render(typical()))
    assert found.startswith("default-src 'none'; ") and "unsafe" not in found and "base-uri 'none'; form-action 'none'" in found


def test_the_page_fetches_nothing_and_has_no_inline_style_or_handler() -> None:
    source = page.render(typical())
    assert not re.search(r"<(img|link|iframe|object|embed|base|form|input)\b", source)
    assert not re.search(r"\s(src|srcset|style|on\w+)=", source) and "innerHTML" not in source and "url(" not in source
    assert all(not target.startswith(("http", "//", "javascript")) for target in re.findall(r'href="([^"]*)"', source))


def test_every_link_within_the_page_has_its_target_once() -> None:
    source = page.render(typical())
    ids = re.findall(r'\sid="([^"]*)"', source)
    assert len(ids) == len(set(ids)) and {target for target in re.findall(r'href="#([^"]*)"', source)} <= set(ids)


def test_an_anchor_stands_inside_its_details_so_that_it_opens_without_script() -> None:
    source = page.render(typical())
    for found in typical().causes:
        before = source[: source.index(f'id="d-{found.id}"')]
        assert before.count("<details") == before.count("</details>") + 1 and before.rindex("</summary>") > before.rindex("<details")


def test_ten_thousand_programs_stay_under_two_megabytes() -> None:
    divergences = [(synthetic_divergence(f"op{n % 40}", seed=n), "new") for n in range(2_000)]
    batches = [synthetic_batch(programs=100, judged=98) for _ in range(100)]
    start, *middle, end = synthetic_events(divergences)
    assert len(page.render(summarize([start, *batches, *middle, end])).encode()) < 2_000_000


# --- the output folder ---------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write(folder: Path, events: list[Any]) -> RunSummary:
    return write_all(folder, events, KNOWN, raising=nothing_raises)


def test_a_run_is_written_whole(tmp_path: Path) -> None:
    summary = write(tmp_path / "new" / "reports", typical_events())
    scripts = [f"reproducers/{found.id}.py" for found in summary.causes if found.divergence]
    assert names(tmp_path / "new" / "reports") == sorted(
        ["index.html", "events.jsonl", "junit.xml", "summary.md", "gate.json", *scripts]
    )  # fmt: skip
    assert json.loads((tmp_path / "new/reports/gate.json").read_text())["verdict"] == "red"


def test_an_earlier_run_moves_under_its_time(tmp_path: Path) -> None:
    write(tmp_path, typical_events())
    first = names(tmp_path)
    later = synthetic_events(start={"time": "2026-11-25T16:00:00+00:00"})
    write(tmp_path, later)
    assert names(tmp_path / "runs" / "20261124T160000") == first
    assert len(read(tmp_path)) == len(later) and not any(name.startswith("reproducers") for name in names(tmp_path))


def test_a_run_that_is_reported_again_stays_where_it_is(tmp_path: Path) -> None:
    write(tmp_path, typical_events())
    write(tmp_path, list(read(tmp_path)))
    assert not (tmp_path / "runs").exists()


def test_events_put_together_after_the_run_replace_its_own(tmp_path: Path) -> None:
    write(tmp_path, synthetic_events())
    write(tmp_path, typical_events())
    assert len(read(tmp_path)) == len(typical_events()) and not (tmp_path / "runs").exists()


def test_prepare_makes_room_for_a_new_log(tmp_path: Path) -> None:
    write(tmp_path, typical_events())
    assert prepare(tmp_path) == tmp_path / "events.jsonl" and all(name.startswith("runs/") for name in names(tmp_path))


def test_a_cause_keeps_the_day_it_was_first_seen_and_shows_earlier_runs(tmp_path: Path) -> None:
    write(tmp_path, typical_events())
    again = write(tmp_path, synthetic_events([(synthetic_divergence(), "new")], start={"time": "2026-12-01T00:00:00+00:00"}))
    assert (again.causes[0].first_seen, again.causes[0].history) == ("2026-11-24T16:00:02+00:00", (3, 1))
    assert "▇" in (page_source := (tmp_path / "index.html").read_text()) or "█" in page_source


def test_a_folder_that_cannot_be_written_is_one_line_and_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for act in (lambda: prepare(tmp_path / "file"), lambda: write(tmp_path / "file" / "reports", typical_events())):
        with pytest.raises(OutputError, match=r"^[^\n]*file[^\n]*: cannot be written \([^\n]*\); choose another folder with --out$"):
            act()
    assert (tmp_path / "file").read_text() == "mine" and names(tmp_path) == ["file"]


def test_a_run_that_cannot_be_rendered_overwrites_nothing(tmp_path: Path) -> None:
    write(tmp_path, typical_events())
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(RunError):
        write(tmp_path, synthetic_events(batch={"pitfalls": {"bad": 1}}))
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, typical_events())
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def full(path: Path, *args: Any, **kwargs: Any) -> int:
        if path.name == "gate.json.part":
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    real = Path.write_text
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="no space left on device"):
        write(tmp_path, synthetic_events())
    monkeypatch.undo()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_past_gate_file_that_is_not_ours_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "gate.json").write_text("[]")
    assert write(tmp_path, synthetic_events([(synthetic_divergence(), "new")])).causes[0].history == (0, 1)


def test_start_of_synthetic_runs_is_a_start() -> None:
    assert summarize([synthetic_start(), synthetic_end()]).verdict == "nothing_judged"
