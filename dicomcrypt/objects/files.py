"""Files in, files out: atomic output, file-system metadata, one object a file."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from ..container.header import BatchKeyCache
from ..container.index import Index, Meta
from ..container.layout import looks_like_object
from ..container.reader import Container, OpenContainer
from ..container.stanza import BATCH, Identity
from ..errors import (
    DicomcryptError,
    FrameError,
    OutputExistsError,
    SourceChangedError,
    UnsafePathError,
    UsageError,
)
from ..keys.batch import Envelope
from .buffers import FileSink, FileSource, open_regular
from .decoder import PARTS, FileOutput, NullOutput, decode
from .drivers import encode_memory, encode_stream
from .encoder import BAND, Encoder

SUFFIX = ".dcmx"
PART_PREFIX, PART_SUFFIX = ".dcmx-", ".part"
Progress = Callable[[int], None]

#: Files in progress, for `remove_unfinished`.
_unfinished: set[Path] = set()


def is_part(name: bytes) -> bool:
    """Whether a file's name is that of an output in progress, or left by a killed process."""
    middle = name[len(PART_PREFIX) : -len(PART_SUFFIX)]
    return (
        name.startswith(PART_PREFIX.encode())
        and name.endswith(PART_SUFFIX.encode())
        and len(middle) == 12
        and not middle.strip(b"0123456789abcdef")
    )


def remove_unfinished() -> None:
    """Remove this process's files in progress: an interrupt may come before their `with`."""
    for path in list(_unfinished):
        with contextlib.suppress(OSError):
            os.unlink(path)


class Buffers:
    """Buffers that a job reuses between objects; fresh large ones cost page faults."""

    def __init__(self) -> None:
        self.scratch = bytearray(BAND)
        self.window = bytearray(4 * BAND)
        self.sealed = bytearray(4 * BAND)


class AtomicFile:
    """A file that appears under its name when it is whole, or not at all.

    Written beside its final place with mode 0600. `with AtomicFile(path) as file: ...;
    file.commit()`. sync: it is on the medium before it has its name. Raises OutputExistsError
    if the name is taken and force is not set.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, force: bool = False, sync: bool = True
    ) -> None:
        self._sync = sync
        self.path = Path(os.fsdecode(path))
        self._force = force
        if not self.path.name:
            raise UsageError(f"{os.fsdecode(path)!r} is no name for a file")
        if not force and os.path.lexists(self.path):
            raise self._exists()
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise UsageError(
                f"{os.fspath(self.path)!r} is not a regular file: to write into a pipe or a "
                "device, give --output -"
            )
        # A short name of its own: the final one may be as long as the file system allows.
        self._temporary = self.path.with_name(PART_PREFIX + os.urandom(6).hex() + PART_SUFFIX)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._done = False
        _unfinished.add(self._temporary)
        try:
            self.descriptor = os.open(self._temporary, flags, 0o600)
            self.raw: BinaryIO = open(self.descriptor, "r+b", buffering=0)
        except BaseException:
            self._remove()
            raise

    def _exists(self) -> OutputExistsError:
        return OutputExistsError(f"{os.fspath(self.path)!r} exists: give --force to overwrite it")

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.raw.close()
        if not self._done:
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)
        _unfinished.discard(self._temporary)

    def commit(self, *, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """Give the file its name; mode and time are set before that."""
        if mode is not None:
            os.fchmod(self.descriptor, mode)
        if mtime_ns is not None:
            os.utime(self.descriptor, ns=(mtime_ns, mtime_ns))
        if self._sync:
            os.fsync(self.descriptor)
        self.raw.close()
        if self._force:
            os.replace(self._temporary, self.path)
        else:
            self._rename_new()
        self._done = True
        _unfinished.discard(self._temporary)

    def _rename_new(self) -> None:
        """Rename without replacing: a hard link fails if the name is taken."""
        try:
            os.link(self._temporary, self.path)
        except FileExistsError:
            raise self._exists() from None
        except OSError:  # a file system without hard links
            if os.path.lexists(self.path):
                raise self._exists() from None
            os.replace(self._temporary, self.path)
        else:
            os.unlink(self._temporary)


def default_mode() -> int:
    """The mode that a new file would get from the umask."""
    mask = os.umask(0o022)
    os.umask(mask)
    return 0o666 & ~mask


def file_meta(status: os.stat_result, name: bytes | None) -> Meta:
    return Meta(name=name, mode=stat.S_IMODE(status.st_mode), mtime_ns=status.st_mtime_ns)


def scope_check(envelope: Envelope, force: bool, name: str) -> Callable[[], None] | None:
    if not envelope.has_partial or force:
        return None

    def refuse() -> None:
        raise UsageError(
            f"{name}: not DICOM that can be followed, so it has no tags or pixels to give to "
            "--tags-to or --pixels-to alone; leave them out, or give --force-scopes"
        )

    return refuse


def encrypt_path(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    envelope: Envelope,
    method: int | None,
    *,
    name: bytes | None = None,
    force: bool = False,
    force_scopes: bool = False,
    follow_links: bool = True,
    sync: bool = True,
    buffers: Buffers | None = None,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Encrypt one file or symbolic link; return (bytes read, bytes written).

    name: stored in the object where the target's name does not tell it. Raises
    SourceChangedError if the file was written to meanwhile, UsageError if it is an
    object already, OSError as the file system does.
    """
    buffers = buffers or Buffers()
    shown = os.fsdecode(source)
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise UsageError(f"{shown!r} is input and output: originals are never overwritten")
    refuse = scope_check(envelope, force_scopes, repr(shown))
    if not follow_links and os.path.islink(source):
        meta = file_meta(os.lstat(source), name)
        meta.link = os.fsencode(os.readlink(source))
        with AtomicFile(target, force=force, sync=sync) as out:
            sink = FileSink(out.raw, buffers.sealed)
            size = encode_memory(Encoder(sink, envelope.new(), method, meta=meta), memoryview(b""))
            sink.flush()
            out.commit(mode=default_mode())
        return 0, size
    descriptor = open_regular(source)
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if looks_like_object(os.pread(descriptor, 8, 0)):
            raise UsageError(f"{shown!r} is a DCMX object already")
        with AtomicFile(target, force=force, sync=sync) as out:
            sink = FileSink(out.raw, buffers.sealed)
            encoder = Encoder(
                sink, envelope.new(), method, meta=file_meta(before, name),
                opaque_allowed=refuse, scratch=buffers.scratch,
            )  # fmt: skip
            # A file that grows for ever must not be read for ever.
            read_into = _limited(file.readinto, before.st_size + 1)
            read, size = encode_stream(encoder, read_into, buffers.window, progress)
            sink.flush()
            after = os.fstat(descriptor)
            if read != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
                raise SourceChangedError(f"{shown!r} changed while it was read: encrypt it again")
            out.commit(mode=stat.S_IMODE(before.st_mode) & 0o777)
    return read, size


def _limited(read_into: Callable, limit: int) -> Callable:
    left = limit

    def read(view: memoryview) -> int:
        nonlocal left
        got = read_into(view[:left]) if left else 0
        left -= got or 0
        return got

    return read


def open_path(
    path: str | os.PathLike[str], identities: Iterable[Identity], cache: BatchKeyCache | None = None
) -> tuple[OpenContainer, FileSource]:
    """Open an object in a file; the caller closes the source."""
    source = FileSource(path)
    try:
        return Container(source).unlock(identities, cache), source
    except BaseException:
        source.close()
        raise


def object_meta(opened: OpenContainer) -> tuple[Index | None, Meta]:
    """The closing index and the file's metadata, as far as the scope reaches."""
    if not opened.keys.opens(opened.closing_stream):
        return None, Meta()
    index = opened.closing_index()
    return index, index.meta


def decrypt_path(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    identities: Iterable[Identity],
    *,
    part: str = "all",
    force: bool = False,
    cache: BatchKeyCache | None = None,
    buffers: Buffers | None = None,
    progress: Progress | None = None,
) -> int:
    """Decrypt an object into a file and give it its mode and time; return its bytes.

    part: "all", "tags" or "pixels". A symbolic link is not made here (see `restore_link`):
    UnsafePathError. Raises NoIdentityError, DamagedError, OutputExistsError.
    """
    opened, file = open_path(source, identities, cache)
    try:
        return write_plain(opened, target, part=part, force=force, buffers=buffers,
                           progress=progress)
    finally:
        file.close()


def write_plain(
    opened: OpenContainer,
    target: str | os.PathLike[str],
    *,
    part: str = "all",
    force: bool = False,
    sync: bool = True,
    buffers: Buffers | None = None,
    progress: Progress | None = None,
) -> int:
    """As `decrypt_path`, for an object that is open already."""
    buffers = buffers or Buffers()
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}: use all, tags or pixels")
    streams = None if part == "all" else PARTS[part]
    if streams is None:
        opened.require(opened.streams, "the whole file")
    elif not set(streams) & set(opened.streams):
        raise FrameError(f"the object has no {part}: it holds a file that could not be followed")
    _, meta = object_meta(opened)
    if meta.link is not None:
        raise UnsafePathError("the object holds a symbolic link: decrypt it as part of its tree")
    with AtomicFile(target, force=force, sync=sync) as out:
        output = FileOutput(out.raw, buffers.scratch, progress)
        size = decode(opened, output, buffers.window, streams)
        mode = default_mode() if meta.mode is None else meta.mode & 0o777
        out.commit(mode=mode, mtime_ns=meta.mtime_ns)
    return size


def verify_path(
    path: str | os.PathLike[str],
    identities: Iterable[Identity],
    *,
    cache: BatchKeyCache | None = None,
    buffers: Buffers | None = None,
    progress: Progress | None = None,
) -> tuple[int, bool]:
    """Authenticate every byte of an object that the identities reach.

    Returns (payload bytes verified, whether that was all of the object).
    """
    buffers = buffers or Buffers()
    opened, file = open_path(path, identities, cache)
    try:
        reach = [sid for sid in opened.streams if opened.keys.opens(sid)]
        size = decode(opened, NullOutput(progress), buffers.window, reach)
        return size, len(reach) == len(opened.streams)
    finally:
        file.close()


def encrypted_before(source: str | bytes, target: str | bytes, envelope: Envelope) -> bool:
    """Whether `target` is there, a whole object of these recipients and newer than its source.

    Raises OutputExistsError if something else bears the name. No key is needed, so contents
    are not verified.
    """
    if not os.path.lexists(target):
        return False
    name = os.fsdecode(target)
    try:
        file = FileSource(target)
        try:
            stanzas = Container(file).slots[0].stanzas
        finally:
            file.close()
    except (DicomcryptError, OSError):
        raise OutputExistsError(f"{name!r} exists and is no whole object: give --force") from None
    if {(s.type, s.hint) for s in stanzas if s.type != BATCH} != envelope.recipients:
        raise OutputExistsError(f"{name!r} exists and is for other recipients: give --force")
    if os.lstat(source).st_mtime_ns > os.stat(target).st_mtime_ns:
        raise OutputExistsError(f"{name!r} exists and is older than its source: give --force")
    return True


def decrypted_before(target: str | bytes, index: Index | None) -> bool:
    """Whether `target` is there with the size and the time that the object tells.

    Raises OutputExistsError if something else bears the name."""
    if not os.path.lexists(target):
        return False
    status = os.lstat(target)
    if index is not None and index.meta.link is not None:
        return stat.S_ISLNK(status.st_mode)
    if index is None or status.st_size != index.size or (
        index.meta.mtime_ns is not None and status.st_mtime_ns != index.meta.mtime_ns
    ):
        raise OutputExistsError(f"{os.fsdecode(target)!r} exists and is another: give --force")
    return True


def describe_failure(error: BaseException) -> str:
    """Return an error as one line in the style of the messages, without its class."""
    if isinstance(error, DicomcryptError):
        return str(error)
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {error}"
