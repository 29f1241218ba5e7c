"""Batches over several workers. Results are handed over as they come and not kept."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from conformance.isolation.batches import Batch, OnDeath, OnResult, check_batch, run_batch
from conformance.isolation.client import Worker


class Pool:
    """``jobs`` workers, each driven by a thread of ours; kept warm between two calls of ``map_batches``."""

    def __init__(
        self, jobs: int, interpreter: str = sys.executable, env: Mapping[str, str] | None = None, path: Sequence[str] = ()
    ) -> None:
        self._workers = [Worker(interpreter, env, path) for _ in range(jobs)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every worker, whatever it is doing."""
        for worker in self._workers:
            worker.close()

    def map_batches(self, function: str, batches: Iterable[Batch], timeout: float, on_result: OnResult, on_death: OnDeath) -> None:
        """Calls ``function(programs=…, **constants)`` for each batch, in workers; ``on_result`` and ``on_death`` here, in this thread.

        ``timeout`` is in seconds without progress. ``batches`` is taken from as workers become free, so it may be endless. An
        exception (of the function: ``RemoteError``; of a callback; KeyboardInterrupt) closes the pool and is raised; after an
        interrupt what had been found is still handed over first.
        """
        run = _Run(self._workers, function, batches, timeout, on_result, on_death)
        try:
            run.finish()
        except BaseException as error:
            self.close()
            run.drain(keep=isinstance(error, KeyboardInterrupt))
            raise


class _Run:
    """One call of ``map_batches``: threads put what they find into a short queue, the caller's thread takes it out."""

    def __init__(
        self, workers: Sequence[Worker], function: str, batches: Iterable[Batch], timeout: float, on_result: OnResult, on_death: OnDeath
    ) -> None:
        self._function, self._timeout, self._on_result, self._on_death = function, timeout, on_result, on_death
        self._found: queue.Queue[Callable[[], object]] = queue.Queue(maxsize=2 * len(workers))
        self._source = _Source(batches)
        self._failure: BaseException | None = None
        self._driving = len(workers)
        for worker in workers:
            threading.Thread(target=self._drive, args=(worker,), daemon=True).start()

    def finish(self) -> None:
        while self._driving:
            self._found.get()()
            if self._failure:
                raise self._failure

    def drain(self, keep: bool) -> None:
        """Waits for the threads to see that their workers are gone; hands over what they had found if ``keep``."""
        while self._driving:
            found = self._found.get()
            if keep or found == self._one_ended:
                found()

    def _one_ended(self) -> None:
        self._driving -= 1

    def _drive(self, worker: Worker) -> None:
        put = self._found.put
        try:
            for batch in self._source:
                run_batch(
                    lambda piece: worker.call(self._function, piece, self._timeout),
                    batch,
                    lambda result: put(partial(self._on_result, result)),
                    lambda program, *, kind, detail: put(partial(self._on_death, program, kind=kind, detail=detail)),
                )
        except BaseException as error:
            self._failure = self._failure or error
        put(self._one_ended)


class _Source:
    """Batches for several threads: an iterator may not be advanced by two at a time."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        with self._lock:
            return check_batch(next(self._batches))
