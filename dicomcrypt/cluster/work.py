"""What runs in Dask's workers: one shard of a tree.

Nothing is raised there: what failed is told as a result, since workers log what is raised."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, NamedTuple

from .._version import __version__
from ..errors import DicomcryptError, UsageError
from ..objects.files import describe_failure
from ..trees.job import Shard
from ..trees.pool import Outcome

#: Seconds between two reports of a task.
TICK = 0.5


class Result(NamedTuple):
    """What a shard came to. outcomes: as `run` of the batch engine yields them; error: what ended
    it before its time."""

    outcomes: list[Outcome]
    error: Exception | None = None


def listening(dask_scheduler: Any = None) -> list[str]:
    """In the scheduler: at which addresses it listens."""
    return [listener.listen_address for listener in dask_scheduler.listeners]


def portable(error: Exception) -> Exception:
    """An error as it can be sent."""
    if isinstance(error, DicomcryptError):
        return error
    return DicomcryptError(describe_failure(error))


def check_version(version: str) -> None:
    """Raise UsageError if the job comes from another version."""
    if version != __version__:
        raise UsageError(f"a worker has dicomcrypt {__version__}, this machine {version}: they "
                         "must be the same")


class Following:
    """Follows one task: tells the job's process, and ends the task when nobody wants it."""

    def __init__(self, topic: str, number: int) -> None:
        from distributed import get_worker

        self._worker, self._topic, self._number = get_worker(), topic, number
        self._key, self._since = self._worker.get_current_task(), 0.0
        self._bytes = 0

    def say(self, what: str, **more: Any) -> None:
        self._worker.log_event(self._topic, {"task": self._number, "what": what, **more})

    def check(self) -> bool:
        """Whether it is time for a report; raises KeyboardInterrupt when the job was cancelled, or
        its process is gone: the scheduler has released the task then."""
        now = time.monotonic()
        if now - self._since < TICK:
            return False
        self._since = now
        state = self._worker.state.tasks.get(self._key)
        if state is None or state.state not in ("executing", "long-running"):
            raise KeyboardInterrupt
        return True

    def watch(self, survey: Any, done: int) -> None:
        """What a tree's job is watched by: numbers go out, no names."""
        if self.check():
            self.say("goes on", files=survey.files, bytes=survey.bytes, done=done,
                     through=survey.through, finished=survey.finished)


def do_shard(job: Any, shard: Shard, topic: str, probe: str | None, version: str) -> Result | None:
    """Do one shard of a job (`cluster.jobs`); None if it was cancelled.

    probe: a file that only those see who have the same output folder."""
    following = Following(topic, shard[0])
    following.say("begins")
    outcomes: list[Outcome] = []
    try:
        check_version(version)
        if not os.path.isdir(job.root):
            raise UsageError(f"a worker does not see the folder {job.root!r}: it must lie at the "
                             "same place on all machines")
        if probe is not None and not os.path.lexists(probe):
            raise UsageError(f"a worker does not see this machine's {job.out!r}: it must be one "
                             "folder, at the same place on all machines")
        with contextlib.closing(job.outcomes(shard, following.watch)) as found:
            for outcome in found:
                outcomes.append(outcome)
    except KeyboardInterrupt:
        return None
    except Exception as error:
        return Result(outcomes, portable(error))
    finally:
        following.say("ends")
    return Result(outcomes)
