"""Any subject in a child process, or in another interpreter: a crash or a hang there is a finding here.

``Worker`` is one child, ``Pool`` runs batches of programs over several, ``run_on_executor`` does the same on any
``concurrent.futures.Executor``. The exceptions:

- ``WorkerLost``: the child is gone, with ``kind``, ``reason``, ``stderr`` and ``last_progress``

  - ``WorkerDied``: it ended by itself, by a signal or an exit code (kind "crash")
  - ``WorkerHung``: it showed no progress and was ended (kind "hang")

- ``RemoteError``: the function raised; the child lives on
- ``WorkerUnusable``: no child could be started, or it was closed meanwhile; says what to do
"""

from conformance.isolation.batches import OnDeath, cut
from conformance.isolation.client import Worker
from conformance.isolation.executors import process_pool, run_on_executor
from conformance.isolation.losses import RemoteError, WorkerDied, WorkerHung, WorkerLost, WorkerUnusable
from conformance.isolation.pool import Pool

__all__ = [
    "OnDeath",
    "Pool",
    "RemoteError",
    "Worker",
    "WorkerDied",
    "WorkerHung",
    "WorkerLost",
    "WorkerUnusable",
    "cut",
    "process_pool",
    "run_on_executor",
]
