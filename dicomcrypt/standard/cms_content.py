"""CMS SignedData and DigestedData (RFC 5652 sections 5 and 7) around a content of any length."""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from .. import policy
from ..errors import DamagedError, PolicyError
from ..keys.cms import Signature, certificate_key
from . import ber
from .ber import Element, damaged, integer, octets, oid, sequence, set_of, tlv
from .ber_stream import Puller
from .cms_envelope import DATA, DIGESTED, SIGNED
from .signatures import check_fit

_DATA, _SIGNED, _DIGESTED = oid(DATA), oid(SIGNED), oid(DIGESTED)
_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_TIME = (oid(f"1.2.840.113549.1.9.{n}") for n in (3, 4, 5))
_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    oid(f"2.16.840.1.101.3.4.2.{n}"): kind
    for n, kind in ((1, hashes.SHA256()), (2, hashes.SHA384()), (3, hashes.SHA512()))
}  # fmt: skip
_SHA256 = sequence(oid("2.16.840.1.101.3.4.2.1"))
_PSS = oid("1.2.840.113549.1.1.10")
_RSA = oid("1.2.840.113549.1.1.1")
_ECDSA_SHA256 = oid("1.2.840.10045.4.3.2")
MAX_SIGNERS = 16


# ---- making --------------------------------------------------------------------


def frame(size: int, digest: bytes, signer: Any | None, *, bare: bool) -> tuple[bytes, bytes]:
    """Return what stands before and behind a content of `size` bytes with this SHA-256, DER.

    signer: a `keys.signing.Signer` for SignedData, None for DigestedData. bare: without the
    ContentInfo around it."""
    kind = _DIGESTED if signer is None else _SIGNED
    behind = octets(digest) if signer is None else _signers(digest, signer)
    string = ber.begin(ber.OCTETS, size)
    explicit = ber.begin(0xA0, len(string) + size)
    encapsulated = ber.begin(ber.SEQUENCE, len(_DATA) + len(explicit) + len(string) + size)
    algorithms = _SHA256 if signer is None else set_of(_SHA256)
    start = integer(0 if signer is None else 1) + algorithms
    before = start + encapsulated + _DATA + explicit + string
    before = ber.begin(ber.SEQUENCE, len(before) + size + len(behind)) + before
    if not bare:
        whole = len(before) + size + len(behind)
        outer = kind + ber.begin(0xA0, whole)
        before = ber.begin(ber.SEQUENCE, len(outer) + whole) + outer + before
    return before, behind


def _signers(digest: bytes, signer: Any) -> bytes:
    """Certificates and the one SignerInfo of SignedData."""
    now = datetime.datetime.now(datetime.UTC)
    kind, form = (0x17, "%y%m%d%H%M%SZ") if now.year < 2050 else (0x18, "%Y%m%d%H%M%SZ")
    attributes = set_of(
        sequence(_CONTENT_TYPE, set_of(_DATA)),
        sequence(_SIGNING_TIME, set_of(tlv(kind, now.strftime(form).encode()))),
        sequence(_MESSAGE_DIGEST, set_of(octets(digest))),
    )
    certificate = signer.certificate
    named = sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))
    made = signer.sign_digest(hashlib.sha256(attributes).digest(), hashes.SHA256())
    is_rsa = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    algorithm = sequence(_RSA, ber.NULL_DER) if is_rsa else sequence(_ECDSA_SHA256)
    info = sequence(integer(1), named, _SHA256, b"\xa0" + attributes[1:], algorithm, octets(made))
    certificates = set_of(*(c.public_bytes(Encoding.DER) for c in (certificate, *signer.chain)))
    return b"\xa0" + certificates[1:] + set_of(info)


# ---- reading -------------------------------------------------------------------


def read(
    stream: Puller, kind: bytes, write: Callable[[bytes], object]
) -> list[Signature]:
    """Write the content of SignedData or DigestedData, and verify it to its end.

    kind: DER of the object identifier of what the stream holds: one of the two, bare, or data that
    is a ContentInfo of one of them, as tools that nest whole messages have it. Returns the
    signatures, none for DigestedData. What was written counts only when this returned: raises
    DamagedError, PolicyError."""
    if kind not in (_DATA, _SIGNED, _DIGESTED):
        raise damaged("it holds neither signed nor digested data")
    wrapped = kind == _DATA
    stream.enter(ber.SEQUENCE)
    if stream.tag() == ber.OID:  # a ContentInfo, whatever was said of it
        inner = stream.whole(ber.OID).whole
        if inner not in (_SIGNED, _DIGESTED) or kind not in (_DATA, inner):
            raise damaged("it holds neither signed nor digested data")
        kind, wrapped = inner, True
        stream.enter(0xA0)
        stream.enter(ber.SEQUENCE)
    elif wrapped:
        raise damaged("it holds neither signed nor digested data")
    found = _signed(stream, write) if kind == _SIGNED else _digested(stream, write)
    stream.leave()
    if wrapped:
        stream.leave()
        stream.leave()
    if stream.rest():
        raise damaged("something follows it")
    return found


def _content(stream: Puller, write: Callable[[bytes], object], running: Iterable[Any]) -> None:
    stream.enter(ber.SEQUENCE)
    if stream.whole(ber.OID).whole != _DATA:
        raise damaged("it is of something else than a file")
    stream.enter(0xA0)
    for part in stream.octets(ber.OCTETS):
        for one in running:
            one.update(part)
        write(part)
    stream.leave()
    stream.leave()


def _hash_of(named: Element) -> hashes.HashAlgorithm:
    parts = named.children()
    kind = _HASHES.get(parts[0].whole) if parts else None
    if kind is None:
        raise PolicyError("the CMS message's digest is not taken: SHA-256, SHA-384 and SHA-512 are")
    return kind


def _digested(stream: Puller, write: Callable[[bytes], object]) -> list[Signature]:
    stream.whole(ber.INTEGER)
    digest = hashlib.new(_hash_of(stream.whole(ber.SEQUENCE)).name)
    _content(stream, write, [digest])
    told = stream.whole(ber.OCTETS).content
    if not hmac.compare_digest(told, digest.digest()):
        raise damaged("its digest does not fit")
    return []


def _signed(stream: Puller, write: Callable[[bytes], object]) -> list[Signature]:
    stream.whole(ber.INTEGER)
    kinds = {kind.name: kind for kind in map(_hash_of, stream.whole(ber.SET).children())}
    running = {name: hashlib.new(name) for name in kinds}
    _content(stream, write, running.values())
    digests = {name: one.digest() for name, one in running.items()}
    certificates: list[x509.Certificate] = []
    if stream.tag() == 0xA0:
        for element in stream.whole(0xA0).children():
            if element.tag == ber.SEQUENCE and len(certificates) < 64:
                certificates.append(_certificate(element))
    if stream.tag() == 0xA1:
        stream.whole(0xA1)
    signers = stream.whole(ber.SET).children()
    if not 1 <= len(signers) <= MAX_SIGNERS:
        raise damaged("it has no signers, or too many")
    return [_verify(signer, certificates, digests) for signer in signers]


def _certificate(element: Element) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(element.whole)
    except (ValueError, TypeError, x509.InvalidVersion):
        raise damaged("a certificate in it is malformed") from None


def _verify(
    signer: Element, certificates: list[x509.Certificate], digests: dict[str, bytes]
) -> Signature:
    parts = signer.children()
    if signer.tag != ber.SEQUENCE or len(parts) < 5:
        raise damaged()
    parts.pop(0)
    sid, named = parts.pop(0), parts.pop(0)
    certificate = _named(sid, certificates)
    kind = _hash_of(named)
    digest = digests.get(kind.name)
    if digest is None:
        raise damaged("a signer's digest is none of its own")
    attributes = parts.pop(0) if parts[0].tag == 0xA0 else None
    if len(parts) not in (2, 3):
        raise damaged()
    how, signature = parts[0].children(), parts[1].octets()
    moment = datetime.datetime.now(datetime.UTC)
    if attributes is not None:
        found = _attributes(attributes)
        if (found.get(_CONTENT_TYPE, b"") != _DATA
                or not hmac.compare_digest(found.get(_MESSAGE_DIGEST, b""), octets(digest))):
            raise damaged("a signature in it is of something else")
        moment = _moment(found[_SIGNING_TIME]) if _SIGNING_TIME in found else moment
        digest = hashlib.new(kind.name, tlv(ber.SET, attributes.content)).digest()
    key = certificate_key(certificate)
    try:
        if how and how[0].whole == _PSS:
            algorithm = _check_pss(key, kind, signature, digest)
        else:
            algorithm = check_fit(key, kind, signature, digest)
    except DamagedError:
        raise damaged("a signature in it does not fit") from None
    chain = tuple(c for c in certificates if c is not certificate)
    return Signature(algorithm, certificate, chain, moment)


def _check_pss(key: Any, kind: hashes.HashAlgorithm, signature: bytes, digest: bytes) -> str:
    named = f"rsa-pss-{kind.name}"
    if not isinstance(key, rsa.RSAPublicKey):
        raise damaged()
    policy.current().require(named, "verify", key.key_size)
    how = padding.PSS(padding.MGF1(kind), padding.PSS.AUTO)
    try:
        key.verify(signature, digest, how, Prehashed(kind))
    except (InvalidSignature, ValueError):
        raise damaged() from None
    return named


def _named(sid: Element, certificates: list[x509.Certificate]) -> x509.Certificate:
    """The certificate that a SignerIdentifier means."""
    for certificate in certificates:
        if sid.tag == ber.SEQUENCE:
            own = sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))
            if own == sid.whole:
                return certificate
            continue
        try:
            known = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except (x509.ExtensionNotFound, ValueError):
            continue
        if known.value.digest == sid.content:
            return certificate
    raise damaged("the certificate of a signer is not in it")


def _attributes(found: Element) -> dict[bytes, bytes]:
    """Signed attributes with one value each, by their DER object identifier."""
    taken: dict[bytes, bytes] = {}
    for attribute in found.children():
        parts = attribute.children()
        if len(parts) != 2 or parts[0].whole in taken:
            raise damaged()
        values = parts[1].children()
        if len(values) == 1:
            taken[parts[0].whole] = values[0].whole
    return taken


def _moment(value: bytes) -> datetime.datetime:
    element = ber.read(value)
    form = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}.get(element.tag)
    try:
        if form is None:
            raise ValueError
        text = element.content.decode("ascii")
        return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise damaged("the time of a signature is malformed") from None
