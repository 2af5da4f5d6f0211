"""A tree's job on a cluster: its shards are submitted, followed, and begun again when lost."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import JobBusyError, UsageError
from ..trees.job import Watch
from ..trees.journal import place
from ..trees.pool import Outcome
from . import work
from .connection import Cluster
from .jobs import ShardJob
from .tasks import Tasks, probing

#: Shards for each task that runs at once, where nothing else is said.
EACH = 4
#: Seconds in which the file system must have noticed that a lost worker holds no lock any more,
#: and between two tries.
LOCKED, AGAIN = 120.0, 2.0


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


@dataclass(slots=True, kw_only=True)
class _Told:
    """What the shards have told, as of one survey (`trees.walk.Listing`)."""

    current: bytes = b""
    through: int
    finished: bool
    files: int
    bytes: int

    def step(self) -> None:
        """The shards look for themselves."""


def _show(tasks: Tasks, count: int, finished: set[int], watch: Watch) -> None:
    """Tell a watch what the shards have told."""
    told = list(tasks.told.values())
    survey = _Told(
        files=sum(m["files"] for m in told), bytes=sum(m["bytes"] for m in told),
        through=sum(m["through"] for m in told),
        finished=len(told) == count and all(m["finished"] or m["task"] in finished for m in told),
    )  # fmt: skip
    watch(survey, sum(m["done"] for m in told))


@contextlib.contextmanager
def holding(job: ShardJob) -> Iterator[str | None]:
    """Hold a job's output folder, which is made, until its journals are gone; give the file by
    which workers know it, None for a job without one. Raises JobBusyError."""
    if job.out is None:
        yield None
        return
    os.makedirs(job.out, exist_ok=True)
    with probing(job.out) as probe:
        yield probe


def run_shards(
    cluster: Cluster, job: ShardJob, count: int, probe: str | None, *, watch: Watch | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Outcome]:
    """Do a job (`cluster.jobs`) in `count` shards; yield the outcomes of each when it is done.

    A shard whose worker was lost is begun again by the scheduler, and goes on from its journal.
    tell: is told of such. probe: as `holding` gives it. Raises what ended a shard, WorkerLostError;
    the rest is cancelled then, as by an interrupt.
    """
    waiting: list[tuple[float, int]] = []  # to be tried again, and when
    locked: dict[int, float] = {}
    finished: set[int] = set()
    with Tasks(cluster, job.name, tell) as tasks:

        def submit(number: int) -> None:
            tasks.submit(number, work.do_shard, job, (number, count), probe)

        for number in range(1, count + 1):
            submit(number)
        while len(tasks) or waiting:
            if watch is not None:
                _show(tasks, count, finished, watch)
            for due, number in list(waiting):
                if due <= time.monotonic():
                    waiting.remove((due, number))
                    submit(number)
            found = tasks.take(0.2)
            if found is None:
                continue
            number, _, result = found
            if isinstance(result.error, JobBusyError) and (number in locked or tasks.lost(number)):
                # Its first worker is gone, but the file system does not know that yet.
                since = locked.setdefault(number, time.monotonic())
                if time.monotonic() - since < LOCKED:
                    waiting.append((time.monotonic() + AGAIN, number))
                    continue
            yield from result.outcomes
            if result.error is not None:
                raise result.error
            finished.add(number)


def remove_journals(out: str, count: int) -> None:
    """All shards are done: their journals go."""
    for number in range(1, count + 1):
        with contextlib.suppress(OSError):
            os.unlink(place(out, (number, count), None))
