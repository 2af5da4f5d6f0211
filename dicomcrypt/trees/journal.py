"""What a job has done, on the medium, so that a killed job goes on where its last checkpoint was.

An SQLite file without write-ahead log, which network folders can hold. It has no names and no
patient data: a path is a hash with a salt of the journal's own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from ..errors import DicomcryptError, DiskFullError, JobBusyError, UsageError
from ..objects.atomic import is_part

_TABLES = """
create table job(id blob not null, salt blob not null, run text not null);
create table done(path blob primary key, size integer not null, mtime integer not null,
                  part text not null, object blob, replaces integer not null,
                  gone integer not null) without rowid;
"""


class Before(NamedTuple):
    """What the journal knows of a file: its state when it was read, and what became of it.

    part: base name of the output in progress. object_id: of an object that bears its id for a
    name. replace: whether it takes the name of an earlier output of the job. gone: whether the
    file may have been removed since by the job, so that its object is the only copy."""

    size: int
    mtime_ns: int
    part: str
    object_id: bytes | None
    replace: bool = False
    gone: bool = False


class Journal:
    """The journal of one job, locked as long as it is open.

    job: says which job it is. Raises JobBusyError if another process has it open, UsageError
    if it is another job's.
    """

    def __init__(self, path: str, job: bytes) -> None:
        self.path = path
        self._lock = Lock()
        self._fresh = self._check_file()
        # Checkpoints are made by a thread of their own.
        self._database = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            self._open(job)
        except BaseException:
            self.close()
            raise

    def _check_file(self) -> bool:
        """Make the journal, or see that nobody else can have written it; whether it is empty.

        What it says is done as the job's own word: names of parts, what may be replaced."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UsageError(f"{self.path!r} is a symbolic link, and no journal") from None
            raise
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self.path!r} is no regular file, and no journal")
        if hasattr(os, "geteuid") and (
            status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022
        ):
            raise UsageError(
                f"the journal {self.path!r} belongs to somebody else, or others can write it: "
                "remove it, and give --resume to leave out what is done"
            )
        return status.st_size == 0

    def _open(self, job: bytes) -> None:
        run = self._database.execute
        try:
            run("pragma locking_mode = exclusive")
            run("pragma journal_mode = delete")
            # An empty journal need not survive.
            run(f"pragma synchronous = {'off' if self._fresh else 'full'}")
            run("begin exclusive")
            known = run("select 1 from sqlite_master").fetchone()
            if known is None:
                for table in _TABLES.split(";"):
                    run(table)
                row = (job, os.urandom(16), "")
                run("insert into job values(?, ?, ?)", row)
            row = run("select * from job").fetchone()
            if row is None or len(row) != 3:
                raise self._unusable()
            found, self._salt, self.previous_run = row
            if found != job:
                raise UsageError(
                    f"{self.path!r} is the journal of another job, with other inputs, recipients "
                    "or options: give that command again to finish it, or remove the journal"
                )
            #: By which outputs in progress are known as this run's; all but its end is the job's.
            self.run = (self.previous_run[:6] or os.urandom(3).hex()) + self._next_run()
            run("update job set run = ?", (self.run,))
            run("commit")
            run("pragma synchronous = full")
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise JobBusyError(
                    f"another job has the journal {self.path!r}: wait until it ends"
                ) from None
            if code == sqlite3.SQLITE_FULL:
                raise DiskFullError(
                    f"the journal {self.path!r} cannot be written ({error}): make room, then give "
                    "the same command again"
                ) from None
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise DicomcryptError(
                    f"the journal {self.path!r} cannot be written ({error}): give the same "
                    "command again when it can be"
                ) from None
            raise self._unusable() from None

    def _unusable(self) -> UsageError:
        return UsageError(
            f"{self.path!r} is damaged or no journal: remove it, and give --resume to leave out "
            "what is done"
        )

    @property
    def resumed(self) -> bool:
        """Whether an earlier run of the job was broken off."""
        return bool(self.previous_run)

    def _next_run(self) -> str:
        return f"{int(self.previous_run[6:] or '0', 16) + 1 & 0xFF:02x}"

    def same_job(self, run: str) -> bool:
        """Whether a run is one of this job's."""
        return run[:6] == self.run[:6]

    def _key(self, relative: bytes) -> bytes:
        return hashlib.blake2b(relative, digest_size=16, key=self._salt).digest()

    def before(self, relative: bytes) -> Before | None:
        """What an earlier run did with a path."""
        with self._lock:
            row = self._database.execute(
                "select size, mtime, part, object, replaces, gone from done where path = ?",
                (self._key(relative),),
            ).fetchone()
        if row is None:
            return None
        before = Before(*row)
        if not is_part(before.part.encode()) or len(before.object_id or bytes(16)) != 16:
            raise self._unusable()
        return before

    def knows_part(self, name: str) -> bool:
        """Whether an output in progress is one that only lacks its name."""
        with self._lock:
            found = self._database.execute("select 1 from done where part = ?", (name,))
            return found.fetchone() is not None

    def add(self, rows: Iterable[tuple[bytes, Before]]) -> None:
        """Write down what is done; it is on the medium when this returns."""
        entries = [(self._key(relative), *before) for relative, before in rows]
        with self._lock:
            run = self._database.execute
            run("begin")
            try:
                self._database.executemany(
                    "insert or replace into done values(?, ?, ?, ?, ?, ?, ?)", entries
                )
                run("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    run("rollback")
                raise

    @property
    def empty(self) -> bool:
        """Whether nothing is written down."""
        with self._lock:
            return self._database.execute("select 1 from done limit 1").fetchone() is None

    def forget(self, relative: bytes) -> None:
        """Take back what was written down of a path."""
        with self._lock:
            self._database.execute("delete from done where path = ?", (self._key(relative),))

    def remove(self) -> None:
        """The job is done."""
        # While it is locked: whoever waits for it finds that it is gone. SQLite's own journal,
        # which holds nothing after a commit, goes first, or it stays if the job is killed here.
        for path in (f"{self.path}-journal", self.path):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.close()

    def close(self) -> None:
        self._database.close()


def place(out: str, shard: tuple[int, int] | None, given: str | None) -> str:
    """Return where the journal of a job lies: beside its output, or in it where that cannot be."""
    if given is not None:
        return given
    suffix = "-journal" if shard is None else f"-journal-{shard[0]}-of-{shard[1]}"
    inside = os.path.join(out, ".dcmx" + suffix)
    beside = os.path.realpath(out) + ".dcmx" + suffix
    folder = os.path.dirname(beside)
    if os.path.exists(inside) or os.path.ismount(out) or not os.access(folder, os.W_OK):
        return inside
    return beside

