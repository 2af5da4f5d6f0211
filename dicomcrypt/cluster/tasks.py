"""The tasks of one job on a cluster: submitted, heard of, cancelled."""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from .._version import __version__
from ..errors import JobBusyError
from ..objects.atomic import PART_PREFIX, PART_SUFFIX, new_part_name
from .connection import Cluster, result_of

#: Seconds in which cancelled tasks are waited for.
ENDING = 10.0
#: How the names of probes begin, shorter than those of a job's outputs in progress.
PROBE = "da5c"
#: The file that is locked: by its name, too, what other jobs leave alone.
LOCK = f"{PART_PREFIX}{PROBE:0<14}{PART_SUFFIX}"


class Tasks:
    """A context manager; what has not ended is cancelled at its end, and waited for.

    name: what the scheduler is shown. tell: is told that a worker was lost: the scheduler begins
    its task again elsewhere."""

    def __init__(self, cluster: Cluster, name: str, tell: Callable[[str], None]) -> None:
        self._client, self._tell = cluster.client, tell
        self._name = f"dicomcrypt-{name}-{os.urandom(8).hex()}"
        self._ended: queue.Queue[Any] = queue.Queue()
        self._pending: dict[Any, tuple[int, Any]] = {}
        self._begun: Counter[int] = Counter()
        self._submitted: Counter[int] = Counter()
        self._running: set[int] = set()
        self._lost = self._said = 0
        #: The last report of each task, by its number.
        self.told: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Tasks:
        self._client.subscribe_topic(self._name, self._hear)
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(Exception):
            if self._pending:
                self._client.cancel(list(self._pending), force=True)
                end = time.monotonic() + ENDING
                while self._running and time.monotonic() < end:
                    time.sleep(0.05)
            self._client.unsubscribe_topic(self._name)

    def __len__(self) -> int:
        return len(self._pending)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take an event; called in the client's thread."""
        message = event[1]
        number, what = message["task"], message["what"]
        if what == "begins":
            self._begun[number] += 1
            self._lost += self.lost(number)
            self._running.add(number)
        elif what == "ends":
            self._running.discard(number)
        else:
            self.told[number] = message

    def submit(self, number: int, function: Callable[..., Any], *arguments: Any,
               more: Any = None) -> None:
        """Submit a task, a function of `cluster.work`. more: comes back with its result."""
        self._submitted[number] += 1
        future = self._client.submit(
            function, *arguments, self._name, number, __version__, pure=False,
            key=f"{self._name}-{number}-{self._submitted[number]}",
        )  # fmt: skip
        self._pending[future] = number, more
        future.add_done_callback(self._ended.put)

    def lost(self, number: int) -> bool:
        """Whether a task was begun more often than it was submitted: its worker was lost."""
        return self._begun[number] > self._submitted[number]

    def take(self, timeout: float) -> tuple[int, Any, Any] | None:
        """Return the number of a task that has ended, what came with it, and its result; None if
        none ends in time. Raises WorkerLostError, DicomcryptError."""
        try:
            future = self._ended.get(timeout=timeout)
        except queue.Empty:
            future = None
        if self._lost > self._said:
            self._said = self._lost
            self._tell("a worker was lost: what it was at goes on elsewhere")
        if future is None:
            return None
        number, more = self._pending.pop(future)
        result = result_of(future)
        future.release()  # the worker, too, forgets it
        return number, more, result


@contextlib.contextmanager
def probing(folder: str) -> Iterator[str]:
    """A file in an output folder, by which workers see that theirs is the same.

    One that a killed job left is removed. Raises JobBusyError if another job has one there."""
    with _alone(folder) as alone:
        if alone:
            for path in glob.glob(
                os.path.join(glob.escape(folder), f"{PART_PREFIX}{PROBE}" + "?" * 17)
            ):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        path = os.path.join(folder, new_part_name(PROBE))
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[bool]:
    """Hold the lock of the jobs that write into a folder: a file, as network folders can lock it.

    A killed job's file stays until the next job, its lock does not. Gives whether there are such
    locks. Raises JobBusyError."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    path = os.path.join(folder, LOCK)
    with contextlib.ExitStack() as stack:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                raise JobBusyError(
                    f"another job writes into {folder!r}: wait until it ends"
                ) from None
            except OSError:  # a file system without these locks
                held = False
                break
            # Whoever had it before may have removed it since it was opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                    break
            stack.close()
        try:
            yield held
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
