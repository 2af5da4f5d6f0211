"""The public functions: one object at a time, in memory or in files.

Exported by `dicomcrypt`; the trees of whole archives are in `dicomcrypt.trees`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from .ciphers.transform import method_number
from .container.header import BatchKeyCache
from .container.reader import Container, OpenContainer
from .container.stanza import Identity, Recipient
from .container.streams import Sink, Source
from .errors import UsageError
from .keys.batch import Envelope, scoped_recipients
from .native._block import overlaps
from .objects.buffers import (
    FileSink,
    FileSource,
    GrowingSink,
    MemorySink,
    MemorySource,
    StreamSource,
    byte_view,
)
from .objects.decoder import PARTS, MemoryOutput, decode
from .objects.drivers import PushDriver, encode_memory
from .objects.encoder import BAND, Encoder
from .objects.files import SUFFIX, Buffers, decrypt_path, encrypt_path
from .objects.signing import signature_policy, unlock

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypedDict, Unpack

    from typing_extensions import Buffer, TypeIs

    from .keys.signing import Signer
    from .objects.buffers import Writable
    from .objects.opened import OpenedObject
    from .objects.signing import SignerKey

    class BatchOptions(TypedDict, total=False):
        """What `Batch` takes besides recipients."""

        tags_to: Sequence[Recipient]
        pixels_to: Sequence[Recipient]
        method: str
        allow_classical: bool
        allow_mixed: bool
        force_scopes: bool
        sign_with: Signer | None


PathLike = str | os.PathLike[str]


def _stored_name(source: PathLike, target: PathLike) -> bytes | None:
    """The base name to keep in the object, unless the target's name tells it."""
    base = os.path.basename(os.fspath(source))
    return None if os.path.basename(os.fspath(target)) == base + SUFFIX else os.fsencode(base)


class Batch:
    """Encrypts many objects to the same recipients: one public-key operation a recipient
    for all of them, buffers reused.

    recipients: may read everything; tags_to: the tags only; pixels_to: the pixel data only.
    method: "randomized", "aes-transposition", "vigenere", "multilevel" or "none".
    allow_classical: see docs/threat-model.md; allow_mixed: a passphrase beside others.
    sign_with: who signs the objects; every reader verifies that then.
    Whoever holds an identity of a batch can open all of its objects. Not for several threads at
    once: make one Batch a thread.

    Raises UsageError for recipients that may not stand together.
    """

    def __init__(
        self,
        recipients: Sequence[Recipient] = (),
        *,
        tags_to: Sequence[Recipient] = (),
        pixels_to: Sequence[Recipient] = (),
        method: str = "randomized",
        allow_classical: bool = False,
        allow_mixed: bool = False,
        force_scopes: bool = False,
        batch: bool = True,
        sign_with: Signer | None = None,
    ) -> None:
        self._signer = sign_with
        self._method = method_number(method)
        self._envelope = Envelope(
            scoped_recipients(recipients, tags_to, pixels_to),
            batch=batch,
            allow_classical=allow_classical,
            allow_mixed=allow_mixed,
        )
        self._force_scopes = force_scopes
        partial = self._envelope.has_partial and not force_scopes
        self._opaque_allowed = _refuse_opaque if partial else None
        self._buffers = Buffers()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to close: every object is complete when its call returns."""

    def _encoder(self, sink: Sink, scratch: bytearray | None = None) -> Encoder:
        return Encoder(
            sink, self._envelope.material(), self._method, opaque_allowed=self._opaque_allowed,
            scratch=scratch or self._buffers.scratch,
            sign=None if self._signer is None else self._signer.sign,
        )  # fmt: skip

    def encrypt_into(self, data: Buffer, out: Buffer) -> int:
        """Encrypt a file's bytes into a buffer; return the object's size in bytes.

        data, out: contiguous buffers that do not overlap; `encrypted_size(len(data))` bytes are
        enough for out, except for files of very many tiny fragments. On failure `out` is wiped.
        Raises UsageError if out is too small.
        """
        source, sink = byte_view(data), MemorySink(out)
        _refuse_overlap(source, byte_view(out))
        try:
            return encode_memory(self._encoder(sink), source)
        except BaseException:
            sink.wipe()
            raise

    def encrypt(self, data: Buffer) -> bytes:
        """Encrypt a file's bytes; return the object."""
        source = byte_view(data)
        sink = GrowingSink(encrypted_size(len(source)))
        encode_memory(self._encoder(sink), source)
        return sink.value()

    def encrypt_file(self, src: PathLike, dst: PathLike, *, force: bool = False) -> int:
        """Encrypt a file; return the object's size in bytes. See `encrypt_file`."""
        return encrypt_path(
            src, dst, self._envelope, self._method, name=_stored_name(src, dst), force=force,
            force_scopes=self._force_scopes, buffers=self._buffers, signer=self._signer,
        )[1]  # fmt: skip

    def encrypted_size(self, size: int) -> int:
        """Bytes that are enough for the object of a file of `size` bytes."""
        signatures = 0 if self._signer is None else 3 * self._signer.size
        return encrypted_size(size) + len(self._envelope.material().header) + signatures


def _refuse_overlap(source: memoryview, target: memoryview) -> None:
    if overlaps(source, target):
        raise UsageError("input and output share memory: the output would overwrite the input")


def _refuse_opaque() -> None:
    raise UsageError(
        "not DICOM that can be followed, so it has no tags or pixels to give to some recipients "
        "alone; leave tags_to and pixels_to out, or set force_scopes"
    )


def encrypted_size(size: int) -> int:
    """Bytes that are enough for an object of a file of `size` bytes with a dozen recipients.

    Of objects that are signed, ask `Batch.encrypted_size`."""
    return size + size // 512 + 96 * 1024


def encrypt(
    data: Buffer, recipients: Sequence[Recipient] = (), **options: Unpack[BatchOptions]
) -> bytes:
    """Encrypt a file's bytes, any contiguous buffer; return the object.

    Options as for `Batch`. The bytes need not be DICOM; whatever they are,
    `decrypt` gives them back. Raises UsageError.
    """
    return Batch(recipients, batch=False, **options).encrypt(data)


def encrypt_into(
    data: Buffer, out: Buffer, recipients: Sequence[Recipient] = (),
    **options: Unpack[BatchOptions],
) -> int:  # fmt: skip
    """Encrypt a file's bytes into a buffer; return the object's size. See `Batch.encrypt_into`."""
    return Batch(recipients, batch=False, **options).encrypt_into(data, out)


def encrypt_file(
    src: PathLike,
    dst: PathLike,
    recipients: Sequence[Recipient] = (),
    *,
    force: bool = False,
    **options: Unpack[BatchOptions],
) -> int:
    """Encrypt a file into an object; return the object's size in bytes.

    dst appears when it is complete; an existing one is kept (OutputExistsError) unless
    force is set. Mode and time are kept inside, the name where dst does not tell it.
    Options as for `Batch`. Memory is bounded whatever the file's size.
    """
    return Batch(recipients, batch=False, **options).encrypt_file(src, dst, force=force)


def decrypt(
    blob: Buffer, identities: Sequence[Identity], *, part: str = "all",
    cache: BatchKeyCache | None = None, require_signature: bool = False,
    signers: Sequence[SignerKey] = (),
) -> bytes:  # fmt: skip
    """Decrypt an object in memory; return the file's bytes.

    part: "tags" or "pixels" for identities of these scopes. cache: a BatchKeyCache shared by
    calls, so that a batch costs one private-key operation. A signature is verified if there is
    one; require_signature: an object without one is refused; signers: certificates or public keys
    (`load_signer_keys`), one of which must have signed. Raises NoIdentityError, DamagedError,
    UnsignedError, PolicyError; nothing unverified is returned.
    """
    policy = signature_policy(require_signature, signers)
    opened = unlock(Container(MemorySource(blob)), identities, cache, policy)
    result = bytearray(_payload_size(opened, part))
    _decrypt_memory(opened, memoryview(result), part, cache)
    return bytes(result)


def decrypt_into(
    blob: Buffer, out: Buffer, identities: Sequence[Identity], *,
    cache: BatchKeyCache | None = None, require_signature: bool = False,
    signers: Sequence[SignerKey] = (),
) -> int:  # fmt: skip
    """Decrypt an object into a buffer of at least the file's size; return that size.

    cache, require_signature, signers: as for `decrypt`. On failure everything that was written is
    wiped. blob and out must not overlap.
    """
    source, target = byte_view(blob), byte_view(out)
    if target.readonly:
        raise UsageError("the output buffer is read-only")
    _refuse_overlap(source, target)
    policy = signature_policy(require_signature, signers)
    opened = unlock(Container(MemorySource(source)), identities, cache, policy)
    size = _payload_size(opened, "all")
    if len(target) < size:
        raise UsageError(f"the output buffer is too small: the file has {size} bytes")
    _decrypt_memory(opened, target[:size], "all", cache)
    return size


def _payload_size(opened: OpenContainer, part: str) -> int:
    """Bytes of a part. Raises NoIdentityError if it is outside the identity's scope."""
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}: use all, tags or pixels")
    if part == "all":
        opened.require(opened.streams, "the whole file")
    known: dict[int, int] = {}
    if opened.keys.opens(opened.closing_stream):
        known = opened.closing_index().lengths
    return sum(
        known[sid] if sid in known else opened.payload_size(sid)
        for sid in opened.streams
        if sid in PARTS[part]
    )


def _decrypt_memory(
    opened: OpenContainer, target: memoryview, part: str, cache: BatchKeyCache | None
) -> None:
    """Decrypt a part into memory of exactly its size, which is wiped if that fails."""
    output = MemoryOutput(target)
    buffer = bytearray() if cache is None else cache.borrow()
    try:
        decode(opened, output, buffer, None if part == "all" else PARTS[part])
    except BaseException:
        output.wipe()
        raise
    if cache is not None:
        cache.give_back(buffer)


def decrypt_file(
    src: PathLike,
    dst: PathLike,
    identities: Sequence[Identity],
    *,
    force: bool = False,
    part: str = "all",
    require_signature: bool = False,
    signers: Sequence[SignerKey] = (),
) -> int:
    """Decrypt an object into a file with its old mode and time; return its size in bytes.

    dst appears when its last byte was verified; an existing one is kept
    (OutputExistsError) unless force is set. require_signature, signers: as for `decrypt`.
    Raises NoIdentityError, DamagedError, UnsignedError, PolicyError.
    """
    policy = signature_policy(require_signature, signers)
    return decrypt_path(src, dst, identities, part=part, force=force, policy=policy)


def _is_source(source: object) -> TypeIs[Source]:
    return hasattr(source, "read_range")


def _has_descriptor(file: BinaryIO) -> bool:
    try:
        return file.fileno() >= 0
    except (AttributeError, OSError):
        return False


def open(
    source: PathLike | BinaryIO | Source | bytes | bytearray | memoryview,
    identities: Sequence[Identity], *, cache: BatchKeyCache | None = None,
    require_signature: bool = False, signers: Sequence[SignerKey] = (),
) -> OpenedObject:  # fmt: skip
    """Open an object for reading in parts: data set, frames, ranges.

    source: a path, the object's bytes, a seekable binary file, or anything with `size() -> int` and
    `read_range(offset, length) -> bytes`, such as `ObstoreSource`. Of the latter, and of files
    without a descriptor, both ends are read at once, so that a frame costs few requests.
    Several threads may use what is returned. require_signature, signers: as for `decrypt`; of a
    signed object whole pieces of 1 MiB are read and compared with what was signed. Raises
    NoIdentityError, DamagedError, UnsignedError, PolicyError.
    """
    from .objects.opened import OpenedObject
    from .objects.ranges import CachedEnds

    found: Source
    close: Callable[[], None] | None = None
    if isinstance(source, str | os.PathLike):
        found = file = FileSource(source)
        close = file.close
    elif isinstance(source, bytes | bytearray | memoryview):
        found = MemorySource(source)
    elif _is_source(source):
        found = CachedEnds(source)
    else:
        found = StreamSource(source)
        if not _has_descriptor(source):
            found = CachedEnds(found)
    try:
        policy = signature_policy(require_signature, signers)
        return OpenedObject(unlock(Container(found), identities, cache, policy), close)
    except BaseException:
        if close is not None:
            close()
        raise


class ObjectWriter:
    """Encrypts a file whose bytes come piece by piece, of unknown length, in one pass.

    sink: a binary file object, or anything with `write(data)`, which then may keep the data.
    recipients and options as for `Batch`, or batch=Batch(...) to share one, between threads
    too. Memory is bounded (a unit of the block layer, 4 MiB). Without `close`, or after
    an error in `write` or `close`, the object has no trailer and cannot be opened.

    >>> with ObjectWriter(sink, recipients=[...]) as writer:   # doctest: +SKIP
    ...     writer.write(piece)
    """

    def __init__(
        self,
        sink: Writable,
        recipients: Sequence[Recipient] = (),
        *,
        batch: Batch | None = None,
        **options: Unpack[BatchOptions],
    ) -> None:
        if batch is None:
            batch = Batch(recipients, batch=False, **options)
        self._sink = FileSink(sink)
        # A scratch of its own: a batch's buffers serve one object at a time.
        self._driver = PushDriver(batch._encoder(self._sink, bytearray(BAND)))
        self._size: int | None = None
        self._failed = False
        self._lock = threading.Lock()  # a cancelled task's last piece may still be under way

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if kind is None:
            self.close()
        self._failed = self._size is None

    def write(self, data: Buffer) -> int:
        """Take the next piece; return its size in bytes."""
        view = byte_view(data)
        with self._lock:
            if self._failed or self._size is not None:
                raise UsageError("the object is closed")
            try:
                self._driver.write(view)
            except BaseException:
                self._failed = True
                raise
        return len(view)

    def close(self) -> int:
        """Complete the object; return its size in bytes, 0 if it was broken off.

        The sink stays open."""
        with self._lock:
            if self._failed:
                return 0
            if self._size is None:
                try:
                    size = self._driver.finish()
                    self._sink.flush()
                except BaseException:
                    self._failed = True
                    raise
                self._size = size
            return self._size


def inspect(path: PathLike, identities: Sequence[Identity] = ()) -> dict[str, Any]:
    """Return what can be said of an object without a key, and with one.

    Without: version, suite, sizes, the recipients' types and hints (not authenticated). With:
    tags, frames, transfer syntax, the method map of the blocks and who signed, as far as the
    scope reaches.
    """
    from .objects.inspection import inspect_path

    return inspect_path(path, identities)


def rewrap(
    path: PathLike,
    identities: Sequence[Identity],
    *,
    add: Sequence[Recipient] = (),
    remove: Sequence[Recipient | bytes] = (),
    keep_key: bool = False,
    allow_classical: bool = False,
    allow_mixed: bool = False,
    sign_with: Signer | None = None,
    drop_signature: bool = False,
) -> dict[str, Any]:
    """Change who may open an object.

    Adding rewrites the header in place. Removing encrypts the object anew under a new key, since
    whoever is removed knew the old one: then `add` must hold the public keys of all who
    stay, besides the identity that does it. keep_key: only drop the stanza, which takes nothing
    from somebody who kept the key or a copy. remove: recipients, or hints of 8 bytes. A signature
    stays, except where the object is encrypted anew: then give sign_with or drop_signature.
    Returns {"recipients": [...], "rewritten": bool}.
    """
    from .objects.rewrap import rewrap_path

    return rewrap_path(
        path, identities, add=add, remove=remove, keep_key=keep_key,
        allow_classical=allow_classical, allow_mixed=allow_mixed, signer=sign_with,
        drop_signature=drop_signature,
    )  # fmt: skip


def salvage(
    path: PathLike, dst: PathLike, identities: Sequence[Identity], *, force: bool = False
) -> dict[str, Any]:
    """Write what authenticates of a damaged object, zeros in place of what does not.

    Returns a report (dict) of what was lost. Never use it where `decrypt_file` works.
    """
    from .objects.salvage import salvage_path

    return salvage_path(path, dst, identities, force=force)
