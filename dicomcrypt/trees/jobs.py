"""One task a file, in this process or in several; results in the order of completion."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import WorkerLostError
from ..objects.files import remove_unfinished

if TYPE_CHECKING:
    from concurrent.futures import Future


@dataclass(slots=True)
class Outcome:
    """What became of one input. state: "done", "skipped" or "failed"."""

    path: str
    state: str
    output: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    message: str = ""
    exit_status: int = 0
    details: dict[str, Any] = field(default_factory=dict)


#: Files handed to a worker at a time: few, so that an interrupt does not wait long.
CHUNK = 8
CHUNK_BYTES = 8 << 20

_worker: Callable[[Any], Outcome] | None = None


def _start(factory: Callable[..., Callable[[Any], Outcome]], arguments: tuple) -> None:
    global _worker
    import signal
    from multiprocessing import parent_process
    from multiprocessing.connection import wait
    from threading import Thread

    def follow_parent() -> None:
        wait([parent_process().sentinel])
        remove_unfinished()
        os._exit(1)  # whoever holds keys does not outlive the job

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    Thread(target=follow_parent, daemon=True).start()
    _worker = factory(*arguments)


def _chunk(source: Iterator[Any]) -> list[Any]:
    """A few tasks, or one large one."""
    chunk, size = [], 0
    for task in islice(source, CHUNK):
        chunk.append(task)
        size += getattr(task, "size", 0)
        if size >= CHUNK_BYTES:
            break
    return chunk


def _call(tasks: list[Any]) -> list[Outcome]:
    return [_worker(task) for task in tasks]


def run(
    tasks: Iterable[Any],
    factory: Callable[..., Callable[[Any], Outcome]],
    arguments: tuple,
    jobs: int,
) -> Iterator[Outcome]:
    """Do all tasks with the worker that `factory(*arguments)` makes in each process.

    The arguments, keys among them, reach the other processes through a pipe. Tasks are taken
    from their iterator as they are needed.
    """
    if jobs <= 1:
        worker = factory(*arguments)
        for task in tasks:
            yield worker(task)
        return
    # Imported here: most commands start no other process.
    from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(factory, arguments)
    )
    waiting: set[Future[list[Outcome]]] = set()
    source = iter(tasks)
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < 4 * jobs:
                chunk = _chunk(source)
                more = bool(chunk)
                if chunk:
                    waiting.add(pool.submit(_call, chunk))
            if waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
    except BrokenExecutor:
        raise WorkerLostError(
            "a worker process was killed (out of memory?): the same command with --resume goes on"
        ) from None
    except BaseException:
        for future in waiting:
            future.cancel()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def default_jobs() -> int:
    """As many processes as this one may use processors."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
