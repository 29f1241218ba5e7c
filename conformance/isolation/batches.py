"""One batch of programs: run it, and when its worker is lost, cut it until the guilty program is alone.

A batch is a dict: ``programs``, a list or range of what the function takes one by one, and constant keyword arguments. A program is
blamed only where it was run alone, in a fresh worker, and killed that one too; one that survives alone is called flaky.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from conformance.isolation.losses import WorkerLost

Batch = Mapping[str, Any]
OnResult = Callable[[Any], object]


class OnDeath(Protocol):
    """Called once for each program that killed or stalled its worker; ``detail`` holds reason and last words."""

    def __call__(self, program: Any, *, kind: Literal["crash", "hang", "flaky"], detail: WorkerLost) -> object: ...


def run_batch(attempt: Callable[[Batch], Any], batch: Batch, on_result: OnResult, on_death: OnDeath) -> bool:
    """Runs ``batch`` by ``attempt``, which returns a result or raises ``WorkerLost``. True where a program was reported."""
    programs = batch["programs"]
    try:
        result = attempt(batch)
    except WorkerLost as lost:
        if len(programs) == 1:
            _confirm(attempt, batch, lost, on_result, on_death)
            return True
        reported = [run_batch(attempt, {**batch, "programs": piece}, on_result, on_death) for piece in cut(programs, lost.last_progress)]
        if not any(reported):  # every piece survived: it needed the neighbours, or luck
            on_death(_suspect(programs, lost.last_progress), kind="flaky", detail=lost)
        return True
    on_result(result)
    return False


def _confirm(attempt: Callable[[Batch], Any], batch: Batch, first: WorkerLost, on_result: OnResult, on_death: OnDeath) -> None:
    (program,) = batch["programs"]
    try:
        result = attempt(batch)
    except WorkerLost as again:
        on_death(program, kind=again.kind, detail=again)
    else:
        on_result(result)
        on_death(program, kind="flaky", detail=first)


def cut(programs: Sequence[Any], suspect: Any = None) -> list[Sequence[Any]]:
    """Smaller pieces: what came before the program last reported, it alone, what came after; halves where none was reported."""
    if suspect in programs:
        place = programs.index(suspect)
        pieces = [programs[:place], programs[place : place + 1], programs[place + 1 :]]
    else:
        middle = len(programs) // 2
        pieces = [programs[:middle], programs[middle:]]
    return [piece for piece in pieces if len(piece)]


def _suspect(programs: Sequence[Any], last_progress: Any) -> Any:
    return last_progress if last_progress in programs else programs[0]


def check_batch(batch: Batch) -> Batch:
    """The batch. Raises ValueError where it names no programs."""
    if not len(batch.get("programs", ())):
        raise ValueError("a batch has no programs: give it 'programs', a list or range that is not empty")
    return batch
