"""Worker processes: tasks to them and outcomes from them, through pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import DicomcryptError, WorkerLostError
from ..keys import home
from ..objects.atomic import remove_unfinished, taken_over

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkContext, SpawnContext
    from multiprocessing.process import BaseProcess


#: Tasks handed to a worker at a time: few enough that an interrupt does not wait long and that
#: neither side of a pipe fills it.
CHUNK_TASKS, CHUNK_BYTES, CHUNK_NAMES = 128, 8 << 20, 16 << 10
TICK = 0.2


class Outcome:
    """What became of one input. state: "done", "skipped", "failed", or "planned" in a dry run.

    Of an output in progress also: part, its path until it has its name; relative, the input's
    path in its tree; source, by which the input is known again; object_id, of an object that
    bears it for a name; replace, whether an earlier output of the job is replaced; seen, size and
    time of the input when the tree was walked.
    """

    __slots__ = ("bytes_in", "bytes_out", "details", "exit_status", "message", "object_id",
                 "output", "part", "path", "relative", "replace", "seen", "source", "state")

    def __init__(
        self, path: str, state: str, output: str | None = None, bytes_in: int = 0,
        bytes_out: int = 0, message: str = "", exit_status: int = 0,
        details: dict[str, Any] | None = None, part: str | None = None, relative: bytes = b"",
        source: tuple[int, ...] = (), object_id: bytes | None = None, replace: bool = False,
        seen: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self.path, self.state, self.output = path, state, output
        self.bytes_in, self.bytes_out, self.message = bytes_in, bytes_out, message
        self.exit_status, self.details = exit_status, details or {}
        self.part, self.relative, self.source = part, relative, source
        self.object_id, self.replace, self.seen = object_id, replace, seen

    def in_progress(self) -> tuple[str, str]:
        """The path of the output in progress, and the one that it is to get; ValueError if this
        has none."""
        if self.part is None or self.output is None:
            raise ValueError("no output is in progress")
        return self.part, self.output

    def __reduce__(self) -> tuple[type[Outcome], tuple[Any, ...]]:
        return Outcome, (
            self.path, self.state, self.output, self.bytes_in, self.bytes_out, self.message,
            self.exit_status, self.details, self.part, self.relative, self.source,
            self.object_id, self.replace, self.seen,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Outcome({self.path!r}, {self.state!r}, {self.message!r})"


class Worker(Protocol):
    """Does tasks."""

    def begin(self, tasks: list[Any], /) -> None:
        """These tasks come next, in this order."""

    def __call__(self, task: Any, /) -> Outcome:
        """Do one."""


#: Makes a worker from its arguments, a function that is told of bytes done, and, in a job that
#: answers questions, a function that asks the job's process.
Factory = Callable[..., Worker]
#: Makes a pool like `Pool` from factory, arguments and answer.
MakePool = Callable[[Factory, tuple[Any, ...], Any], Any]
#: Answers a worker's question, in the job's process; what it raises is raised in the worker.
Answer = Callable[[Any], Any]


class _Talk:
    """A worker's question, or the answer."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type[_Talk], tuple[Any]]:
        return _Talk, (self.value,)


def next_chunk(tasks: Iterator[Any], scale: int = 1) -> list[Any]:
    """Take a few small tasks, or one large one. scale: times what fits into a pipe."""
    chunk: list[Any] = []
    size = names = 0
    for task in tasks:
        chunk.append(task)
        size += task.size
        names += len(task.relative)
        if (len(chunk) >= CHUNK_TASKS * scale or size >= CHUNK_BYTES * scale
                or names >= CHUNK_NAMES * scale):
            break
    return chunk


# ---- in the worker ---------------------------------------------------------


def _mask(how: str) -> None:
    """Block or unblock the signals that end a job, where there are masks."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), {signal.SIGINT, signal.SIGTERM})


def _follow(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    remove_unfinished()
    os._exit(1)  # whoever holds keys does not outlive the job


def _serve(connection: Connection[Any, Any], factory: Factory, answering: bool) -> None:
    from multiprocessing import parent_process
    from threading import Thread

    told, since = 0, time.monotonic()
    waiting: deque[Any] = deque()  # messages that came while an answer was waited for

    def ask(question: Any) -> Any:
        connection.send(_Talk(question))
        while not isinstance(found := connection.recv(), _Talk):
            waiting.append(found)
        if isinstance(found.value, Exception):
            raise found.value
        return found.value

    def tell(size: int) -> None:
        nonlocal told, since
        told += size
        if time.monotonic() - since >= TICK:
            connection.send(told)
            told, since = 0, time.monotonic()

    outcomes: list[Outcome] = []
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _mask("SIG_UNBLOCK")
        parent = parent_process()
        if parent is not None:
            Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
        home.ask = ask
        worker = factory(*connection.recv(), tell, *((ask,) if answering else ()))
        while (tasks := waiting.popleft() if waiting else connection.recv()) is not None:
            worker.begin(tasks)
            for task in tasks:
                outcomes.append(worker(task))
                if outcomes[-1].part is not None:
                    taken_over(outcomes[-1].part)
            connection.send(outcomes)
            outcomes, told, since = [], 0, time.monotonic()
    except (KeyboardInterrupt, EOFError, OSError):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        remove_unfinished()
        for outcome in outcomes:
            if outcome.part is not None:
                with contextlib.suppress(OSError):
                    os.unlink(outcome.part)


# ---- in the job's process --------------------------------------------------


def _context(method: str | None) -> ForkContext | SpawnContext:
    """Fork is quick, and safe where no other thread runs and no token is in use; spawn works
    everywhere."""
    import multiprocessing
    import threading

    if method is None:
        can_fork = "fork" in multiprocessing.get_all_start_methods() and os.name == "posix"
        token = sys.modules.get("dicomcrypt.keys.token")
        can_fork = can_fork and not (token is not None and token.in_use())
        method = "fork" if can_fork and threading.active_count() == 1 else "spawn"
    if method == "fork":
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("spawn")


def _no_answer(question: object) -> object:
    raise TypeError("workers of this job have nothing to ask")


class Pool:
    """Worker processes; a context manager that ends them.

    arguments: for the factory, keys among them; they go through a pipe, never through argv or
    the environment. method: "fork" or "spawn", by default what fits. answer: what workers ask.
    """

    #: How large chunks are (`next_chunk`).
    scale = 1

    def __init__(
        self, factory: Factory, arguments: tuple[Any, ...], jobs: int, method: str | None = None,
        answer: Answer | None = None,
    ) -> None:  # fmt: skip
        context = _context(method)
        self._answer: Answer = answer or _no_answer
        self._workers: dict[Connection[Any, Any], BaseProcess] = {}
        self._queues: dict[Connection[Any, Any], deque[bytes]] = {}
        #: Path of a task that is being worked on, or one of the same chunk.
        self.current = b""
        self._idle: deque[Connection[Any, Any]] = deque()
        # A worker that is interrupted before it knows what to do would say so on the terminal.
        _mask("SIG_BLOCK")
        try:
            for _ in range(jobs):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, factory, answer is not None),
                                          daemon=True)
                process.start()
                theirs.close()
                self._workers[ours] = process
                self._queues[ours] = deque()
        finally:
            _mask("SIG_UNBLOCK")
        for ours in self._workers:
            ours.send(arguments)
            self._idle += (ours, ours)  # one chunk in work, one waiting

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None:
            for connection in self._workers:
                with contextlib.suppress(OSError):
                    connection.send(None)
        else:
            for process in self._workers.values():
                process.terminate()
        end = time.monotonic() + (60 if kind is None else 1)
        for process in self._workers.values():
            process.join(max(end - time.monotonic(), 0))
            if process.is_alive():
                process.kill()
                process.join()
        if kind is not None:
            self._drop_unread()

    def _drop_unread(self) -> None:
        """Remove outputs in progress of which nobody has heard, since the job was broken off."""
        for connection in self._workers:
            with contextlib.suppress(Exception):  # a message may be cut
                while connection.poll():
                    found = connection.recv()
                    for outcome in found if isinstance(found, list) else ():
                        if outcome.part is not None:
                            with contextlib.suppress(OSError):
                                os.unlink(outcome.part)

    @property
    def wants(self) -> bool:
        """Whether a worker waits for tasks."""
        return bool(self._idle)

    @property
    def busy(self) -> bool:
        return any(self._queues.values())

    def give(self, tasks: list[Any]) -> None:
        connection = min(set(self._idle), key=lambda c: len(self._queues[c]))
        self._idle.remove(connection)
        self._queues[connection].append(tasks[-1].relative)
        try:
            connection.send(tasks)
        except OSError:
            raise self._lost() from None

    def take(self, timeout: float | None) -> Iterator[tuple[Any, int | list[Outcome]]]:
        """Yield which worker has sent something, and what: bytes done meanwhile, or a chunk's
        outcomes."""
        from multiprocessing.connection import wait

        ready = wait(list(self._workers), timeout)
        for connection in self._workers:
            if connection not in ready:
                continue
            try:
                found = connection.recv()
            except (EOFError, OSError):
                raise self._lost() from None
            if isinstance(found, _Talk):
                self._reply(connection, found.value)
                continue
            self.current = self._queues[connection][0]
            if isinstance(found, list):
                self._queues[connection].popleft()
                self._idle.append(connection)
            yield connection, found

    def _reply(self, connection: Any, question: Any) -> None:
        try:
            known = isinstance(question, home.Question)
            answer: Any = question.answer() if known else self._answer(question)
        except DicomcryptError as error:
            answer = error
        try:
            connection.send(_Talk(answer))
        except OSError:
            raise self._lost() from None

    def _lost(self) -> WorkerLostError:
        return WorkerLostError(
            "a worker process was killed (out of memory?): the same command goes on where it "
            "stopped"
        )


def default_jobs() -> int:
    """As many processes as this one may use processors."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
