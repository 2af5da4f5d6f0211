"""Output that appears under its name when it is whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import BinaryIO

from ..errors import OutputExistsError, UsageError
from ..native import _system
from ..regular import cannot_write, check_not_kept

PART_PREFIX, PART_SUFFIX = ".dcmx-", ".part"

#: Files in progress, for `remove_unfinished`.
_unfinished: set[str] = set()


def new_part_name(run: str = "") -> str:
    """A short name for an output in progress: the final one may be as long as a name can be.

    run: hexadecimal digits by which a job knows its own again."""
    return PART_PREFIX + run + os.urandom(6).hex() + PART_SUFFIX


def is_part(name: bytes) -> bool:
    """Whether a file's name is that of an output in progress, or left by a killed process."""
    middle = name[len(PART_PREFIX) : -len(PART_SUFFIX)]
    return (
        name.startswith(PART_PREFIX.encode())
        and name.endswith(PART_SUFFIX.encode())
        and 12 <= len(middle) <= 32
        and not middle.strip(b"0123456789abcdef")
    )


def remove_unfinished() -> None:
    """Remove this process's files in progress: an interrupt may come before their `with`."""
    for path in list(_unfinished):
        with contextlib.suppress(OSError):
            os.unlink(path)


def taken_over(part: str) -> None:
    """A job has written down that it is the one to remove a part; until then an interrupt, which
    may come between any two steps, finds it here."""
    _unfinished.discard(part)


def exists_error(path: str) -> OutputExistsError:
    return OutputExistsError(f"{path!r} exists: give --force to overwrite it")


def rename_part(part: str, path: str, *, force: bool) -> None:
    """Give a whole output its name; OutputExistsError if that is taken and force is not set,
    UsageError if it is that of a file that is kept (`regular.keep`)."""
    if force:
        check_not_kept(path)
        os.replace(part, path)
        if os.path.lexists(part):  # two names of one file, of a link that was the last step
            os.unlink(part)
        return
    try:
        if os.name == "nt":
            os.rename(part, path)  # which replaces nothing there
            return
        if _system.rename_new(os.fsencode(part), os.fsencode(path)):
            return
        os.link(part, path)
    except FileExistsError:
        if not os.path.exists(path) or not os.path.samefile(part, path):
            raise exists_error(path) from None
        os.unlink(part)
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise exists_error(path) from None
        os.replace(part, path)
    else:
        os.unlink(part)


def sync_folders(folders: Iterable[str | bytes]) -> None:
    """Let everything written to the file systems of these folders reach the medium.

    Raises OSError, for errors of earlier writes too. On a system that syncs nothing but single
    files, see `sync_parts`."""
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
    done = set()
    for folder in folders:
        try:
            descriptor = os.open(folder, flags)
        except OSError:  # not a system on which a folder can be opened
            continue
        try:
            device = os.fstat(descriptor).st_dev
            if device not in done and not _system.sync_filesystem(descriptor):
                os.sync()
            done.add(device)
        finally:
            os.close(descriptor)


def sync_parts(parts: Iterable[str]) -> None:
    """Let outputs in progress reach the medium one by one, where the system has no call for many
    (`sync_folders`). Raises OSError."""
    if hasattr(os, "sync"):
        return
    for part in parts:
        descriptor = os.open(part, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class AtomicFile:
    """A file that appears under its name when it is whole, or not at all.

    Written beside its final place with mode 0600. `with AtomicFile(path) as file: ...;
    file.commit()`, or `file.keep()` for those who rename many at once. sync: it is on the
    medium before it has its name. run: of a job, which says with `taken_over` that it knows the
    part. Raises OutputExistsError if the name is taken and force is not set, UsageError if what
    is there is kept (`regular.keep`).
    """

    def __init__(
        self, path: str | bytes | os.PathLike[str], *, force: bool = False, sync: bool = True,
        run: str = "",
    ) -> None:
        self._sync, self._run = sync, run
        self.path = os.fsdecode(path)
        self._force = force
        folder, name = os.path.split(self.path)
        if name in ("", ".", ".."):
            raise UsageError(f"{self.path!r} is no name for a file")
        if os.path.lexists(self.path):
            if not force:
                raise exists_error(self.path)
            check_not_kept(self.path)
            if os.path.exists(self.path) and not os.path.isfile(self.path):
                raise UsageError(
                    f"{self.path!r} is not a regular file: to write into a pipe or a "
                    "device, give --output -"
                )
        #: Where it is written until it has its name.
        self.part = os.path.join(folder, new_part_name(run))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._done = False
        _unfinished.add(self.part)
        try:
            self.descriptor = os.open(self.part, flags, 0o600)
            self.raw: BinaryIO = open(self.descriptor, "r+b", buffering=0)
        except OSError as error:
            self._remove()
            raise cannot_write(self.path, error) from None
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.raw.close()
        if not self._done:
            self._remove()
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = self.path  # a full disk says nothing of what it is full for

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.part)
        _unfinished.discard(self.part)

    def keep(
        self, *, mode: int | None = None, mtime_ns: int | None = None, start_writing: bool = False
    ) -> None:
        """Leave the whole file under `part`, with its mode and time, for `rename_part`.

        start_writing: it begins its way to the medium, for whoever syncs many later."""
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(self.descriptor, mode)
        if mtime_ns is not None and os.utime in os.supports_fd:
            os.utime(self.descriptor, ns=(mtime_ns, mtime_ns))
        if self._sync:
            os.fsync(self.descriptor)
        elif start_writing:
            _system.start_writing(self.descriptor)
        self.raw.close()
        if mtime_ns is not None and os.utime not in os.supports_fd:
            os.utime(self.part, ns=(mtime_ns, mtime_ns))
        self._done = True
        if not self._run:
            _unfinished.discard(self.part)

    def commit(self, *, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """Give the file its name; mode and time are set before that."""
        self.keep(mode=mode, mtime_ns=mtime_ns)
        self._done = False
        _unfinished.add(self.part)
        rename_part(self.part, self.path, force=self._force)
        self._done = True
        _unfinished.discard(self.part)


def default_mode() -> int:
    """The mode that a new file would get from the umask."""
    mask = os.umask(0o022)
    os.umask(mask)
    return 0o666 & ~mask
