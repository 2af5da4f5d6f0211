"""Files in, files out: atomic output, file-system metadata, one object a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..container.header import BatchKeyCache
from ..container.index import Index, Meta
from ..container.layout import looks_like_object
from ..container.reader import Container, OpenContainer
from ..container.stanza import BATCH, Identity
from ..errors import (
    AlreadyEncryptedError,
    DicomcryptError,
    FrameError,
    OutputExistsError,
    SourceChangedError,
    UnsafePathError,
    UsageError,
)
from ..keys.batch import Envelope, Material
from ..regular import open_regular, read_at, read_into, reason
from .atomic import AtomicFile, default_mode
from .buffers import FLUSH, FileSink, FileSource, patiently
from .decoder import PARTS, FileOutput, NullOutput, decode
from .drivers import READ, encode_memory, encode_stream
from .encoder import BAND, Encoder
from .signing import NO_DEMANDS, SignaturePolicy, unlock

if TYPE_CHECKING:
    from ..keys.signing import Signer

SUFFIX = ".dcmx"
Progress = Callable[[int], None]


class Buffers:
    """Buffers that a job reuses between objects; fresh large ones cost page faults."""

    def __init__(self) -> None:
        self.scratch = bytearray(BAND)
        self.window = bytearray(READ + BAND)
        self.sealed = bytearray(FLUSH)


def scope_check(envelope: Envelope, force: bool, name: str) -> Callable[[], None] | None:
    if not envelope.has_partial or force:
        return None

    def refuse() -> None:
        raise UsageError(
            f"{name}: not DICOM that can be followed, so it has no tags or pixels to give to "
            "--tags-to or --pixels-to alone; leave them out, or give --force-scopes"
        )

    return refuse


class SourceFile:
    """A file, or a symbolic link itself, that is about to be encrypted; a context manager.

    Opened once, never written to, and watched for changes. Raises UsageError for what is an
    object already, OSError as the file system does."""

    def __init__(self, path: str | bytes | os.PathLike[str], *, link: bool = False) -> None:
        self.shown = os.fsdecode(path)
        self.descriptor = -1
        self.link: bytes | None = None
        #: Is shown every piece that `reader` reads.
        self.tee: Callable[[memoryview], object] | None = None
        if link:
            self.status = os.lstat(path)
            self.link = os.readlink(os.fsencode(path))
            return
        self.descriptor = open_regular(path)
        try:
            self.status = os.fstat(self.descriptor)
            if looks_like_object(patiently(lambda: read_at(self.descriptor, 8, 0))):
                raise AlreadyEncryptedError(f"{self.shown!r} is a DCMX object already")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def meta(self, name: bytes | None) -> Meta:
        """What the object keeps of the file system."""
        status = self.status
        return Meta(name, stat.S_IMODE(status.st_mode), status.st_mtime_ns, self.link)

    @property
    def mode(self) -> int:
        """The mode of the object's file."""
        if self.link is not None:
            return default_mode()
        return stat.S_IMODE(self.status.st_mode) & 0o777

    def identity(self) -> tuple[int, ...]:
        """By which an unchanged file is known again."""
        return file_identity(self.status)

    def reader(self) -> Callable[[memoryview], int]:
        """Return `readinto` from the file's start: patient with media that fail now and then, and
        with an end, since a file that grows for ever must not be read for ever."""
        # One byte more of what says that it is empty: such files of the system are not.
        left, descriptor, tee = self.status.st_size or 1, self.descriptor, self.tee

        def read(view: memoryview) -> int:
            nonlocal left
            got = patiently(lambda: read_into(descriptor, view[:left])) if left else 0
            left -= got
            if tee is not None:
                tee(view[:got])
            return got

        return read

    def check_unchanged(self, read: int) -> None:
        """Raise SourceChangedError if the file was written to while it was read."""
        if self.link is None:
            after = os.fstat(self.descriptor)
            if read != self.status.st_size or after.st_mtime_ns != self.status.st_mtime_ns:
                raise SourceChangedError(
                    f"{self.shown!r} changed while it was read: encrypt it again"
                )


def file_identity(status: os.stat_result) -> tuple[int, ...]:
    """By which an unchanged file is known again."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns,
            status.st_ctime_ns)


def seal_file(
    source: SourceFile,
    out: AtomicFile,
    material: Material,
    method: int | None,
    *,
    name: bytes | None = None,
    opaque_allowed: Callable[[], None] | None = None,
    buffers: Buffers,
    progress: Progress | None = None,
    signer: Signer | None = None,
) -> tuple[int, int]:
    """Encrypt an open file into an open output; return (bytes read, bytes written)."""
    sink = FileSink(out.raw, buffers.sealed)
    encoder = Encoder(
        sink, material, method, meta=source.meta(name), opaque_allowed=opaque_allowed,
        scratch=buffers.scratch, sign=None if signer is None else signer.sign,
    )  # fmt: skip
    if source.link is not None:
        read, size = 0, encode_memory(encoder, memoryview(b""))
    else:
        read, size = encode_stream(encoder, source.reader(), buffers.window, progress)
    sink.flush()
    source.check_unchanged(read)
    return read, size


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
    verify: bool = False,
    buffers: Buffers | None = None,
    progress: Progress | None = None,
    signer: Signer | None = None,
) -> tuple[int, int, str | None]:
    """Encrypt one file or symbolic link; return (bytes read, bytes written, where it was read
    back from).

    name: stored in the object where the target's name does not tell it. verify: the object is
    read back and compared with the file before it has its name; "medium" or "cache". Raises
    SourceChangedError if the file was written to meanwhile, UsageError if it is an
    object already, OSError as the file system does.
    """
    shown = os.fsdecode(source)
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise UsageError(f"{shown!r} is input and output: originals are never overwritten")
    refuse = scope_check(envelope, force_scopes, repr(shown))
    link = not follow_links and os.path.islink(source)
    buffers, material = buffers or Buffers(), envelope.material()
    verified = None
    with SourceFile(source, link=link) as file, AtomicFile(target, force=force) as out:
        read, size = seal_file(file, out, material, method, name=name, opaque_allowed=refuse,
                               buffers=buffers, progress=progress, signer=signer)
        if verify:
            from .readback import read_back  # which needs this module

            os.fsync(out.descriptor)
            verified = read_back(out.part, file, material, buffers)
        out.commit(mode=file.mode)
    return read, size, verified


def open_path(
    path: str | os.PathLike[str], identities: Iterable[Identity],
    cache: BatchKeyCache | None = None, policy: SignaturePolicy = NO_DEMANDS,
) -> tuple[OpenContainer, FileSource]:
    """Open an object in a file; the caller closes the source."""
    source = FileSource(path, whole=True)
    try:
        return unlock(Container(source), identities, cache, policy), source
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
    policy: SignaturePolicy = NO_DEMANDS,
) -> int:
    """Decrypt an object into a file and give it its mode and time; return its bytes.

    part: "all", "tags" or "pixels". A symbolic link is not made here (see `trees.tree.links_last`):
    UnsafePathError. Raises NoIdentityError, DamagedError, OutputExistsError.
    """
    opened, file = open_path(source, identities, cache, policy)
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
    buffers: Buffers | None = None,
    progress: Progress | None = None,
) -> int:
    """As `decrypt_path`, for an object that is open already."""
    streams, meta = plain_streams(opened, part)
    with AtomicFile(target, force=force) as out:
        size = open_into(opened, out, streams, buffers or Buffers(), progress)
        out.commit(mode=plain_mode(meta), mtime_ns=meta.mtime_ns)
    return size


def plain_streams(opened: OpenContainer, part: str) -> tuple[tuple[int, ...] | None, Meta]:
    """Return the streams of a part, None for all, and the file's metadata.

    Raises NoIdentityError, FrameError, UsageError, and UnsafePathError for a symbolic link."""
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
    return streams, meta


def plain_mode(meta: Meta) -> int:
    """The mode of a decrypted file: without set-user-id and its kin."""
    return default_mode() if meta.mode is None else meta.mode & 0o777


def open_into(
    opened: OpenContainer, out: AtomicFile, streams: Iterable[int] | None, buffers: Buffers,
    progress: Progress | None = None,
) -> int:
    """Decrypt an open object into an open output; return its bytes."""
    return decode(opened, FileOutput(out.raw, buffers.scratch, progress), buffers.window, streams)


def verify_path(
    path: str | os.PathLike[str],
    identities: Iterable[Identity],
    *,
    cache: BatchKeyCache | None = None,
    buffers: Buffers | None = None,
    progress: Progress | None = None,
    policy: SignaturePolicy = NO_DEMANDS,
) -> tuple[int, bool, dict[str, Any] | None]:
    """Authenticate every byte of an object that the identities reach.

    Returns (payload bytes verified, whether that was all of the object, who signed it).
    """
    opened, file = open_path(path, identities, cache, policy)
    try:
        size, whole = verify_opened(opened, buffers or Buffers(), progress)
        return size, whole, policy.facts(opened)
    finally:
        file.close()


def verify_opened(
    opened: OpenContainer, buffers: Buffers, progress: Progress | None = None
) -> tuple[int, bool]:
    """As `verify_path`, for an object that is open already."""
    reach = [sid for sid in opened.streams if opened.keys.opens(sid)]
    size = decode(opened, NullOutput(progress), buffers.window, reach)
    return size, len(reach) == len(opened.streams)


def encrypted_before(
    source: str | bytes, target: str | bytes, envelope: Envelope, *, signed: bool = False
) -> bool:
    """Whether `target` is there, a whole object of these recipients and newer than its source;
    signed: one with a signature.

    Raises OutputExistsError if something else bears the name. No key is needed, so contents
    are not verified.
    """
    if not os.path.lexists(target):
        return False
    name = os.fsdecode(target)
    try:
        file = FileSource(target)
        try:
            container = Container(file)
        finally:
            file.close()
    except (DicomcryptError, OSError):
        raise OutputExistsError(f"{name!r} exists and is no whole object: give --force") from None
    stanzas = container.slots[0].stanzas
    if {(s.type, s.hint) for s in stanzas if s.type != BATCH} != envelope.recipients:
        raise OutputExistsError(f"{name!r} exists and is for other recipients: give --force")
    if signed and container.signatures is None:
        raise OutputExistsError(f"{name!r} exists and is not signed: give --force")
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
        return reason(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {error}"
