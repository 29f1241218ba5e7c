"""``index.html``: one offline file that needs no script, and lets nothing in it fetch or run anything else."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from conformance import codegen
from conformance.report import text, wording
from conformance.report.cards import cards
from conformance.report.core import RunSummary
from conformance.report.verdict import STATUSES

_TEMPLATES: Final = Path(__file__).parent / "templates"

#: verdict -> a sign beside its colour, which never stands alone
SIGNS: Final = {"green": "✓", "red": "✕", "nothing_judged": "∅", "interrupted": "‖", "broken": "!"}


def render(summary: RunSummary, path: codegen.Path = codegen.own_name, folder: str = "reports") -> str:
    """The page. ``path`` gives an op's attribute path in programs, ``folder`` is where commands find the run."""
    environment = _environment()
    style, script = (Markup((_TEMPLATES / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    return environment.get_template("index.html.jinja").render(
        summary=summary,
        cards=cards(summary, path, folder),
        sign=SIGNS[summary.verdict],
        statuses=STATUSES,
        environment=_circumstances(summary),
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'",
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("conformance.report"),
        autoescape=True,
        finalize=_harmless,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": text.count, "ulps": text.ulps, "duration": wording.duration, "planned": wording.planned}
    return environment


def _harmless(value: Any) -> Any:
    """Every text that a template prints goes through here, so that none of them can be forgotten."""
    return text.visible(value, keep="\n\t") if isinstance(value, str) and not hasattr(value, "__html__") else value


def _digest(content: str) -> str:
    """A source expression of the content security policy: it admits exactly this content."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _circumstances(summary: RunSummary) -> list[tuple[str, str]]:
    start = summary.start
    return [
        ("torch", start["torch"]),
        ("capability", start["capability"]),
        ("python", start["python"]),
        ("platform", start["platform"]),
        ("commit", start["commit"]),
        ("seed", str(start["seed"])),
        ("provider", start["provider"]),
        ("planned", wording.planned(start["planned"])),
        ("started", start["time"]),
        ("took", wording.duration(summary.totals.elapsed)),
        ("fails on", ", ".join(summary.fail_on) or "nothing"),
        ("known files", ", ".join(start["known_files"]) or "none"),
        ("plugins", ", ".join(start["plugins"]) or "none"),
        ("command", " ".join(start["argv"])),
    ]
