"""Opening files that a user or a configuration names, without ever waiting for a pipe; reading
them, on systems that lack calls of POSIX too; and keeping them while outputs are written."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator

from .errors import UsageError

_moving = threading.Lock()  # a descriptor's place, where it must be moved to read elsewhere

#: Files that the running command reads, by device and number, and what is said to whoever would
#: overwrite them; None where nobody keeps files. Workers that are forked have it too.
_kept: dict[tuple[int, int], str] | None = None


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Until it ends, no output takes the place of a file that `keep` was told of."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def keep(path: str | os.PathLike[str], said: str) -> None:
    """Have a file kept that is read, if somebody keeps files and it is there.

    said: of an output that is the same file, in the refusal."""
    if _kept is None:
        return
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            _kept.setdefault((status.st_dev, status.st_ino), said)


def check_not_kept(path: str | bytes | os.PathLike[str]) -> None:
    """Raise UsageError if a file that is kept would be overwritten, by this or another name."""
    if not _kept:
        return
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return
    said = _kept.get((status.st_dev, status.st_ino))
    if said is not None:
        raise UsageError(f"{os.fsdecode(path)!r} {said}")


def open_regular(path: str | bytes | os.PathLike[str]) -> int:
    """Open a regular file for reading; return its descriptor.

    Raises UsageError for a pipe, a device or a folder, OSError for what cannot be opened."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        name = os.fsdecode(path)
        hint = ": give - for standard input" if name.startswith("/dev/") else ""
        raise UsageError(f"{name!r} is not a regular file{hint}")
    return descriptor


def cannot_write(path: str | os.PathLike[str], error: OSError) -> OSError:
    """Return an error of opening a temporary file beside an output as one that names the output
    and its folder, and what to do where that is known; its class and number stay."""
    path = os.fspath(path)
    folder = os.path.dirname(path) or os.curdir
    if not os.path.lexists(folder):
        said = f"there is no folder {folder!r}: make it first"
    elif not os.path.isdir(folder):
        said = f"{folder!r} is no folder: nothing can be written into it"
    else:
        said = f"cannot write into folder {folder!r}: {reason(error)}"
    return OSError(error.errno, said, path)


def reason(error: OSError) -> str:
    """Return what the system says, in the style of the messages; file names in it stay."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Return up to `length` bytes from `offset` on, as `os.pread`; several threads may."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    with _moving:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, length)
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)


def read_into(descriptor: int, view: memoryview) -> int:
    """Read what comes next into a view of bytes, without a copy where the system can; return how
    many bytes those are, 0 at the end."""
    if hasattr(os, "readv"):
        return os.readv(descriptor, [view])
    data = os.read(descriptor, len(view))
    view[: len(data)] = data
    return len(data)


def read_bounded(path: str | os.PathLike[str], what: str, limit: int = 1 << 20) -> bytes:
    """Read a file that must be small; raises UsageError naming it. what: it is, for messages."""
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {what} {os.fspath(path)!r}: {(error.strerror or '').lower()}"
        ) from None
    if len(data) > limit:
        raise UsageError(f"{what} {os.fspath(path)!r} is too large")
    return data


def others_may(path: str | os.PathLike[str], bits: int) -> bool:
    """Whether others than its owner have some of these rights (0o022: to write) to a file or
    folder; False where the system has no such rights, and for what is not there."""
    if os.name != "posix":
        return False
    try:
        return bool(os.stat(path).st_mode & bits & 0o077)
    except OSError:
        return False
