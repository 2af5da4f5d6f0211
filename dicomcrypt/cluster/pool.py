"""Workers on a cluster behind the face of `trees.pool.Pool`: for jobs with one writer, a vault's.

A chunk of files is a task. What a worker must ask the job's process is answered between two tasks:
it gives back what it could not do, with its questions, and that is submitted again with the
answers. So a worker holds nothing between two tasks, and any other does a lost one's chunk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..trees.pool import Answer, Factory, Outcome
from . import work
from .connection import Cluster
from .tasks import Tasks, probing

#: Questions whose answers go with a chunk before it asks: the last ones.
RECENT = 16


class ClusterPool:
    """A context manager. factory, arguments, answer: as of `trees.pool.Pool`; a question is a list,
    and its answer as long. folder: where workers write; sync: as of EncryptOptions. tell: is told
    of lost workers."""

    #: Chunks are so many times larger than those for processes of this machine.
    scale = 8

    def __init__(
        self, cluster: Cluster, tell: Callable[[str], None], factory: Factory,
        arguments: tuple[Any, ...], answer: Answer, *, folder: str, sync: bool,
    ) -> None:  # fmt: skip
        self._answer, self._wanted = answer, 2 * cluster.slots
        self._tasks, self._count = Tasks(cluster, "add", tell), 0
        self._recent: dict[Any, None] = {}
        self._stack = contextlib.ExitStack()
        probe = self._stack.enter_context(probing(folder))
        self._chunks = work.Chunks(factory, arguments, folder, probe, sync)
        #: Path of a task that is being worked on, or one of the same chunk.
        self.current = b""

    def __enter__(self) -> ClusterPool:
        self._stack.enter_context(self._tasks)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def wants(self) -> bool:
        """Whether a worker waits for tasks."""
        return len(self._tasks) < self._wanted

    @property
    def busy(self) -> bool:
        return len(self._tasks) > 0

    def give(self, tasks: list[Any]) -> None:
        self._submit(tasks, self._answered(list(self._recent)))

    def _answered(self, questions: list[Any]) -> work.Answers:
        return work.Answers(zip(questions, self._answer(questions), strict=True))

    def _submit(self, tasks: list[Any], answers: work.Answers) -> None:
        self._count += 1
        self.current = tasks[0].relative
        self._tasks.submit(self._count, work.do_chunk, self._chunks, tasks, answers,
                           more=(tasks, answers))

    def take(self, timeout: float) -> Iterator[tuple[Any, int | list[Outcome]]]:
        """Yield a chunk's number and its outcomes; or no bytes, after a time in which nothing has
        ended, so that the job does something for its lease."""
        found = self._tasks.take(max(timeout, 0.01))
        if found is None:
            if timeout:
                yield None, 0
            return
        number, (tasks, answers), result = found
        if result.error is not None:
            raise result.error
        if result.questions:
            for question in result.questions:
                self._recent.pop(question, None)
                self._recent[question] = None
            while len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]
            answers.update(self._answered(result.questions))
            undone = [task for task in tasks if task.relative in result.undone]
            self._submit(undone, answers)
        yield number, result.outcomes
