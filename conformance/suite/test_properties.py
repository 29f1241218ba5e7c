"""Properties over drawn programs. Each draws what its name says more often; all of them judge everything the oracle can see."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, note, settings, strategies

from conformance.codegen import source
from conformance.generate.programs import Mix, draw
from conformance.generate.providers import FromHypothesis
from conformance.suite.recording import Recording

EXAMPLES = 150

#: ops whose result's dtype depends on all of their operands, in different ways
PROMOTING = ("add", "sub", "mul", "div", "where", "maximum", "pow", "cat", "atan2")

#: property -> what its programs hold more (or less) of
PROPERTIES: dict[str, Mix] = {
    "values": Mix(actions=(("backward", 0.2), ("grad", 0.1), ("hook", 0), ("optimizer", 0)), max_statements=8),
    "gradients": Mix(actions=(("backward", 3), ("grad", 3), ("illegal", 0)), max_statements=10),
    "accumulation": Mix(actions=(("backward", 6), ("clear_grad", 6), ("read_grad", 4), ("requires_grad", 2))),
    "retain_graph_and_other_errors": Mix(actions=(("backward", 5), ("illegal", 12), ("grad", 2))),
    "state": Mix(actions=(("inplace", 3), ("view_write", 6), ("setitem", 4), ("detach", 4), ("mode", 3), ("hook", 3), ("retain_grad", 4))),
    "promotion": Mix(ops=tuple((op, 1) for op in PROMOTING), max_statements=8),
    "optimizer": Mix(actions=(("optimizer", 14), ("backward", 4), ("op", 0.4))),
}  # fmt: skip


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_statement_is_right(name: str, recording: Recording) -> None:
    @settings(max_examples=EXAMPLES)
    @given(strategies.data())
    def holds(data: Any) -> None:
        program = draw(FromHypothesis(data), PROPERTIES[name])
        note(source(program))
        recording.judge(program)

    holds()
