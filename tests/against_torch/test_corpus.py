"""Every divergence ever found, as a program, replayed for ever: it diverges no more, or as a known failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.batch import first_divergence
from conformance.known_failures import attributes_of, load
from conformance.program import Program
from conformance.subjects import subject
from conformance.trigger import trigger

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(CORPUS.glob("*.json"))
#: run in this process, so a program that ends it cannot stand here; those are replayed by the gate, in a worker
ENTRIES = load().for_torch(subject("torch").describe()["torch"])


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_divergence_once_found_stays_settled(file: Path) -> None:
    found = first_divergence(Program.from_json(file.read_text()), subject("torch"))
    if found is not None:
        found = replace(found, key=replace(found.key, trigger=trigger(found.program)))
        attributes = {"device": "cpu", **attributes_of(found)}
        assert ENTRIES.match(found.key, attributes) is not None, f"{found.title()}: {found.evidence}"


def test_the_corpus_is_not_empty() -> None:
    assert len(FILES) > 100
