"""Secure DICOM Files (PS3.10 section 7.4, PS3.15 annex D): a whole file in CMS EnvelopedData around
SignedData or DigestedData, of any length in little memory.

All lengths are known before the first byte is written, so that what is written is DER; what is read
may be BER of undefined length as well.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from .. import policy
from ..errors import DamagedError, SourceChangedError
from ..keys.cms import Signature
from . import ber, cms_content
from . import cms_envelope as envelope
from .ber import damaged, integer, octets, oid, sequence, set_of, tlv
from .ber_stream import CHUNK, Puller, puller

_CONTENT_TYPE = oid("1.2.840.113549.1.9.3")
_Progress = Callable[[int], object]


def _nothing(_: int) -> None:
    pass


# ---- making --------------------------------------------------------------------


def wrap(
    source: BinaryIO, target: BinaryIO, recipients: Sequence[envelope.Recipient], *,
    signer: Any | None = None, cipher: str = envelope.CBC, nested: bool = False,
    progress: _Progress = _nothing,
) -> None:
    """Write a file as Secure DICOM File; it is read twice.

    signer: a `keys.signing.Signer` with an RSA or elliptic-curve key, None for a digest alone.
    cipher: the standard has CBC; GCM makes AuthEnvelopedData. nested: the content is a whole
    message and called data, as `openssl cms` has it. Raises PolicyError, UsageError, and
    SourceChangedError if the file changes meanwhile."""
    policy.current().require(cipher, "encrypt")
    size, digest = _digest(source)
    before, behind = cms_content.frame(size, digest, signer, bare=not nested)
    kind = oid(envelope.DATA if nested else envelope.DIGESTED if signer is None
               else envelope.SIGNED)  # fmt: skip
    key = os.urandom(envelope.KEY_SIZE)
    gcm = cipher == envelope.GCM
    nonce = os.urandom(envelope.NONCE_SIZE if gcm else envelope.BLOCK)
    plain = len(before) + size + len(behind)
    sealed = plain if gcm else plain + envelope.BLOCK - plain % envelope.BLOCK
    aes, attributes = algorithms.AES(key), b""
    encryptor: CipherContext
    if gcm:
        encryptor = sealer = Cipher(aes, modes.GCM(nonce)).encryptor()
        padder = None
        if not nested:  # RFC 5083 section 2.1
            attributes = set_of(sequence(_CONTENT_TYPE, set_of(kind)))
            sealer.authenticate_additional_data(attributes)
    else:
        encryptor, sealer = Cipher(aes, modes.CBC(nonce)).encryptor(), None
        padder = PKCS7(8 * envelope.BLOCK).padder()
    target.write(_head(recipients, key, cipher, nonce, kind, sealed, attributes))

    def put(chunk: bytes) -> None:
        target.write(encryptor.update(chunk if padder is None else padder.update(chunk)))

    put(before)
    again = hashlib.sha256()
    for chunk in _chunks(source):
        again.update(chunk)
        put(chunk)
        progress(len(chunk))
    if not hmac.compare_digest(again.digest(), digest):
        raise SourceChangedError("the file changed while it was read: wrap it again")
    put(behind)
    if padder is not None:
        target.write(encryptor.update(padder.finalize()))
    target.write(encryptor.finalize())
    if sealer is not None:
        if attributes:
            target.write(b"\xa1" + attributes[1:])
        target.write(octets(sealer.tag))


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    source.seek(0)
    while chunk := source.read(CHUNK):
        yield chunk


def _digest(source: BinaryIO) -> tuple[int, bytes]:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(source):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.digest()


def _head(
    recipients: Sequence[envelope.Recipient], key: bytes, cipher: str, nonce: bytes, kind: bytes,
    sealed: int, attributes: bytes,
) -> bytes:
    """Everything in front of the encrypted content."""
    gcm = cipher == envelope.GCM
    content = kind + envelope.content_algorithm(cipher, nonce) + ber.begin(0x80, sealed)
    version = integer(0 if gcm else envelope.version_of(recipients))
    inner = version + envelope.recipient_infos(recipients, key)
    inner += ber.begin(ber.SEQUENCE, len(content) + sealed) + content
    behind = len(attributes) + len(octets(bytes(envelope.TAG_SIZE))) if gcm else 0
    inner = ber.begin(ber.SEQUENCE, len(inner) + sealed + behind) + inner
    outer = envelope.AUTH_ENVELOPED if gcm else envelope.ENVELOPED
    outer += ber.begin(0xA0, len(inner) + sealed + behind)
    return ber.begin(ber.SEQUENCE, len(outer) + len(inner) + sealed + behind) + outer + inner


# ---- reading -------------------------------------------------------------------


def looks_wrapped(source: BinaryIO) -> bool:
    """Whether a file begins as CMS EnvelopedData or AuthEnvelopedData does."""
    source.seek(0)
    head = source.read(32)
    return head[:1] == bytes((ber.SEQUENCE,)) and any(
        head.startswith(kind, at) for kind in (envelope.ENVELOPED, envelope.AUTH_ENVELOPED)
        for at in range(2, 11))


class _Message:
    """A pass over a message; the content is taken by whoever iterates over `content`."""

    def __init__(self, source: BinaryIO) -> None:
        source.seek(0)
        stream = self._stream = Puller(source.read)
        stream.enter(ber.SEQUENCE)
        self._kind = stream.whole(ber.OID).whole
        if self._kind not in (envelope.ENVELOPED, envelope.AUTH_ENVELOPED):
            raise damaged("it holds no enveloped data")
        stream.enter(0xA0)
        stream.enter(ber.SEQUENCE)
        stream.whole(ber.INTEGER)
        if stream.tag() == 0xA0:  # certificates and lists of whoever made it
            stream.whole(0xA0)
        self.infos = envelope.recipients_of(stream.whole(ber.SET))
        stream.enter(ber.SEQUENCE)
        self.content_kind = stream.whole(ber.OID).whole
        self.algorithm = envelope.algorithm_of(stream.whole(ber.SEQUENCE))
        if (self.algorithm.kind == "gcm") != (self._kind == envelope.AUTH_ENVELOPED):
            raise damaged("its cipher does not fit its kind")
        self.attributes = self.tag = b""

    def content(self) -> Iterator[bytes]:
        """Yield what is encrypted; then all of the message was read, to its end."""
        stream = self._stream
        yield from stream.octets(0x80)
        stream.leave()
        if self._kind == envelope.AUTH_ENVELOPED:
            if stream.tag() == 0xA1:
                self.attributes = tlv(ber.SET, stream.whole(0xA1).content)
            self.tag = stream.whole(ber.OCTETS).content
            if len(self.tag) != self.algorithm.tag_size:
                raise damaged()
        for other in (0xA1, 0xA2):  # what nobody protects
            if stream.tag() == other:
                stream.whole(other)
        for _ in range(3):
            stream.leave()
        if stream.rest() not in (b"", b"\0"):
            raise damaged("something follows it")


def unwrap(
    source: BinaryIO, target: BinaryIO, opening: envelope.Opening, *,
    progress: _Progress = _nothing,
) -> list[Signature]:
    """Write the file that a Secure DICOM File holds and return its signatures, none for a digest.

    What was written counts only when this returned: before that nothing is verified. Raises
    NoIdentityError if no key or password fits, DamagedError for what is damaged, cut short or
    forged, PolicyError."""
    message = _Message(source)
    if message.algorithm.kind == "gcm":  # what it authenticates stands behind the content
        for _ in message.content():
            pass
        found, message = message, _Message(source)
        message.attributes, message.tag = found.attributes, found.tag
    key = envelope.content_key(message.infos, message.algorithm.key_size, opening)
    stream = puller(_decrypted(message, key))

    def write(chunk: bytes) -> None:
        target.write(chunk)
        progress(len(chunk))

    try:
        return cms_content.read(stream, message.content_kind, write)
    except DamagedError as error:
        if message.algorithm.kind != "gcm":
            raise DamagedError(f"{error}, or the key is another") from None
        raise


def _decrypted(message: _Message, key: bytes) -> Iterator[bytes]:
    decryptor, unpadder = envelope.content_decryptor(
        message.algorithm, key, message.attributes, message.tag)
    for chunk in message.content():
        plain = decryptor.update(chunk)
        if unpadder is not None:
            plain = unpadder.update(plain)
        if plain:
            yield plain
    try:
        plain = decryptor.finalize()
        if unpadder is not None:
            plain = unpadder.update(plain) + unpadder.finalize()
    except (InvalidTag, ValueError):
        raise damaged("its content does not decrypt") from None
    if plain:
        yield plain
