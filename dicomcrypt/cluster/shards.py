"""A tree's job on a cluster: its shards are submitted, followed, and begun again when lost."""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import re
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from .._version import __version__
from ..errors import JobBusyError, UsageError
from ..objects.atomic import new_part_name
from ..trees.job import Watch
from ..trees.journal import place
from ..trees.pool import Outcome
from . import work
from .connection import Cluster, result_of

#: Shards for each task that runs at once, where nothing else is said.
EACH = 4
#: Seconds in which the file system must have noticed that a lost worker holds no lock any more,
#: and between two tries.
LOCKED, AGAIN = 120.0, 2.0
#: Seconds in which cancelled shards are waited for.
ENDING = 10.0


def shard_count(out: str | None, given: int | None, slots: int) -> int:
    """In how many shards a job is done: as many as when it was begun, as its journals tell."""
    found = set()
    if out is not None:
        beside, inside = os.path.realpath(out) + ".dcmx", os.path.join(out, ".dcmx")
        for name in (beside, inside):
            for path in glob.glob(glob.escape(name) + "-journal-*-of-*"):
                if match := re.fullmatch(r"-journal-\d+-of-(\d+)", path[len(name):]):
                    found.add(int(match[1]))
    if len(found) > 1 or (found and given not in (None, *found)):
        raise UsageError(
            f"{out!r} has journals of a job in {', '.join(map(str, sorted(found)))} shards: give "
            f"--shards {min(found)} to finish it, or remove the journals"
        )
    return found.pop() if found else given or EACH * slots


class _Progress:
    """What the shards have told: what a watch shows of a survey, for all of them."""

    def __init__(self, topic: str, count: int) -> None:
        self.topic, self._count = topic, count
        self._told: dict[int, dict[str, Any]] = {}
        #: How many times each shard was begun, and which run, as far as they could say so.
        self.begun: dict[int, int] = {}
        self.running: set[int] = set()

    def hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take an event; called in the client's thread."""
        message = event[1]
        number, what = message["task"], message["what"]
        if what == "goes on":
            self._told[number] = message
        elif what == "begins":
            self.begun[number] = self.begun.get(number, 0) + 1
            self.running.add(number)
        else:
            self.running.discard(number)

    def show(self, watch: Watch | None, finished: set[int]) -> None:
        if watch is None:
            return
        told = list(self._told.values())
        survey = SimpleNamespace(
            files=sum(m["files"] for m in told), bytes=sum(m["bytes"] for m in told),
            through=sum(m["through"] for m in told), current=b"",
            finished=len(told) == self._count
            and all(m["finished"] or m["task"] in finished for m in told),
        )  # fmt: skip
        watch(survey, sum(m["done"] for m in told))


def run_shards(
    cluster: Cluster, job: Any, count: int, *, watch: Watch | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome]:
    """Do a job (`cluster.jobs`) in `count` shards; yield the outcomes of each when it is done.

    A shard whose worker was lost is begun again by the scheduler, and goes on from its journal.
    tell: is told of such. Raises what ended a shard, WorkerLostError; the rest is cancelled then,
    as by an interrupt.
    """
    run = os.urandom(8).hex()
    progress = _Progress(f"dicomcrypt-{run}", count)
    ended: queue.Queue[Any] = queue.Queue()
    numbers: dict[Any, int] = {}
    waiting: list[tuple[float, int]] = []  # to be tried again, and when
    locked: dict[int, float] = {}
    submitted: dict[int, int] = {}
    finished: set[int] = set()
    lost = 0

    def submit(number: int) -> None:
        submitted[number] = submitted.get(number, 0) + 1
        future = cluster.client.submit(
            work.do_shard, job, (number, count), progress.topic, probe, __version__, pure=False,
            key=f"dicomcrypt-{job.name}-{run}-{number}-of-{count}-{submitted[number]}",
        )  # fmt: skip
        numbers[future] = number
        future.add_done_callback(ended.put)

    with _probe(job.out) as probe:
        cluster.client.subscribe_topic(progress.topic, progress.hear)
        try:
            for number in range(1, count + 1):
                submit(number)
            while numbers or waiting:
                progress.show(watch, finished)
                for due, number in list(waiting):
                    if due <= time.monotonic():
                        waiting.remove((due, number))
                        submit(number)
                again = sum(max(progress.begun.get(n, 0) - k, 0) for n, k in submitted.items())
                if again > lost:
                    lost = again
                    tell("a worker was lost: its shard goes on elsewhere, from its journal")
                try:
                    future = ended.get(timeout=0.2)
                except queue.Empty:
                    continue
                number = numbers.pop(future)
                result = result_of(future)
                if isinstance(result.error, JobBusyError) and progress.begun.get(number, 0) > 1:
                    # Its first worker is gone, but the file system does not know that yet.
                    since = locked.setdefault(number, time.monotonic())
                    if time.monotonic() - since < LOCKED:
                        waiting.append((time.monotonic() + AGAIN, number))
                        continue
                yield from result.outcomes
                if result.error is not None:
                    raise result.error
                finished.add(number)
        finally:
            if numbers:
                _cancel(cluster, list(numbers), progress)
            cluster.client.unsubscribe_topic(progress.topic)


def _cancel(cluster: Cluster, futures: list[Any], progress: _Progress) -> None:
    """End what runs, and wait until it has cleared up."""
    with contextlib.suppress(Exception):
        cluster.client.cancel(futures, force=True)
        end = time.monotonic() + ENDING
        while time.monotonic() < end and progress.running:
            time.sleep(0.05)


@contextlib.contextmanager
def _probe(out: str | None) -> Iterator[str | None]:
    """A file in the output, by which workers see that theirs is the same."""
    if out is None:
        yield None
        return
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, new_part_name())
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def remove_journals(out: str, count: int) -> None:
    """All shards are done: their journals go."""
    for number in range(1, count + 1):
        with contextlib.suppress(OSError):
            os.unlink(place(out, (number, count), None))
