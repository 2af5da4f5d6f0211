"""CMS EnvelopedData (RFC 5652 section 6) and AuthEnvelopedData (RFC 5083) of a content in memory;
`cms_recipients` has who can open them.

AES-256 in GCM (RFC 5084) authenticates the content; in CBC nothing does, for peers that know no
other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    Cipher,
    CipherContext,
    algorithms,
    modes,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7, PaddingContext

from .. import policy
from ..errors import DamagedError, PolicyError, UsageError
from ..keys.cms_enveloping import KEY_SIZE
from . import ber
from .ber import Element, damaged, integer, octets, oid, sequence, set_of, tlv
from .cms_recipients import (
    AES256_CBC,
    CBC_SIZES,
    CertificateKey,
    CertificateRecipient,
    Opening,
    Recipient,
    content_key,
    content_keys,
    exactly,
    opening_of,
)

DATA, SIGNED, DIGESTED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.5"
ENVELOPED = oid("1.2.840.113549.1.7.3")
AUTH_ENVELOPED = oid("1.2.840.113549.1.9.16.1.23")
NONCE_SIZE, TAG_SIZE, BLOCK = 12, 16, 16
MAX_RECIPIENTS = 256
GCM, CBC = "aes-256-gcm", "aes-256-cbc"
CIPHERS = (GCM, CBC)

_GCM_SIZES = {oid(f"2.16.840.1.101.3.4.1.{n}"): size for n, size in ((6, 16), (26, 24), (46, 32))}
_AES256_GCM = oid("2.16.840.1.101.3.4.1.46")
_DES3_CBC = oid("1.2.840.113549.3.7")


# ---- making --------------------------------------------------------------------


def recipient_infos(recipients: Sequence[Recipient], key: bytes) -> bytes:
    """The SET of RecipientInfo, DER. Raises UsageError for none or over `MAX_RECIPIENTS`."""
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise UsageError(f"a CMS message has 1 to {MAX_RECIPIENTS} recipients")
    return set_of(*(recipient.info(key) for recipient in recipients))


def version_of(recipients: Iterable[Recipient]) -> int:
    """CMSVersion of EnvelopedData (RFC 5652 section 6.1): passwords are of version 3 there."""
    versions = {(recipient.version, getattr(recipient, "password", False))
                for recipient in recipients}
    if any(password for _, password in versions):
        return 3
    return 2 if any(version for version, _ in versions) else 0


def content_algorithm(cipher: str, nonce: bytes) -> bytes:
    """The AlgorithmIdentifier of a content cipher; nonce: of GCM, or the first block of CBC."""
    if cipher == GCM:
        return sequence(_AES256_GCM, sequence(octets(nonce), integer(TAG_SIZE)))
    return sequence(AES256_CBC, octets(nonce))


def seal(
    content: bytes, recipients: Sequence[Recipient], cipher: str = GCM, *, kind: str = DATA
) -> bytes:
    """Return a ContentInfo, DER, that holds `content` for these recipients.

    kind: object identifier of what the content is. Raises PolicyError, UsageError.
    """
    policy.current().require(cipher, "encrypt")
    key = os.urandom(KEY_SIZE)
    infos = recipient_infos(recipients, key)
    if cipher == GCM:
        nonce = os.urandom(NONCE_SIZE)
        sealed = AESGCM(key).encrypt(nonce, content, None)
        body, tag = sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]
    else:
        nonce = os.urandom(BLOCK)
        padder = PKCS7(8 * BLOCK).padder()
        encryptor = Cipher(algorithms.AES(key), modes.CBC(nonce)).encryptor()
        body = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    encrypted = sequence(oid(kind), content_algorithm(cipher, nonce), tlv(0x80, body))
    if cipher == GCM:
        data = sequence(integer(0), infos, encrypted, octets(tag))
        return sequence(AUTH_ENVELOPED, tlv(0xA0, data))
    data = sequence(integer(version_of(recipients)), infos, encrypted)
    return sequence(ENVELOPED, tlv(0xA0, data))


# ---- opening -------------------------------------------------------------------


class Algorithm(NamedTuple):
    """A content cipher as a message names it: kind "gcm", "cbc" or "3des", its key's size, its
    nonce, and how long GCM's tag is."""

    kind: str
    key_size: int
    nonce: bytes
    tag_size: int = 0


class Envelope(NamedTuple):
    """A message taken apart. kind: DER of the object identifier of its content; authenticated:
    DER of the attributes that GCM authenticates beside it; tag: GCM's."""

    infos: list[Element]
    kind: bytes
    algorithm: Algorithm
    content: bytes
    authenticated: bytes
    tag: bytes


def parse(data: bytes) -> Envelope:
    """Take a message apart, BER or DER; one zero byte behind it is DICOM's padding.

    Raises DamagedError."""
    outer = ber.read(data)
    if outer.tag != ber.SEQUENCE or data[outer.end :] not in (b"", b"\0"):
        raise damaged()
    kind, wrapped = exactly(outer.children(), 2)
    if wrapped.tag != 0xA0 or kind.whole not in (ENVELOPED, AUTH_ENVELOPED):
        raise damaged("it holds no enveloped data")
    (inner,) = exactly(wrapped.children(), 1)
    if inner.tag != ber.SEQUENCE:
        raise damaged()
    parts = inner.children()
    if len(parts) < 3:
        raise damaged()
    parts.pop(0).integer(5)
    if parts[0].tag == 0xA0:  # certificates and lists of whoever made it
        parts.pop(0)
    infos = recipients_of(parts.pop(0) if parts else None)
    if not parts or parts[0].tag != ber.SEQUENCE:
        raise damaged()
    content_kind, named, body = exactly(parts.pop(0).children(), 3)
    if content_kind.tag != ber.OID or body.tag & ~0x20 != 0x80:
        raise damaged()
    algorithm = algorithm_of(named)
    authenticated = tag = b""
    if kind.whole == AUTH_ENVELOPED:
        if parts and parts[0].tag == 0xA1:
            authenticated = tlv(ber.SET, parts.pop(0).content)
        if not parts or parts[0].tag != ber.OCTETS:
            raise damaged()
        tag = parts.pop(0).content
    if (algorithm.kind == "gcm") != bool(tag) or len(tag) != algorithm.tag_size:
        raise damaged("its cipher does not fit its kind")
    if any(part.tag not in (0xA1, 0xA2) for part in parts):
        raise damaged()
    return Envelope(infos, content_kind.whole, algorithm, body.octets(), authenticated, tag)


def recipients_of(found: Element | None) -> list[Element]:
    """The RecipientInfos of a message; raises DamagedError."""
    if found is None or found.tag != ber.SET:
        raise damaged()
    infos = found.children()
    if not 1 <= len(infos) <= MAX_RECIPIENTS:
        raise damaged("it has no recipients, or too many")
    return infos


def algorithm_of(named: Element) -> Algorithm:
    """Return a content cipher from its AlgorithmIdentifier.

    Raises DamagedError, PolicyError for a cipher that is not known or not permitted."""
    identifier, parameters = exactly(named.children(), 2)
    if (size := _GCM_SIZES.get(identifier.whole)) is not None:
        parts = parameters.children()
        tag_size = parts[1].integer() if len(parts) == 2 else 12
        if not 1 <= len(parts) <= 2 or not 12 <= tag_size <= 16:
            raise damaged()
        found = Algorithm("gcm", size, parts[0].content, tag_size)
        sound = 8 <= len(found.nonce) <= 64
    elif (size := CBC_SIZES.get(identifier.whole)) is not None:
        found = Algorithm("cbc", size, parameters.content)
        sound = len(found.nonce) == BLOCK
    elif identifier.whole == _DES3_CBC:
        found = Algorithm("3des", 24, parameters.content)
        sound = len(found.nonce) == 8
    else:
        raise PolicyError("the CMS message is encrypted with a cipher that is not known here")
    if not sound:
        raise damaged()
    name = "3des" if found.kind == "3des" else f"aes-{8 * found.key_size}-{found.kind}"
    policy.current().require(name, "decrypt")
    return found


def open_sealed(data: bytes, opening: Opening, *, begins: bytes = b"") -> bytes:
    """Return the content of a message. begins: how contents of this kind do, for CBC, under which a
    wrong key may give something.

    Raises NoIdentityError if none of the keys and passwords fits, DamagedError for a message that
    is damaged, forged or not CMS, PolicyError."""
    try:
        envelope = parse(data)
        refusal = damaged(_ANOTHER_KEY)
        for key in content_keys(envelope.infos, envelope.algorithm.key_size, opening):
            try:
                found = decrypt(envelope, key)
            except DamagedError as error:
                refusal = error
                continue
            if found.startswith(begins):
                return found
            refusal = damaged(_ANOTHER_KEY)
        raise refusal
    except RecursionError:
        raise damaged("it is nested too deep") from None


_ANOTHER_KEY = "its content is damaged, or the key is another"


def decrypt(envelope: Envelope, key: bytes) -> bytes:
    """Return the content of a message under its content key; raises DamagedError."""
    content = envelope.content
    decryptor, unpadder = content_decryptor(envelope.algorithm, key, envelope.authenticated,
                                            envelope.tag)
    if unpadder is None:
        try:
            return decryptor.update(content) + decryptor.finalize()
        except InvalidTag:
            raise damaged("its content does not authenticate") from None
    if not content or len(content) % len(envelope.algorithm.nonce):
        raise damaged("its content is cut short")
    try:
        padded = decryptor.update(content) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise damaged(_ANOTHER_KEY) from None


def content_decryptor(
    algorithm: Algorithm, key: bytes, authenticated: bytes, tag: bytes
) -> tuple[CipherContext, PaddingContext | None]:
    """Return what decrypts a content, and what takes its padding off; None for GCM, which has none.

    authenticated, tag: GCM's. Of CBC the nonce is a block long."""
    if algorithm.kind == "gcm":
        mode = modes.GCM(algorithm.nonce, tag, min_tag_length=algorithm.tag_size)
        decryptor = Cipher(algorithms.AES(key), mode).decryptor()
        decryptor.authenticate_additional_data(authenticated)
        return decryptor, None
    cipher: BlockCipherAlgorithm = algorithms.AES(key)
    if algorithm.kind == "3des":
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

        cipher = TripleDES(key)
    return (Cipher(cipher, modes.CBC(algorithm.nonce)).decryptor(),
            PKCS7(cipher.block_size).unpadder())


__all__ = [
    "AUTH_ENVELOPED", "BLOCK", "CBC", "CIPHERS", "DATA", "DIGESTED", "ENVELOPED", "GCM", "KEY_SIZE",
    "NONCE_SIZE", "SIGNED", "TAG_SIZE", "Algorithm", "CertificateKey", "CertificateRecipient",
    "Envelope", "Opening", "Recipient", "algorithm_of", "content_algorithm",
    "content_decryptor", "content_key", "decrypt", "open_sealed", "opening_of", "parse",
    "recipient_infos", "recipients_of", "seal", "version_of",
]  # fmt: skip
