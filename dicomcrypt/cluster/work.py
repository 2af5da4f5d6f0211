"""What runs in Dask's workers: one shard of a tree, or a chunk of the files for a vault.

Nothing is raised there: what failed is told as a result, since workers log what is raised."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .._version import __version__
from ..errors import DicomcryptError, UsageError
from ..objects.atomic import sync_folders, taken_over
from ..objects.files import describe_failure
from ..trees.job import Shard
from ..trees.pool import Factory, Outcome

if TYPE_CHECKING:
    from .jobs import ShardJob

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


def portable(error: BaseException) -> Exception:
    """An error as it can be sent."""
    if isinstance(error, DicomcryptError):
        return error
    return DicomcryptError(describe_failure(error))


def check_same(version: str, out: str | None, probe: str | None) -> None:
    """Raise UsageError if the job comes from another version, or this worker has another folder
    at `out`: one without the probe."""
    if version != __version__:
        raise UsageError(f"a worker has dicomcrypt {__version__}, this machine {version}: they "
                         "must be the same")
    if probe is not None and not os.path.lexists(probe):
        raise UsageError(f"a worker does not see this machine's {out!r}: it must be one folder, at "
                         "the same place on all machines")


class Following:
    """Follows one task: tells the job's process, and ends the task when nobody wants it; a context
    manager."""

    def __init__(self, topic: str, number: int) -> None:
        from distributed import get_worker

        self._worker, self._topic, self._number = get_worker(), topic, number
        self._key, self._since = self._worker.get_current_task(), 0.0

    def __enter__(self) -> Following:
        self.say("begins")
        return self

    def __exit__(self, *exc: object) -> None:
        self.say("ends")

    def say(self, what: str, **more: Any) -> None:
        self._worker.log_event(self._topic, {"task": self._number, "what": what, **more})

    def check(self) -> bool:
        """Whether it is time for a report; raises KeyboardInterrupt when the job was cancelled, or
        its process is gone, since the scheduler has released the task then; or the scheduler is."""
        now = time.monotonic()
        if now - self._since < TICK:
            return False
        self._since = now
        state = self._worker.state.tasks.get(self._key)
        if (
            state is None or state.state not in ("executing", "long-running")
            or self._worker.status.name in ("closing", "closed", "failed")
        ):  # fmt: skip
            raise KeyboardInterrupt
        return True

    def watch(self, survey: Any, done: int) -> None:
        """What a tree's job is watched by: numbers go out, no names."""
        if self.check():
            self.say("goes on", files=survey.files, bytes=survey.bytes, done=done,
                     through=survey.through, finished=survey.finished)


def do_shard(
    job: ShardJob, shard: Shard, probe: str | None, topic: str, number: int, version: str
) -> Result:
    """Do one shard of a job (`cluster.jobs`).

    probe: a file that only those see who have the same output folder."""
    outcomes: list[Outcome] = []
    with Following(topic, number) as following:
        try:
            check_same(version, job.out, probe)
            if not os.path.isdir(job.root):
                raise UsageError(f"a worker does not see the folder {job.root!r}: it must lie at "
                                 "the same place on all machines")
            with contextlib.closing(job.outcomes(shard, following.watch)) as found:
                outcomes.extend(found)
        except KeyboardInterrupt:  # nobody waits for this
            return Result([])
        except Exception as error:
            return Result(outcomes, portable(error))
    return Result(outcomes)


# ---- chunks of files, for a job that writes alone ---------------------------


class _UnansweredError(DicomcryptError):
    """Only the job's process knows the answer."""

    exit_status = -1


class Chunks:
    """What every chunk of a job needs: the factory of its workers, their arguments (keys are among
    them), the folder that they write into, and a probe in it. sync: what they wrote is on the
    medium before a chunk is told to be done: the job's process cannot see to that from another
    machine."""

    __slots__ = ("arguments", "factory", "folder", "probe", "sync")

    def __init__(
        self, factory: Factory, arguments: tuple[Any, ...], folder: str, probe: str, sync: bool
    ) -> None:
        self.factory, self.arguments = factory, arguments
        self.folder, self.probe, self.sync = folder, probe, sync

    def __repr__(self) -> str:
        return "Chunks(...)"


class Answers(dict[Any, Any]):
    """Answers by question; keys are among them."""

    def __repr__(self) -> str:
        return f"Answers({len(self)})"


class Done(NamedTuple):
    """What a chunk came to. undone: the paths of files that are to be given again, with answers to
    the questions."""

    outcomes: list[Outcome]
    questions: list[Any]
    undone: frozenset[bytes]
    error: Exception | None = None


def do_chunk(
    chunks: Chunks, tasks: list[Any], answers: Answers, topic: str, number: int, version: str
) -> Done:
    """Do the files of a chunk, as far as the answers reach."""
    outcomes: list[Outcome] = []
    questions: dict[Any, None] = {}
    undone: set[bytes] = set()

    def ask(asked: list[Any]) -> list[Any]:
        missing = [question for question in asked if question not in answers]
        if missing:
            questions.update(dict.fromkeys(missing))
            raise _UnansweredError("not known yet")
        return [answers[question] for question in asked]

    with Following(topic, number) as following:
        try:
            check_same(version, chunks.folder, chunks.probe)
            worker = chunks.factory(*chunks.arguments, lambda _: following.check(), ask)
            worker.begin(tasks)
            for task in tasks:
                outcome = worker(task)
                if outcome.exit_status == _UnansweredError.exit_status:
                    undone.add(task.relative)
                    continue
                outcomes.append(outcome)
                if outcome.part is not None:
                    taken_over(outcome.part)
            if chunks.sync:
                sync_folders([chunks.folder])
        except BaseException as error:
            for outcome in outcomes:
                if outcome.part is not None:
                    with contextlib.suppress(OSError):
                        os.unlink(outcome.part)
            if not isinstance(error, Exception | KeyboardInterrupt):
                raise
            return Done([], [], frozenset(), portable(error))
    return Done(outcomes, list(questions), frozenset(undone))
