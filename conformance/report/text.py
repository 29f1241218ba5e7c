"""Text that comes from a subject or a program is hostile. Here it is made harmless to look at, before any format escapes it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: control, format (bidi, zero width), surrogate, private, unassigned, line and paragraph separator
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, keep: str = "") -> str:
    """``text`` with every character that could hide, reorder or command shown as its escape; those in ``keep`` stay.

    Covers what a terminal obeys (ANSI), what reorders lines (bidi) and what XML forbids: ``visible("a\\x1b[2J")`` is ``a\\\\x1b[2J``.
    """
    return "".join(c if c in keep or unicodedata.category(c) not in _HIDDEN else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_MARKDOWN: Final = re.compile(r"([\\`*_\[\]#~!$])")


def markdown(text: str) -> str:
    """One line of text that Markdown shows as it is: no emphasis, link, HTML, table cell or mention begins in it."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    text = re.sub(r"(?<=\w)\\_(?=\w)", "_", _MARKDOWN.sub(r"\\\1", text))  # inside a word an underscore emphasizes nothing
    return text.replace("@", "@<!-- -->").replace("://", ":<!-- -->//")


def count(number: float, noun: str = "") -> str:
    """``1 new cause``, ``9,919 programs``: a number with its thousands apart, and its noun in the plural where it needs one."""
    digits = f"{number:,.0f}"
    return digits if not noun else f"{digits} {noun}" if number == 1 else f"{digits} {plural(noun)}"


def plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"


def ulps(number: float) -> str:
    """An error in ulps as a person reads it: ``0.5``, ``41``, ``1.3e+07``, ``∞``."""
    if number != number:
        return "nan"
    if number == float("inf"):
        return "∞"
    return f"{number:.2g}" if number < 10 or number >= 1e6 else f"{number:,.0f}"


def joined(words: list[str], last: str = "and") -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def shortened(words: list[str], most: int = 8) -> str:
    """``a, b, c and 205 more``."""
    return ", ".join(words) if len(words) <= most else f"{', '.join(words[:most])} and {len(words) - most:,} more"
