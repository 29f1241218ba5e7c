"""One mutant under one seed: the default mix in worker processes, until it is caught or the limits are reached."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from conformance.divergence import Divergence
from conformance.generate.programs import Mix, from_seed
from conformance.isolation import Pool, WorkerLost
from conformance.known_failures import SHIPPED, KnownFailures, load
from conformance.run import STRIDE, TIMEOUT, Settings, _lost, _smallest_loss
from conformance.subjects.eager_torch import EagerTorch

#: the seeds of ``nox -s quality``
SEEDS: Final = (1, 2, 3)
#: wall seconds, the start of the workers included
SECONDS: Final = 20.0
#: programs: small, since a batch hands over what it found only when it ends, and each of its findings is minimized first
BATCH: Final = 10


@dataclass(slots=True)
class Outcome:
    """What one search showed. ``caught`` is the first new cause that is the planted one; ``others`` counts those that are not."""

    caught: Divergence | None = None
    seconds: float = 0.0
    programs: int = 0
    others: Counter[tuple[str, str]] = field(default_factory=Counter)  # by op and facet
    failures: list[str] = field(default_factory=list)  # tracebacks of the harness

    def unwanted(self) -> str:
        """One line: what else was seen."""
        return ", ".join(f"{op} {facet} ×{count}" for (op, facet), count in self.others.most_common(6))


class _Caught(Exception):
    """Ends the search; the pool then ends its workers."""


@dataclass(slots=True)
class _Search:
    subject: str
    wanted: tuple[str, str] | None
    seed: int
    seconds: float
    programs: int
    known: KnownFailures
    attributes: dict[str, str]
    outcome: Outcome = field(default_factory=Outcome)
    started: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def batches(self) -> Iterator[dict[str, Any]]:
        mix, first = asdict(Mix()), self.seed * STRIDE
        for start in range(first, first + self.programs, BATCH):
            if self.elapsed() >= self.seconds:
                return
            yield {"programs": list(range(start, min(start + BATCH, first + self.programs))), "mix": mix, "subject_name": self.subject}

    def on_result(self, result: dict[str, Any]) -> None:
        self.outcome.programs += result["programs"]
        self.outcome.failures += [trace for _, trace in result["failures"]]
        for data in result["divergences"]:
            self.on_divergence(Divergence.from_json(data))

    def on_divergence(self, found: Divergence) -> None:
        if self.known.match_divergence(replace(found, attributes=self.attributes | found.attributes)) is not None:
            return
        place = (found.key.op, found.key.facet)
        if place != self.wanted:
            self.outcome.others[place] += 1
        elif self.elapsed() <= self.seconds:
            self.outcome.caught = found
            raise _Caught

    def on_death(self, program: Any, *, kind: str, detail: WorkerLost) -> None:
        """As in a run: the lost program is cut and minimized in workers of its own, and may be a known failure."""
        small = _smallest_loss(from_seed(int(program)), kind, self.subject, Settings())
        self.on_divergence(_lost(small, kind, detail.reason, "torch"))


def search(
    subject: str, wanted: tuple[str, str] | None, seed: int, seconds: float = SECONDS, programs: int = STRIDE, jobs: int = 2
) -> Outcome:
    """Judges ``subject`` under ``seed`` until a new cause names the ``wanted`` (op, facet), or the seconds or programs are spent."""
    about = EagerTorch().describe()
    known, attributes = load([SHIPPED]).for_torch(about["torch"]), {"device": "cpu", "capability": about["capability"]}
    looking = _Search(subject, wanted, seed, seconds, programs, known, attributes)
    with Pool(jobs, env={"OMP_NUM_THREADS": "1"}) as pool, suppress(_Caught):
        pool.map_batches("conformance.batch:judge_batch", looking.batches(), TIMEOUT, looking.on_result, looking.on_death)
    looking.outcome.seconds = looking.elapsed()
    return looking.outcome
