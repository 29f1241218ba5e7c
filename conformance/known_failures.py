"""Known failures: which divergences a person has looked at, and why they may stand.

They stand in TOML files, one ``[[known]]`` table each (``known/torch.toml`` explains the fields), layered: an entry of a later file
replaces the one with the same id. An entry names at least op and facet, so it never covers a whole op; what it leaves out matches anything.

Exceptions: ``KnownError`` for ill-formed files and refused changes (one line: file, entry, what to do).
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import operator
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import tomlkit
import tomlkit.exceptions
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from conformance.divergence import FACETS, Divergence, Key
from conformance.events import os_reason
from conformance.program import Literal, Program, ProgramError, Ref

SHIPPED: Final = Path(__file__).parent / "known" / "torch.toml"
USER: Final = Path("conformance-known.toml")

CONDITIONS: Final = ("value", "got", "shape", "call", "layout", "device", "capability")
REQUIRED: Final = ("id", "op", "facet", "reason")
TEXTS: Final = (*REQUIRED, "mode", "trigger", "subject", "error", "torch", "reproducer", "program", "upstream", "reviewer")
FIELDS: Final = (*TEXTS, "dtype", "when", "expires")


class KnownError(ValueError):
    """A known-failure file that cannot be read, or a change to one that is refused. The message is one line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One known failure. ``"*"`` matches anything; ``op`` and ``facet`` are always names."""

    id: str
    op: str
    facet: str
    reason: str
    mode: str = "*"
    trigger: str = "*"
    dtype: tuple[str, ...] = ("*",)
    subject: str = "*"
    error: str = "*"
    when: tuple[tuple[str, str], ...] = ()
    torch: str = ""  # version specifiers, as pip writes them; empty: any
    reproducer: str = ""
    program: Program | None = field(default=None, repr=False)
    upstream: str = ""
    reviewer: str = ""
    expires: datetime.date | None = None
    file: Path = SHIPPED

    def matches(self, key: Key, attributes: Mapping[str, str]) -> bool:
        """Whether this entry covers a divergence: by the op that is blamed or, where a sum of gradients is wrong, by any that sent a part
        of it. A condition on an attribute that is not there does not hold.
        """
        ops = (key.op, *attributes.get("suspects", "").split())
        return any(self.matches_key(replace(key, op=op)) for op in ops) and all(
            name in attributes and holds(predicate, attributes[name]) for name, predicate in self.when
        )

    def matches_key(self, key: Key) -> bool:
        fields = (self.op, self.facet, self.mode, self.trigger, self.subject, self.error)
        given = (key.op, key.facet, key.mode, key.trigger, key.subject, key.error)
        return all(wanted in ("*", value) for wanted, value in zip(fields, given, strict=True)) and _any_of(self.dtype, key.dtype)

    def applies_to(self, torch: str) -> bool:
        """Whether the entry speaks of this version of torch (pre-releases and local versions such as ``2.13.0+cpu`` included)."""
        return SpecifierSet(self.torch).contains(Version(torch), prereleases=True)

    def expired(self, today: datetime.date) -> bool:
        return self.expires is not None and today > self.expires

    def key(self) -> Key:
        """The key this entry names, with ``"*"`` where it names none and several dtypes joined."""
        return Key(self.op, self.facet, self.mode, self.trigger, ",".join(self.dtype), self.subject, self.error)


def _any_of(wanted: Sequence[str], value: str) -> bool:
    return "*" in wanted or value in wanted


@dataclass(frozen=True, slots=True)
class KnownFailures:
    """The entries of all layers, the last layer first. ``files`` are those that were read."""

    entries: tuple[Entry, ...] = ()
    files: tuple[Path, ...] = ()

    def match(self, key: Key, attributes: Mapping[str, str]) -> Entry | None:
        """The entry that covers this key under these attributes. Entries of the later file come first."""
        return next((entry for entry in self.entries if entry.matches(key, attributes)), None)

    def match_divergence(self, divergence: Divergence) -> Entry | None:
        return self.match(divergence.key, attributes_of(divergence))

    def for_torch(self, version: str) -> KnownFailures:
        """Only the entries that speak of this version of torch."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.applies_to(version)))

    def get(self, entry_id: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.id == entry_id), None)


def attributes_of(divergence: Divergence) -> dict[str, str]:
    """What conditions are asked about: the divergence's own attributes; shape, value (the exact one) and got of the worst element; and as
    ``call`` the plain arguments, ``dim=()`` or ``2``, that the blamed op's statements are written with.
    """
    found = {"shape": "x".join(map(str, divergence.evidence.shape)) or "scalar", "call": _plain_arguments(divergence)}
    if divergence.evidence.elements:
        worst = divergence.evidence.elements[0]
        found |= {"value": worst.exact, "got": worst.got}
    return found | divergence.attributes


def known_table(entries: Sequence[Entry]) -> list[str]:
    """The entries as the lines of a Markdown table."""
    lines = ["| id | op | compared | dtypes | torch | what torch does, and what is right | upstream |", "|---|---|---|---|---|---|---|"]
    for e in sorted(entries, key=lambda entry: entry.id):
        dtypes = "all" if e.dtype == ("*",) else ", ".join(e.dtype)
        reason = " ".join(e.reason.split()).replace("|", "\\|").replace("*", "\\*")
        lines.append(
            f"| `{e.id}` | `{e.op}` | {e.facet.replace('_', ' ')} | {dtypes} | {e.torch} | {reason} | {e.upstream or 'not reported'} |"
        )
    return lines


def _plain_arguments(divergence: Divergence) -> str:
    statements = [s for s in divergence.program if s.op == divergence.key.op]
    words = [[repr(a) for a in s.args if not isinstance(a, (Ref, Literal))] + [f"{k}={v!r}" for k, v in s.kwargs] for s in statements]
    return " ".join(word.replace(" ", "") for found in words for word in found)


# --- conditions ----------------------------------------------------------------------------------------------------------

_COMPARISONS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
_COMPARISON: Final = re.compile(r"(<=|>=|==|!=|<|>)\s*(\S+)$")


def holds(predicate: str, value: str) -> bool:
    """Whether an attribute's text satisfies a predicate: alternatives joined by ``|``, each ``not`` …, a comparison or a pattern.

    A comparison (``>= 1e4``) reads the attribute as a number. A pattern (``cuda*``) must match the text, or one of its words.
    """
    return any(_holds(part.strip(), value) for part in predicate.split("|"))


def _holds(part: str, value: str) -> bool:
    if part.startswith("not "):
        return not _holds(part[4:].strip(), value)
    if comparison := _COMPARISON.match(part):
        try:
            return bool(_COMPARISONS[comparison[1]](float(value), float(comparison[2])))
        except ValueError:
            return False
    return any(fnmatch.fnmatchcase(text, part) for text in (value, *value.split()))


# --- reading -------------------------------------------------------------------------------------------------------------


def load(files: Iterable[str | Path] = (SHIPPED,)) -> KnownFailures:
    """The entries of these files, later ones layered over earlier ones. Raises KnownError."""
    layers: dict[str, Entry] = {}
    paths = tuple(Path(file) for file in files)
    for path in paths:
        found = _entries(path)
        layers = {entry.id: entry for entry in found} | {name: entry for name, entry in layers.items() if name not in {e.id for e in found}}
    return KnownFailures(tuple(layers.values()), paths)


def _entries(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for place, table in enumerate(_tables(path), 1):
        for problem in _problems(table):
            raise KnownError(f"{path}: {_name(place, table)}: {problem}")
        if any(entry.id == table["id"] for entry in entries):
            raise KnownError(f"{path}: {_name(place, table)}: this id stands twice in the file; give one of the two another")
        entries.append(_entry(path, place, table))
    return entries


def _tables(path: Path) -> list[Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KnownError(f"{path}: cannot be read ({os_reason(error)}); name an existing file with --known") from None
    except UnicodeDecodeError:
        raise KnownError(f"{path}: not UTF-8; a known file is TOML with [[known]] tables") from None
    except tomllib.TOMLDecodeError as error:
        raise KnownError(f"{path}: not TOML: {error}") from None
    tables = data.get("known", [])
    if extra := sorted(data.keys() - {"known"}):
        raise KnownError(f"{path}: {extra[0]!r} at the top level; entries are [[known]] tables")
    if not isinstance(tables, list):
        raise KnownError(f"{path}: 'known' is one table; write [[known]], with two brackets")
    return tables


def _name(place: int, table: Any) -> str:
    name = table.get("id") if isinstance(table, dict) else None
    return f"entry {name!r}" if isinstance(name, str) and name else f"entry number {place}"


def _problems(table: Any) -> Iterator[str]:
    """Why this is no entry, each with what to do; nothing when it is one."""
    if not isinstance(table, dict):
        yield "not a table; write [[known]]"
        return
    if unknown := sorted(table.keys() - set(FIELDS)):
        yield f"unknown field {unknown[0]!r}; the fields are {', '.join(FIELDS)}"
    mistyped = [name for name in TEXTS if not isinstance(table.get(name, ""), str)]
    yield from (f"{name} is no text; put it in quotes" for name in mistyped)
    if not mistyped:
        yield from _missing(table)
        yield from _bad_values(table)
    yield from _bad_conditions(table.get("when", {}))


def _missing(table: Mapping[str, Any]) -> Iterator[str]:
    for name in REQUIRED:
        if not str(table.get(name, "")).strip():
            yield f"no {name}; every entry needs {', '.join(REQUIRED)}"
    if not re.fullmatch(r"[\w.-]*", str(table.get("id", ""))):
        yield f"the id {table['id']!r} has other characters than letters, digits, '_', '.' and '-'"
    for name in ("op", "facet"):
        if table.get(name) == "*":
            yield f'{name} is "*", but an entry never covers a whole op; name one {name} (copy the entry for others)'


def _bad_values(table: Mapping[str, Any]) -> Iterator[str]:
    facet = table.get("facet", "*")
    if facet not in ("", "*", *FACETS):
        yield f"unknown facet {facet!r}; the facets are {', '.join(FACETS)}"
    dtype = table.get("dtype", "*")
    if not isinstance(dtype, str) and not (isinstance(dtype, list) and dtype and all(isinstance(name, str) for name in dtype)):
        yield 'dtype is neither a name, nor a list of names, nor "*"'
    try:
        SpecifierSet(table.get("torch", ""))
    except InvalidSpecifier:
        yield f'torch = {table["torch"]!r} is no version range; write it as pip does, such as ">=2.13,<2.15"'
    if "expires" in table and _date(table["expires"]) is None:
        yield f"expires = {str(table['expires'])!r} is no date; write 2027-01-31"


def _bad_conditions(when: Any) -> Iterator[str]:
    if not isinstance(when, dict):
        yield 'when is no table; write when = { device = "cuda*" }'
        return
    for name, predicate in when.items():
        if name not in CONDITIONS:
            yield f"unknown condition {name!r}; the conditions are {', '.join(CONDITIONS)}"
        elif not isinstance(predicate, str) or not predicate.strip():
            yield f"the condition {name} is no text; put it in quotes"


def _date(value: Any) -> datetime.date | None:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _entry(path: Path, place: int, table: Mapping[str, Any]) -> Entry:
    dtype = table.get("dtype", "*")
    given = {name: table[name] for name in TEXTS if name in table and name != "program"}
    return Entry(
        **given,
        dtype=(dtype,) if isinstance(dtype, str) else tuple(dtype),
        when=tuple(table.get("when", {}).items()),
        program=_program(path, place, table),
        expires=_date(table.get("expires")),
        file=path,
    )


def _program(path: Path, place: int, table: Mapping[str, Any]) -> Program | None:
    """The entry's program: JSON that starts with ``{``, or the path of a corpus file beside the TOML file."""
    text = table.get("program", "").strip()
    if not text:
        return None
    where = f"{path}: {_name(place, table)}: program"
    try:
        return Program.from_json(text if text.startswith("{") else (path.parent / text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else "not UTF-8"
        raise KnownError(f"{where} {text!r} cannot be read ({reason}); its path starts at {path.parent}") from None
    except ProgramError as error:
        raise KnownError(f"{where}: {error}") from None


# --- changing ------------------------------------------------------------------------------------------------------------


def accept(divergence: Divergence, reason: str, *, torch: str, path: Path = USER, reviewer: str = "", upstream: str = "",
           expires: datetime.date | None = None) -> Entry:  # fmt: skip
    """Adds an entry for this divergence to ``path`` (made if need be; comments and order of the file are kept), and returns it.

    The entry holds from this version of torch on: the day torch is repaired it turns stale. Raises KnownError, nothing written, without a
    reason, where an entry covers the divergence already, or where the file cannot be written.
    """
    if not reason.strip():
        raise KnownError("a known failure needs a reason: say why it may stand with --reason")
    known = load([path]) if path.exists() else KnownFailures()
    if covered := known.match_divergence(divergence):
        raise KnownError(f"{path}: entry {covered.id!r} covers {divergence.key.id} already")
    document = _document(path)
    table = _table(divergence, torch, {"reason": reason.strip(), "reviewer": reviewer, "upstream": upstream, "expires": expires})
    document.setdefault("known", tomlkit.aot()).append(table)
    _save(path, document)
    return next(entry for entry in _entries(path) if entry.id == table["id"])


def _table(divergence: Divergence, torch: str, given: Mapping[str, Any]) -> tomlkit.items.Table:
    key = divergence.key
    table = tomlkit.table()
    table["id"] = f"{key.op}-{key.facet}-{key.id}"
    for name, value in key.to_json().items():
        table[name] = value
    if "device" in divergence.attributes:
        table["when"] = tomlkit.inline_table()
        table["when"]["device"] = divergence.attributes["device"]
    table["torch"] = f">={Version(torch).base_version}"
    for name, text in given.items():
        if text or name == "reason":
            table[name] = text
    table["reproducer"] = f"reproducers/{key.id}.py"
    program = json.dumps(divergence.program.to_json(), separators=(",", ":"))
    table["program"] = tomlkit.string(program, literal="'" not in program)
    return table


def snippet(divergence: Divergence, torch: str) -> str:
    """The entry that would accept this divergence, as TOML, its reason left blank for a person to fill in."""
    document = tomlkit.document()
    document.setdefault("known", tomlkit.aot()).append(_table(divergence, torch, {"reason": ""}))
    return tomlkit.dumps(document)


def prune(path: Path, stale: Iterable[str]) -> list[str]:
    """Removes the entries with these ids from a file, keeping its comments; returns the ids that were there. Raises KnownError."""
    document = _document(path)
    tables = document.get("known", [])
    unwanted = set(stale)
    places = [place for place, table in enumerate(tables) if table.get("id") in unwanted]
    removed = [str(tables[place]["id"]) for place in places]
    for place in reversed(places):
        del tables[place]
    if removed:
        if not tables:
            del document["known"]
        _save(path, document)
    return removed


def _document(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    except (OSError, UnicodeDecodeError, tomlkit.exceptions.ParseError) as error:
        raise KnownError(f"{path}: cannot be read ({error})") from None


def _save(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Writes a neighbour first, so that a failure leaves the file as it was."""
    neighbour = path.with_name(path.name + ".part")
    try:
        neighbour.write_text(tomlkit.dumps(document), encoding="utf-8")
        neighbour.replace(path)
    except OSError as error:
        raise KnownError(f"{path}: cannot be written ({os_reason(error)}); nothing was changed") from None


# --- checking ------------------------------------------------------------------------------------------------------------


def lint(files: Iterable[str | Path], today: datetime.date, ops: Iterable[str] = ()) -> list[str]:
    """Everything that is wrong with these files, one line each: ill-formed entries, overlaps, past dates, ops that are not in ``ops``."""
    found: list[str] = []
    for path in map(Path, files):
        try:
            tables = _tables(path)
        except KnownError as error:
            found.append(str(error))
            continue
        bad = [f"{path}: {_name(place, table)}: {problem}" for place, table in enumerate(tables, 1) for problem in _problems(table)]
        found += bad or _lint_entries(path, today, frozenset(ops))
    return found


def _lint_entries(path: Path, today: datetime.date, ops: frozenset[str]) -> list[str]:
    try:
        entries = _entries(path)
    except KnownError as error:
        return [str(error)]
    found = [f"{path}: entry {entry.id!r}: {problem}" for entry in entries for problem in _doubts(entry, today, ops)]
    for place, one in enumerate(entries):
        overlapping = [other for other in entries[place + 1 :] if overlap(one, other)]
        found += [f"{path}: entries {one.id!r} and {other.id!r} cover the same divergences; narrow or join them" for other in overlapping]
    return found


def _doubts(entry: Entry, today: datetime.date, ops: frozenset[str]) -> Iterator[str]:
    """What is wrong with an entry that is well-formed."""
    if entry.expired(today):
        yield f"expired on {entry.expires}; look again, then renew or prune it"
    if ops and entry.op not in ops:
        yield f"no op {entry.op!r} in the table; conformance ops lists them"
    if entry.program is None:
        yield "no program, so it can never be found stale; add the one that diverges"


def overlap(one: Entry, other: Entry) -> bool:
    """Whether some divergence would be covered by both. Different conditions on one attribute are taken to exclude each other."""
    texts = [(one.op, other.op), (one.facet, other.facet), (one.mode, other.mode), (one.trigger, other.trigger),
             (one.subject, other.subject), (one.error, other.error)]  # fmt: skip
    if not all("*" in pair or pair[0] == pair[1] for pair in texts):
        return False
    if "*" not in (*one.dtype, *other.dtype) and not set(one.dtype) & set(other.dtype):
        return False
    conditions = dict(other.when)
    if any(conditions.get(name, predicate) != predicate for name, predicate in one.when):
        return False
    return _share_a_version(SpecifierSet(one.torch) & SpecifierSet(other.torch))


def _share_a_version(both: SpecifierSet) -> bool:
    """Whether any version satisfies both ranges: one that they name, one just after it, or one before all."""
    named = [Version(one.version.removesuffix(".*")) for one in both]
    tried = ["0", *map(str, named), *(f"{version.base_version}.0.0.1" for version in named)]
    return any(both.contains(version, prereleases=True) for version in tried)
