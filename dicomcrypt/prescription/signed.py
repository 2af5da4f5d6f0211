"""CMS SignedData as CAdES wants it (RFC 5652, ETSI EN 319 122): what was signed, by whom, when,
with certificates and revocation lists inside, so that it can be verified years later.

One signer each. What a signature is for stands in a signed attribute, so that none of them can be
taken for another. `openssl cms -verify` accepts all of them.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization

from .. import policy
from ..errors import DamagedError, PolicyError, UsageError
from ..keys import cms_structures as structures
from ..keys.cms import certificate_key, signature_algorithm
from ..keys.cms_structures import IssuerAndSerial, encoded, tlv
from ..keys.extensions import key_identifier
from ..pki.files import PARSE_ERRORS, examine, parse_crls, quiet
from ..pki.names import ARC
from .holders import Holder

MAX_MESSAGE = 8 << 20
MAX_CERTIFICATES, MAX_CRLS = 16, 16
_DER = serialization.Encoding.DER

#: Signed attributes of our own (docs/spec/prescription-v1.md section 3).
KIND = structures.oid(f"{ARC}.5.1")
WAY = structures.oid(f"{ARC}.5.2")
MEDICATIONS = structures.oid(f"{ARC}.5.3")
DOCUMENT = structures.oid(f"{ARC}.5.4")
_NEEDED = {structures.CONTENT_TYPE, structures.MESSAGE_DIGEST, structures.SIGNING_TIME,
           structures.SIGNING_CERTIFICATE}
_TEXTS, _DIGESTS = (KIND, WAY), (MEDICATIONS, DOCUMENT)


@asn1.sequence
class _Content:
    type: x509.ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class _SignerInfo:
    version: int
    sid: IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)]
    digest_algorithm: asn1.TLV
    signed_attributes: asn1.TLV
    signature_algorithm: asn1.TLV
    signature: bytes


@asn1.sequence
class _SignedData:
    version: int
    digest_algorithms: asn1.SetOf[asn1.TLV]
    content: _Content
    certificates: Annotated[asn1.SetOf[asn1.TLV] | None, asn1.Implicit(0)]
    crls: Annotated[asn1.SetOf[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[_SignerInfo]


@asn1.sequence
class _ContentInfo:
    type: x509.ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


# ---- making --------------------------------------------------------------------


def sign(
    content: bytes, holder: Holder, kind: str | None = None, *,
    attributes: Mapping[x509.ObjectIdentifier, Any] | None = None,
    crls: Iterable[x509.CertificateRevocationList] = (), certificates: bool = True,
    named: bool = True, detached: bool = False,
) -> bytes:
    """Return content, signed now by a holder, as DER.

    kind: what the signature is for. certificates: whether the signer's and its chain are inside.
    named: whether the signer is named by issuer and serial number; otherwise by the identifier of
    the key, which tells no name. detached: the content is not inside.
    Raises PolicyError for a key that must not sign."""
    certificate = holder.certificate
    key = certificate_key(certificate)
    algorithm = signature_algorithm(key)
    policy.current().require(algorithm.name, "sign", getattr(key, "key_size", None))
    signed = structures.encode_attributes({
        structures.CONTENT_TYPE: structures.DATA,
        structures.MESSAGE_DIGEST: hashlib.new(algorithm.digest, content).digest(),
        structures.SIGNING_TIME: structures.time_now(),
        structures.SIGNING_CERTIFICATE: structures.signing_certificate(certificate),
        **({} if kind is None else {KIND: kind}), **(attributes or {}),
    })
    identifier = None if named else key_identifier(certificate.extensions)
    sid = structures.issuer_and_serial(certificate) if identifier is None else identifier
    version = 1 if identifier is None else 3
    info = _SignerInfo(
        version=version, sid=sid, digest_algorithm=tlv(algorithm.digest_identifier),
        signed_attributes=tlv(b"\xa0" + signed[1:]),
        signature_algorithm=tlv(algorithm.identifier),
        signature=algorithm.sign(holder.key, signed),
    )
    inside = [certificate, *holder.chain] if certificates else []
    return asn1.encode_der(_ContentInfo(type=structures.SIGNED_DATA, content=_SignedData(
        version=version, digest_algorithms=asn1.SetOf([tlv(algorithm.digest_identifier)]),
        content=_Content(type=structures.DATA, content=None if detached else content),
        certificates=_set_of(inside), crls=_set_of(crls), signers=asn1.SetOf([info]),
    )))  # fmt: skip


def _set_of(values: Iterable[Any]) -> Any:
    found = [tlv(der) for der in dict.fromkeys(v.public_bytes(_DER) for v in values)]
    return asn1.SetOf(found) if found else None


# ---- reading -------------------------------------------------------------------


def _wrong(what: str) -> DamagedError:
    return DamagedError(f"the signature is damaged or forged: {what}")


@dataclass(frozen=True, eq=False)
class SignedMessage:
    """What a SignedData holds; nothing of it is verified before `verify`.

    issuer, serial or identifier: whom it names. moment: when it was signed, as it says."""

    content: bytes = field(repr=False)
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]
    issuer: x509.Name | None
    serial: int
    identifier: bytes | None
    moment: datetime.datetime
    kind: str
    way: str
    digests: Mapping[x509.ObjectIdentifier, bytes]
    _digest: bytes = field(repr=False)
    _certificate_digest: bytes = field(repr=False)
    _attributes: bytes = field(repr=False)
    _algorithms: tuple[bytes, bytes, bytes] = field(repr=False)
    _signature: bytes = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate | None:
        """The signer's certificate, if it is inside."""
        for one in self.certificates:
            if self.is_of(one):
                return one
        return None

    @property
    def signature_digest(self) -> bytes:
        """SHA-256 of the signature, which no two messages have in common."""
        return hashlib.sha256(self._signature).digest()

    def is_of(self, certificate: x509.Certificate) -> bool:
        """Whether it names this certificate, by its SHA-256."""
        digest = certificate.fingerprint(hashes.SHA256())
        return hmac.compare_digest(digest, self._certificate_digest)

    def verify(self, certificate: x509.Certificate) -> None:
        """Raise DamagedError unless the key of this certificate signed all of it."""
        try:
            self._verify(certificate)
        except (InvalidSignature, UsageError):
            raise _wrong("it does not fit") from None

    def _verify(self, certificate: x509.Certificate) -> None:
        if not self.is_of(certificate):
            raise _wrong("it was made with another certificate")
        if self.identifier is not None:
            if self.identifier != key_identifier(certificate.extensions):
                raise _wrong("it names another key")
        elif (self.issuer, self.serial) != (certificate.issuer, certificate.serial_number):
            raise _wrong("it names another certificate")
        key = certificate_key(certificate)
        try:
            algorithm = signature_algorithm(key)
        except PolicyError as error:
            raise _wrong(str(error)) from None
        policy.current().require(algorithm.name, "verify", getattr(key, "key_size", None))
        digest = algorithm.digest_identifier
        if self._algorithms != (digest, digest, algorithm.identifier):
            raise _wrong("its algorithms are not those of its key")
        made = hashlib.new(algorithm.digest, self.content).digest()
        if not hmac.compare_digest(made, self._digest):
            raise _wrong("the content was changed after it was signed")
        algorithm.verify(key, self._signature, self._attributes)


def is_signed(der: bytes) -> bool:
    """Whether DER begins as a SignedData does."""
    return bytes.fromhex("06092a864886f70d010702") in der[:24]


def parse(der: bytes, content: bytes | None = None) -> SignedMessage:
    """Take a SignedData apart. content: what it is of, if that is not inside.

    Raises DamagedError for everything that `sign` does not make."""
    if len(der) > MAX_MESSAGE:
        raise _wrong("it is too large")
    try:
        return _parse(der, content)
    except (*PARSE_ERRORS, UnsupportedAlgorithm):
        raise _wrong("it is not as it must be") from None


def _parse(der: bytes, detached: bytes | None) -> SignedMessage:
    info = asn1.decode_der(_ContentInfo, der)
    data, signers = info.content, info.content.signers.as_list()
    inside = data.content.content
    if info.type != structures.SIGNED_DATA or data.content.type != structures.DATA:
        raise _wrong("it is of another type")
    if len(signers) != 1:
        raise _wrong(f"{len(signers)} signers, where one is meant")
    content = detached if inside is None else inside
    if content is None:
        raise _wrong("its content is missing")
    if inside is not None and detached is not None:
        raise _wrong("it has a content of its own")
    signer = signers[0]
    if not data.version == signer.version == (1 if isinstance(signer.sid, IssuerAndSerial) else 3):
        raise _wrong("its version is another")
    certificates = [] if data.certificates is None else data.certificates.as_list()
    crls = [] if data.crls is None else data.crls.as_list()
    if len(certificates) > MAX_CERTIFICATES or len(crls) > MAX_CRLS:
        raise _wrong("too many certificates or revocation lists")
    whole = encoded(signer.signed_attributes)
    attributes = structures.parse_attributes(whole, _wrong)
    unknown = set(attributes) - _NEEDED - {*_TEXTS, *_DIGESTS}
    if unknown or not set(attributes) >= _NEEDED:
        raise _wrong("its attributes are others than they must be")
    if attributes[structures.CONTENT_TYPE].parse(x509.ObjectIdentifier) != structures.DATA:
        raise _wrong("it is of another type")
    (ess,) = attributes[structures.SIGNING_CERTIFICATE].parse(
        structures.SigningCertificate
    ).certificates
    (digest_algorithm,) = data.digest_algorithms.as_list()
    kind, way = (attributes[o].parse(str) if o in attributes else "" for o in _TEXTS)
    by_number = signer.sid if isinstance(signer.sid, IssuerAndSerial) else None
    with quiet():
        loaded = [x509.load_der_x509_certificate(encoded(c)) for c in certificates]
    return SignedMessage(
        content=content,
        certificates=tuple(examine(c, "a certificate in it") for c in loaded),
        crls=tuple(crl for c in crls for crl in parse_crls(encoded(c), "a revocation list in it")),
        issuer=x509.Name.from_bytes(encoded(by_number.issuer)) if by_number else None,
        serial=by_number.serial if by_number else 0,
        identifier=signer.sid if isinstance(signer.sid, bytes) else None,
        moment=structures.moment_of(attributes[structures.SIGNING_TIME]),
        kind=kind, way=way,
        digests={o: attributes[o].parse(bytes) for o in _DIGESTS if o in attributes},
        _digest=attributes[structures.MESSAGE_DIGEST].parse(bytes),
        _certificate_digest=ess.digest, _attributes=b"\x31" + whole[1:],
        _algorithms=(encoded(digest_algorithm), encoded(signer.digest_algorithm),
                     encoded(signer.signature_algorithm)),
        _signature=signer.signature,
    )  # fmt: skip
