"""How a tree's work is run: entries to workers, outcomes to checkpoints, and what stops it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ..errors import DicomcryptError, DiskFullError, JobBusyError, UnsafePathError
from ..objects.atomic import PART_PREFIX, is_part, new_part_name, sync_folders
from ..objects.files import describe_failure
from .checkpoint import FULL, Checkpoints
from .journal import Journal, place
from .names import check_folders
from .pool import Answer, Factory, MakePool, Outcome, Pool, next_chunk
from .walk import Entry, Listing, in_shard

Shard = tuple[int, int]
#: Seconds after which a locked output is another job's.
PATIENCE = 0.3


class Watch(Protocol):
    """Who is told how a job goes on, some times a second."""

    def __call__(self, survey: Listing, done: int) -> None:
        """survey: what there is, as far as it is known; done: bytes read."""


def failed(path: str, error: BaseException) -> Outcome:
    """The outcome of an input that an error ended."""
    status = error.exit_status if isinstance(error, DicomcryptError) else 1
    number = errno.ENOSPC if isinstance(error, DiskFullError) else (
        error.errno if isinstance(error, OSError) else None)
    details = {"errno": number} if number else None
    return Outcome(path, "failed", message=describe_failure(error), exit_status=status,
                   details=details)


class Guarded:
    """A worker that turns what may go wrong with one entry into its outcome; the rest of the tree
    goes on. work: does an Entry, or what has its fields. begin: is told of the tasks that come
    next."""

    def __init__(
        self, work: Callable[[Any], Outcome], root: bytes,
        begin: Callable[[list[Any]], None] | None = None,
    ) -> None:  # fmt: skip
        self._work, self._root, self._begin = work, root, begin

    def begin(self, tasks: list[Any]) -> None:
        if self._begin is not None:
            self._begin(tasks)

    def __call__(self, entry: Any) -> Outcome:
        if entry.kind == "error":
            return Outcome(self._path(entry), "failed", message=entry.error, exit_status=1)
        if entry.kind == "part":
            return Outcome(self._path(entry), "skipped", message="has the name of an output in "
                           "progress")
        if entry.kind == "other":
            return Outcome(self._path(entry), "skipped", message="neither file, folder nor link")
        try:
            outcome = self._work(entry)
        except Exception as error:
            # Whatever one file brings about, the others are still to be done.
            outcome = failed(self._path(entry), error)
        if outcome.part is None:
            outcome.seen = entry.size, entry.mtime_ns
        return outcome

    def _path(self, entry: Any) -> str:
        return os.fsdecode(os.path.join(self._root, entry.relative))


# ---- the output ------------------------------------------------------------


class Output:
    """A folder that a job writes into: locked, with its journal; a context manager.

    job: what makes it this job, as bytes. Raises JobBusyError if another job writes there.
    """

    def __init__(
        self, source: str, out: str, job: Iterable[bytes], *, shard: Shard | None = None,
        journal: str | None = None,
    ) -> None:  # fmt: skip
        self.source, self.out, self._shard = os.fsencode(source), os.fsencode(out), shard
        self._stack = contextlib.ExitStack()
        self._made: dict[bytes, None] = {}
        self._checked: bytes | None = None
        os.makedirs(out, exist_ok=True)
        self._lock()
        try:
            digest = hashlib.blake2b(digest_size=32)
            for part in (os.path.realpath(self.source), os.path.realpath(self.out),
                         repr(shard).encode(), *job):
                digest.update(len(part).to_bytes(8, "big") + part)
            try:
                self.journal = Journal(place(out, shard, journal), digest.digest())
            except OSError as error:
                raise DicomcryptError(
                    f"the journal cannot be written ({describe_failure(error)}): "
                    "give --journal PATH"
                ) from None
            self._stack.callback(self.journal.close)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _lock(self) -> None:
        """Hold the folder: alone, or together with other shards."""
        try:
            import fcntl
        except ImportError:  # the journal alone is locked
            return
        descriptor = os.open(self.out, os.O_RDONLY)
        self._stack.callback(os.close, descriptor)
        how = fcntl.LOCK_EX if self._shard is None else fcntl.LOCK_SH
        # Workers of a job that was killed hold it until they have noticed.
        patience = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < patience:
                    time.sleep(0.05)
                    continue
                self._stack.close()
                raise JobBusyError(
                    f"another job writes into {os.fsdecode(self.out)!r}: wait until it ends"
                ) from None
            except OSError:  # a file system without these locks
                pass
            return

    @property
    def folds_case(self) -> bool:
        """Whether the file system takes two names that differ in case only for one."""
        name = os.path.join(os.fsdecode(self.out), new_part_name(self.journal.run))
        with contextlib.suppress(OSError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            try:
                head, tail = os.path.split(name)
                return os.path.exists(os.path.join(head, tail.upper()))
            finally:
                os.unlink(name)
        return False

    def make_folder(self, relative: bytes) -> None:
        """Make a folder of the mirror. It is open to nobody whom the source's is closed to.

        Raises UnsafePathError, OSError."""
        if not relative or relative == self._checked:
            return
        check_folders(self.out, relative + b"/")
        target = os.path.join(self.out, relative)
        if not os.path.isdir(target):
            parent = relative.rpartition(b"/")[0]
            if parent and not os.path.isdir(os.path.join(self.out, parent)):
                self.make_folder(parent)
            status = os.stat(os.path.join(self.source, relative))
            with contextlib.suppress(FileExistsError):  # another shard was quicker
                os.mkdir(target, stat.S_IMODE(status.st_mode) & 0o777 | 0o700)
            self._made[relative] = None
        elif self.journal.resumed or self._shard is not None:
            # An earlier run, or another shard, may have given it its mode and time already.
            mode = stat.S_IMODE(os.stat(target).st_mode)
            if mode & 0o700 != 0o700:
                os.chmod(target, mode | 0o700)
            self._made[relative] = None
        self._checked = relative

    def remove_stale(self) -> None:
        """Remove what earlier runs of this job left half-done.

        Everywhere in the output: where objects keep their places inside, the input does not
        tell which folders there are."""
        if not self.journal.resumed:
            return
        folders = [self.out]
        while folders:
            with contextlib.suppress(OSError), os.scandir(folders.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif is_part(entry.name) and self._is_stale(entry.name.decode()):
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)

    def _is_stale(self, name: str) -> bool:
        run = name[len(PART_PREFIX) :][: len(self.journal.run)]
        return (
            self.journal.same_job(run) and run != self.journal.run
            and not self.journal.knows_part(name)
        )  # fmt: skip

    def tasks(self, entries: Iterable[Any], *, mirror: bool) -> Iterator[Any]:
        """Yield what is to be done, its folder made and what the journal knows of it attached."""
        self.remove_stale()
        for entry in entries:
            try:
                if entry.kind == "folder":
                    if mirror:
                        self.make_folder(entry.relative)
                    continue
                if not in_shard(entry.relative, self._shard):
                    continue
                if mirror:  # a large file comes before its folder
                    self.make_folder(entry.relative.rpartition(b"/")[0])
            except (UnsafePathError, OSError) as error:
                yield Entry(entry.relative, "error", error=describe_failure(error))
                continue
            if self.journal.resumed:
                before = self.journal.before(entry.relative)
                yield entry if before is None else entry._replace(before=before)
            else:
                yield entry

    def finish(self, *, sync: bool, keep_journal: bool) -> None:
        """Give the folders that were made their modes and times, and end the journal."""
        for relative in reversed(self._made):
            target = os.path.join(self.out, relative)
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(self.source, relative))
                os.chmod(target, stat.S_IMODE(status.st_mode) & 0o777)
                os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
        if sync:
            sync_folders([self.out])
        if not keep_journal or self.journal.empty:
            self.journal.remove()


# ---- the work --------------------------------------------------------------


def run(
    survey: Listing,
    tasks: Iterator[Any],
    factory: Factory,
    arguments: tuple[Any, ...],
    jobs: int,
    *,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    start_method: str | None = None,
    answer: Answer | None = None,
    pool: MakePool | None = None,
) -> Iterator[Outcome]:
    """Do all tasks, in this process or in `jobs` others; yield outcomes as they are final.

    tasks: made from `survey`. checkpoints: where outputs in progress get their names. answer:
    answers what workers ask; their factory then gets a function that asks.
    pool: makes other workers than processes of this machine.
    Raises DiskFullError when no room is left, with everything done so far in its place, and
    WorkerLostError; after these and an interrupt the same job can be given again.
    """
    pace = _Pace(survey, checkpoints, watch)
    try:
        if pool is not None:
            with pool(factory, arguments, answer) as found:
                yield from _feed(found, survey, tasks, pace)
        elif jobs <= 1:
            worker = factory(*arguments, pace.tick, *(() if answer is None else (answer,)))
            while not pace.full and (chunk := next_chunk(tasks)):
                worker.begin(chunk)
                for task in chunk:
                    survey.step()
                    survey.current = task.relative
                    yield from pace.take([worker(task)])
                    if pace.full:
                        break
        else:
            with Pool(factory, arguments, jobs, start_method, answer) as found:
                yield from _feed(found, survey, tasks, pace)
        if checkpoints is not None:
            yield from checkpoints.finish()
    except DiskFullError as error:
        if checkpoints is not None:
            checkpoints.abandon()
        raise pace.full_error(str(error)) from None
    except BaseException:
        if checkpoints is not None:
            checkpoints.abandon()
        raise
    if pace.full:
        raise pace.full_error(f"{pace.full.path!r}: {pace.full.message}")


def _feed(pool: Pool, survey: Listing, tasks: Iterator[Any], pace: _Pace) -> Iterator[Outcome]:
    more = True
    while more or pool.busy:
        while more and pool.wants:
            chunk = next_chunk(tasks, pool.scale)
            more = bool(chunk) and not pace.full
            if more:
                pool.give(chunk)
        if not pool.busy:
            return
        found = list(pool.take(0 if not survey.finished else 1.0))
        if not found:
            survey.step()
            yield from pace.take([])
        survey.current = pool.current
        for worker, news in found:
            if isinstance(news, int):
                pace.tick(news, worker)
            else:
                yield from pace.take(news, worker)


class _Pace:
    """Counts what is done, tells who watches, and notices a full medium."""

    def __init__(self, survey: Listing, checkpoints: Checkpoints | None, watch: Watch | None):
        self._survey, self._checkpoints, self._watch = survey, checkpoints, watch
        self._done = 0
        self._told: dict[Any, int] = {}  # of each worker's unfinished files
        self.full: Outcome | None = None

    def tick(self, size: int, worker: Any = None) -> None:
        """So many more bytes of files that a worker has not finished."""
        self._told[worker] = self._told.get(worker, 0) + size
        self._show()

    def _show(self) -> None:
        if self._watch is not None:
            self._watch(self._survey, self._done + sum(self._told.values()))

    def take(self, outcomes: list[Outcome], worker: Any = None) -> Iterator[Outcome]:
        for outcome in outcomes:
            if outcome.details.get("errno") in FULL:
                self.full = self.full or outcome
                continue
            # Of what was left out or failed nothing is to be done any more.
            self._done += outcome.bytes_in or outcome.seen[0]
            if outcome.part is not None and self._checkpoints is not None:
                self._checkpoints.add(outcome)
            else:
                yield outcome
        if outcomes:
            self._survey.through += len(outcomes)
            self._told.pop(worker, None)
            self._show()
        if self._checkpoints is not None:
            yield from self._checkpoints.poll()

    def full_error(self, reason: str) -> DiskFullError:
        while not self._survey.finished:
            self._survey.step()
        done = self._done - (self._checkpoints.lost_bytes if self._checkpoints else 0)
        missing = max(self._survey.bytes - done, 0)
        shown = f"{missing / 1e9:.2f} GB" if missing >= 10_000_000 else f"{missing / 1e6:.2f} MB"
        return DiskFullError(
            f"{reason}; about {shown} are still to be written: make room, then give the same "
            "command again, which goes on from here"
        )
