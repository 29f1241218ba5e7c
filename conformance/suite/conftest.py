"""The suite's settings and its events: what it compared and found goes into the run's report (``CONFORMANCE_EVENTS_DIR``)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from conformance.suite.recording import Recording

# the gate must give one verdict per commit: no random seed, no memory of earlier runs, no clock
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
# "explain" would trace every line of every example; a cause is explained by our own minimized program
PHASES = [Phase.explicit, Phase.generate, Phase.shrink]
settings.register_profile("gate", derandomize=True, database=None, deadline=None, phases=PHASES, suppress_health_check=SLOW)
settings.load_profile("gate")


@pytest.fixture(scope="session")
def recording() -> Iterator[Recording]:
    """Collects the session's events; writes them where the environment says, one file per worker process."""
    made = Recording(time.monotonic())
    yield made
    folder = os.environ.get("CONFORMANCE_EVENTS_DIR")
    if folder:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        made.write(Path(folder) / f"suite-{worker}.jsonl")
