"""Opening files that a user or a configuration names, without ever waiting for a pipe."""

from __future__ import annotations

import os
import stat

from .errors import UsageError


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
