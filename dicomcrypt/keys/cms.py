"""CMS SignedData over an object's manifest (docs/spec/dcmx-v1.md section 10): `build_cms` makes
it, `verify_cms` verifies it, and one table names the algorithms.

ASN.1 and all algorithms come from `cryptography`, so that every installation can verify.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa

from .. import policy
from ..errors import DamagedError, PolicyError, UsageError
from .cms_structures import (
    CONTENT_TYPE,
    DATA,
    MESSAGE_DIGEST,
    SIGNED_DATA,
    SIGNING_CERTIFICATE,
    SIGNING_TIME,
    IssuerAndSerial,
    Plain,
    SigningCertificate,
    WithNull,
    encode_attributes,
    encoded,
    issuer_and_serial,
    moment_of,
    oid,
    parse_attributes,
    signing_certificate,
    time_now,
    tlv,
)
from .spki import public_der

MAX_CERTIFICATES = 16
_RSA_BITS = range(2048, 8193)


# ---- RFC 5652, RFC 4055 --------------------------------------------------------


@asn1.sequence
class _Mask:
    algorithm: x509.ObjectIdentifier
    parameters: WithNull


@asn1.sequence
class _PssParameters:
    digest: Annotated[WithNull, asn1.Explicit(0)]
    mask: Annotated[_Mask, asn1.Explicit(1)]
    salt: Annotated[int, asn1.Explicit(2)]


@asn1.sequence
class _Pss:
    algorithm: x509.ObjectIdentifier
    parameters: _PssParameters


@asn1.sequence
class _SignerInfo:
    version: int
    sid: IssuerAndSerial
    digest_algorithm: asn1.TLV
    signed_attributes: asn1.TLV
    signature_algorithm: asn1.TLV
    signature: bytes


@asn1.sequence
class _Content:
    type: x509.ObjectIdentifier


@asn1.sequence
class _SignedData:
    version: int
    digest_algorithms: asn1.SetOf[asn1.TLV]
    content: _Content
    certificates: Annotated[asn1.SetOf[asn1.TLV], asn1.Implicit(0)]
    signers: asn1.SetOf[_SignerInfo]


@asn1.sequence
class _ContentInfo:
    type: x509.ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


_SHA256 = oid("2.16.840.1.101.3.4.2.1")
_PSS_SHA256 = asn1.encode_der(
    _Pss(algorithm=oid("1.2.840.113549.1.1.10"), parameters=_PssParameters(
        digest=WithNull(algorithm=_SHA256, parameters=asn1.Null()),
        mask=_Mask(algorithm=oid("1.2.840.113549.1.1.8"),
                   parameters=WithNull(algorithm=_SHA256, parameters=asn1.Null())),
        salt=32,
    )))  # fmt: skip


def _identifier(text: str) -> bytes:
    return asn1.encode_der(Plain(algorithm=oid(text)))


# ---- algorithms ----------------------------------------------------------------


class Algorithm(NamedTuple):
    """One row of the specification's table. identifier: the AlgorithmIdentifier in DER."""

    name: str
    digest: str
    digest_identifier: bytes
    identifier: bytes
    sign: Callable[[Any, bytes], bytes]
    verify: Callable[[Any, bytes, bytes], None]


_DIGESTS = {
    "sha256": _identifier("2.16.840.1.101.3.4.2.1"),
    "sha384": _identifier("2.16.840.1.101.3.4.2.2"),
    "sha512": _identifier("2.16.840.1.101.3.4.2.3"),
}
_PADDING = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def _plainly(name: str, digest: str, oid: str) -> Algorithm:
    return Algorithm(
        name, digest, _DIGESTS[digest], _identifier(oid),
        lambda key, data: key.sign(data),
        lambda key, signature, data: key.verify(signature, data),
    )  # fmt: skip


def _ecdsa(curve: str, digest: str, oid: str, kind: hashes.HashAlgorithm) -> Algorithm:
    how = ec.ECDSA(kind)
    return Algorithm(
        f"ecdsa-{curve}-{digest}", digest, _DIGESTS[digest], _identifier(oid),
        lambda key, data: key.sign(data, how),
        lambda key, signature, data: key.verify(signature, data, how),
    )  # fmt: skip


_RSA = Algorithm(
    "rsa-pss-sha256", "sha256", _DIGESTS["sha256"], _PSS_SHA256,
    lambda key, data: key.sign(data, _PADDING, hashes.SHA256()),
    lambda key, signature, data: key.verify(signature, data, _PADDING, hashes.SHA256()),
)  # fmt: skip
_CURVES = {
    "secp256r1": _ecdsa("p256", "sha256", "1.2.840.10045.4.3.2", hashes.SHA256()),
    "secp384r1": _ecdsa("p384", "sha384", "1.2.840.10045.4.3.3", hashes.SHA384()),
    "secp521r1": _ecdsa("p521", "sha512", "1.2.840.10045.4.3.4", hashes.SHA512()),
}
_OTHERS = {
    ed25519.Ed25519PublicKey: _plainly("ed25519", "sha512", "1.3.101.112"),
    mldsa.MLDSA44PublicKey: _plainly("ml-dsa-44", "sha512", "2.16.840.1.101.3.4.3.17"),
    mldsa.MLDSA65PublicKey: _plainly("ml-dsa-65", "sha512", "2.16.840.1.101.3.4.3.18"),
    mldsa.MLDSA87PublicKey: _plainly("ml-dsa-87", "sha512", "2.16.840.1.101.3.4.3.19"),
}


def signature_algorithm(key: Any) -> Algorithm:
    """Return how a public key's signatures are made; raises UsageError for kinds that make none,
    PolicyError for RSA of other sizes and other curves."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            raise PolicyError(f"an RSA key of {key.key_size} bits cannot sign: from 2048 to 8192")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    for kind, algorithm in _OTHERS.items():
        if isinstance(key, kind):
            return algorithm
    refused = PolicyError if isinstance(key, ec.EllipticCurvePublicKey) else UsageError
    raise refused("this kind of key cannot sign objects: use RSA, P-256, P-384, P-521, "
                  "Ed25519 or ML-DSA")


def certificate_key(certificate: x509.Certificate) -> Any:
    """Return the public key; raises PolicyError for one of a kind that is not known here,
    DamagedError for a malformed one."""
    try:
        return certificate.public_key()
    except UnsupportedAlgorithm:
        raise PolicyError("the certificate's public key is of a kind that is not known here") \
            from None
    except (ValueError, TypeError, x509.InvalidVersion):
        raise DamagedError("the certificate's public key is malformed") from None


# ---- verifying -------------------------------------------------------------------


class Signature(NamedTuple):
    """A signature that is right; whether its certificate is to be trusted is another question.

    moment: when it was made, as the signer says, in UTC. chain: further certificates."""

    algorithm: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    moment: datetime.datetime

    @property
    def public_key(self) -> bytes:
        """The signer's SubjectPublicKeyInfo in DER."""
        return public_der(self.certificate.public_key())

    @property
    def subject(self) -> str:
        """The signer as the certificate names them (RFC 4514)."""
        return self.certificate.subject.rfc4514_string()

    def facts(self) -> dict[str, Any]:
        """Return what is told of it: names, numbers, the certificate's SHA-256."""
        certificate = self.certificate
        return {
            "signer": self.subject,
            "issuer": certificate.issuer.rfc4514_string(),
            "serial": f"{certificate.serial_number:x}",
            "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
            "algorithm": self.algorithm,
            "time": self.moment.isoformat(),
        }


def _wrong(what: str) -> DamagedError:
    return DamagedError(f"the object's signature is damaged or forged: {what}")


def verify_cms(manifest: bytes, cms: bytes) -> Signature:
    """Verify a signature of a manifest, every byte of it.

    Raises DamagedError for everything that is not as section 10 says, bad ASN.1 included."""
    try:
        return _verify(manifest, cms)
    except InvalidSignature:
        raise _wrong("it does not fit") from None
    except UsageError as error:
        raise _wrong(str(error)) from None
    except (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise _wrong("it is not as it must be") from None


def _verify(manifest: bytes, cms: bytes) -> Signature:
    info = asn1.decode_der(_ContentInfo, cms)
    data = info.content
    signers = data.signers.as_list()
    certificates = [encoded(c) for c in data.certificates.as_list()]
    if (info.type != SIGNED_DATA or data.version != 1 or data.content.type != DATA
            or len(signers) != 1 or not 1 <= len(certificates) <= MAX_CERTIFICATES):
        raise _wrong("not one signature of the manifest")
    signer = signers[0]
    attributes = _attributes(encoded(signer.signed_attributes))
    (ess,) = attributes[SIGNING_CERTIFICATE].parse(SigningCertificate).certificates
    named = [c for c in certificates if hashlib.sha256(c).digest() == ess.digest]
    if len(named) != 1:
        raise _wrong("its certificate is missing or another")
    certificate = x509.load_der_x509_certificate(named[0])
    if signer.version != 1 or (encoded(signer.sid.issuer), signer.sid.serial) != (
        certificate.issuer.public_bytes(), certificate.serial_number
    ):
        raise _wrong("it names another certificate")
    try:
        key = certificate_key(certificate)
        algorithm = signature_algorithm(key)
    except PolicyError as error:  # nobody can have made it
        raise _wrong(str(error)) from None
    policy.current().require(algorithm.name, "verify", getattr(key, "key_size", None))
    if [encoded(d) for d in data.digest_algorithms.as_list()] != [algorithm.digest_identifier] or (
        encoded(signer.digest_algorithm), encoded(signer.signature_algorithm)
    ) != (algorithm.digest_identifier, algorithm.identifier):
        raise _wrong("its algorithms are not those of its key")
    digest = hashlib.new(algorithm.digest, manifest).digest()
    if attributes[CONTENT_TYPE].parse(x509.ObjectIdentifier) != DATA or not hmac.compare_digest(
        attributes[MESSAGE_DIGEST].parse(bytes), digest
    ):
        raise _wrong("it is of something else")
    # What is signed has the tag of a SET (RFC 5652 section 5.4).
    algorithm.verify(key, signer.signature, b"\x31" + encoded(signer.signed_attributes)[1:])
    others = (c for c in certificates if c is not named[0])
    chain = tuple(x509.load_der_x509_certificate(c) for c in others)
    moment = moment_of(attributes[SIGNING_TIME])
    signature = Signature(algorithm.name, certificate, chain, moment)
    signature.facts()  # a certificate that cannot be told of fails here, not later
    return signature


def _attributes(der: bytes) -> dict[x509.ObjectIdentifier, asn1.TLV]:
    """The four signed attributes, each with its one value."""
    found = parse_attributes(der, _wrong)
    if set(found) != {CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME, SIGNING_CERTIFICATE}:
        raise _wrong("its attributes are others than they must be")
    return found


# ---- making --------------------------------------------------------------------


def build_cms(
    manifest: bytes, key: Any, certificate: x509.Certificate, chain: tuple[x509.Certificate, ...]
) -> bytes:
    """Return a manifest's CMS, DER, signed now with the certificate's private key."""
    algorithm = signature_algorithm(certificate_key(certificate))
    attributes = encode_attributes({
        CONTENT_TYPE: DATA,
        MESSAGE_DIGEST: hashlib.new(algorithm.digest, manifest).digest(),
        SIGNING_TIME: time_now(),
        SIGNING_CERTIFICATE: signing_certificate(certificate),
    })
    info = _SignerInfo(
        version=1,
        sid=issuer_and_serial(certificate),
        digest_algorithm=tlv(algorithm.digest_identifier),
        signed_attributes=tlv(b"\xa0" + attributes[1:]),
        signature_algorithm=tlv(algorithm.identifier),
        signature=algorithm.sign(key, attributes),
    )  # fmt: skip
    return asn1.encode_der(_ContentInfo(type=SIGNED_DATA, content=_SignedData(
        version=1, digest_algorithms=asn1.SetOf([tlv(algorithm.digest_identifier)]),
        content=_Content(type=DATA),
        certificates=asn1.SetOf([
            tlv(c.public_bytes(serialization.Encoding.DER)) for c in (certificate, *chain)
        ]),
        signers=asn1.SetOf([info]),
    )))  # fmt: skip
