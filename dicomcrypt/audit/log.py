"""Writing a log: several processes may append to one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import DamagedError, DiskFullError, UsageError
from ..regular import open_regular, others_may
from .reading import MAX_TORN, part_files, part_name
from .records import MAX_LINE, ORIGIN, Signer, chained, head, line_of, parse
from .vocabulary import check_event

EVERY = 256
LIMIT = 64 << 20
_FLAGS = (getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
          | getattr(os, "O_NONBLOCK", 0))  # a pipe is refused, and not waited for


class _End(NamedTuple):
    """Where a log ends: the last record's number and sum, its log and part, the file's size."""

    n: int
    sum: str
    log: str
    part: int
    file: tuple[int, int] | None  # inode and size, by which a change is seen


_UNKNOWN = _End(-1, ORIGIN, "", -1, None)


class AuditLog:
    """An append-only log. `with AuditLog.open(path, signer) as log: log.record(...)`.

    signer: signs heads, every so many records and when the log is closed. heads: a second
    place, to which each head is appended. limit: bytes after which a file is put aside as
    PATH.000001 and so on. sync: a record is on the medium when `record` returns.

    Raises DamagedError where the last record of the log is not what was written: keep it, and
    name another file. A last line that was cut off by a failure is marked, and the log goes on.
    """

    def __init__(
        self, path: str | os.PathLike[str], signer: Signer | None = None, *,
        heads: str | os.PathLike[str] | None = None, every: int = EVERY, limit: int = LIMIT,
        sync: bool = True,
    ) -> None:
        if every < 1 or limit < 4 * MAX_LINE:
            raise UsageError("the audit log's settings are out of range")
        self.path = os.fspath(path)
        self._signer, self._heads, self._sync = signer, heads, sync
        self._every, self._limit = every, limit
        self._mutex = threading.Lock()
        self._end = _UNKNOWN
        self._since_head = 0
        for name, what in ((self.path, "audit log"), (heads, "heads of the audit log")):
            if name is not None and others_may(name, 0o022):
                raise UsageError(f"{what} {os.fspath(name)!r} may be written by others: take that "
                                 "right away with chmod 600")
        with self._locked():
            self._catch_up()
            if heads is not None:
                _append_to(heads, b"", False, "heads of the audit log")

    @classmethod
    def open(cls, path: str | os.PathLike[str], signer: Signer | None = None,
             **options: Any) -> AuditLog:
        """Open a log, or begin one; the same as `AuditLog(...)`."""
        return cls(path, signer, **options)

    def __repr__(self) -> str:
        return f"AuditLog({self.path!r})"

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def record(
        self, action: str, *, actor: str, outcome: str, objects: Iterable[bytes | str] = (),
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Append an event; return its number.

        All words are of `vocabulary`: UsageError for any other. Raises OSError and DiskFullError
        if it cannot be written; then nothing of it is."""
        fields = check_event(action, actor, objects, outcome, details or {})
        with self._locked():
            self._catch_up()
            number = self._append("event", fields)
            self._since_head += 1
            if self._since_head >= self._every:
                self._append_head()
            return number

    def head(self) -> dict[str, Any]:
        """Append a head, here and in the second place; return it."""
        with self._locked():
            self._catch_up()
            return self._append_head()

    def close(self) -> None:
        """Append a head if this process has recorded anything since the last one."""
        if self._since_head and (self._signer or self._heads):
            self.head()

    # ---- with the lock held --------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex:
            descriptor = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            try:
                if sys.platform == "win32":
                    import msvcrt

                    msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                else:
                    import fcntl

                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _catch_up(self) -> None:
        """Learn where the log ends, if others have written since; begin or mend it."""
        if self._end.file is not None and self._end.file == _mark(self.path):
            return
        files = part_files(self.path)
        if not files:
            self._begin_anew()
            return
        last, piece = _last_record(files[-1])
        if last is None and files[-1] == self.path:
            # Power failed as the file was begun: there is no record in it yet.
            if piece.strip(b"\0") and not piece.startswith(b'{"at":"'):
                raise DamagedError(f"{self.path!r} is no audit log: name another file")
            os.truncate(self.path, 0)
            files.pop()
            if not files:
                self._begin_anew()
                return
            last, piece = _last_record(files[-1])
        if last is None or (piece and files[-1] != self.path):
            raise DamagedError(f"audit log {files[-1]!r} does not end as one: keep it, and name "
                               "another file")
        log, part = _log_and_part(files)
        self._end = _End(last["n"], last["sum"], log, part, _mark(self.path))
        if files[-1] != self.path:
            self._begin()  # it was put aside, and the next one not begun
        elif piece:
            self._mend(piece)

    def _begin_anew(self) -> None:
        self._end = _UNKNOWN._replace(log=os.urandom(16).hex())
        self._begin()

    def _begin(self) -> None:
        part = self._end.part + 1
        self._end = self._end._replace(part=part)
        self._append("begin", {"log": self._end.log, "part": part})

    def _mend(self, piece: bytes) -> None:
        with contextlib.suppress(ValueError):
            record = parse(piece)
            if (record["n"], record["prev"]) == (self._end.n + 1, self._end.sum):
                self._write(b"\n")  # only its end was missing
                self._end = self._end._replace(n=record["n"], sum=record["sum"],
                                               file=_mark(self.path))
                return
        self._write(b"\n")
        self._append("torn", {"bytes": len(piece), "digest": hashlib.sha256(piece).hexdigest()})

    def _append(self, kind: str, fields: Mapping[str, Any]) -> int:
        self._put(chained(kind, self._end.n + 1, self._end.sum, fields))
        return self._end.n

    def _append_head(self) -> dict[str, Any]:
        record = head(self._end.n + 1, self._end.sum, self._end.log, self._signer)
        self._put(record)
        self._since_head = 0
        if self._heads is not None:
            cut = b"\n" if _ends_within_a_line(self._heads) else b""
            _append_to(self._heads, cut + line_of(record), self._sync, "heads of the audit log")
        return record

    def _put(self, record: dict[str, Any]) -> None:
        line = line_of(record)
        if record["kind"] == "event" and self._end.file and \
                self._end.file[1] + len(line) > self._limit:
            self._put_aside()
            record = chained("event", self._end.n + 1, self._end.sum,
                             {k: record[k] for k in ("action", "actor", "objects", "outcome",
                                                     "details")})
            line = line_of(record)
        self._write(line)
        self._end = self._end._replace(n=record["n"], sum=record["sum"], file=_mark(self.path))

    def _put_aside(self) -> None:
        if self._signer or self._heads:
            self._append_head()
        target = part_name(self.path, self._end.part + 1)
        if os.path.lexists(target):
            raise DamagedError(f"audit log {target!r} is there already: keep both, and name "
                               "another file")
        os.rename(self.path, target)
        self._begin()

    def _write(self, data: bytes) -> None:
        _append_to(self.path, data, self._sync)


def _mark(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size


def _ends_within_a_line(path: str | os.PathLike[str]) -> bool:
    try:
        with open(open_regular(path), "rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def _append_to(
    path: str | os.PathLike[str], data: bytes, sync: bool, what: str = "audit log"
) -> None:
    """Append all of data or nothing. what: it is, for messages."""
    import errno

    name = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _FLAGS, 0o600)
    except OSError as error:
        why = "no regular file" if error.errno == errno.ENXIO else (error.strerror or "").lower()
        raise type(error)(error.errno, f"cannot write the {what}: {why}", name) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(f"{what} {name!r} is not a regular file")
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, "the record was written in part")
            if sync:
                os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(f"no room for the {what} {name!r}: make room there") from None
            raise
    finally:
        os.close(descriptor)


def _last_record(path: str) -> tuple[dict[str, Any] | None, bytes]:
    """Return a file's last record, and what of a line stands behind it.

    Raises DamagedError if its last whole line is no record."""
    with open(open_regular(path), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        for back in (4 * MAX_LINE, MAX_TORN + 2 * MAX_LINE):
            file.seek(max(0, size - back))
            data = file.read(back)
            end = data.rfind(b"\n")
            start = data.rfind(b"\n", 0, max(end, 0))
            if start >= 0 or size <= back:
                break
        else:
            raise DamagedError(f"audit log {path!r} does not end as one: keep it, and name another "
                               "file")
    if end < 0:
        return None, data
    try:
        return parse(data[start + 1 : end]), data[end + 1 :]
    except ValueError as error:
        raise DamagedError(f"the last record of audit log {path!r} is damaged or forged ({error}): "
                           "keep it, and name another file") from None


def _log_and_part(files: list[str]) -> tuple[str, int]:
    """Return a log's id and the number of its last part, from that part's first record."""
    for name in reversed(files):
        with open(open_regular(name), "rb") as file:
            line = file.readline(MAX_LINE)
        with contextlib.suppress(ValueError):
            record = parse(line[:-1])
            if record["kind"] == "begin":
                return record["log"], record["part"]
    raise DamagedError(f"audit log {files[-1]!r} does not begin as one: keep it, and name another "
                       "file")
