"""How CMS wraps a content key to somebody's key (RFC 5652 section 6.2), for prescriptions and
Secure DICOM Files: RSAES-OAEP with SHA-256 (RFC 4056), or ECDH with the derivation of X9.63
(RFC 5753) and AES-256 key wrap.

How a message is read, and what of other writers' ways is taken, is its reader's: prescriptions are
DER of this form alone, while `standard.cms_recipients` takes BER, older digests and padding.
"""

from __future__ import annotations

from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from .cms_structures import IssuerAndSerial, Plain, WithNull, length, oid, tlv

KEY_SIZE = 32
#: The registry's names of curves that keys are agreed on with, as `cms-ecdh-NAME`.
CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_SHA256, _AES256_WRAP = oid("2.16.840.1.101.3.4.2.1"), oid("2.16.840.1.101.3.4.1.45")
_OAEP, _MGF1 = oid("1.2.840.113549.1.1.7"), oid("1.2.840.113549.1.1.8")
_ECDH_SHA256, _EC_KEY = oid("1.3.132.1.11.1"), oid("1.2.840.10045.2.1")


@asn1.sequence
class WithParameters:
    """An AlgorithmIdentifier with parameters."""

    algorithm: x509.ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class _OaepParameters:
    digest: Annotated[WithNull, asn1.Explicit(0)]
    mask: Annotated[WithParameters, asn1.Explicit(1)]


@asn1.sequence
class KeyTransport:
    version: int
    rid: IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)]
    algorithm: asn1.TLV
    key: bytes


@asn1.sequence
class _EphemeralKey:
    algorithm: Plain
    key: asn1.BitString


@asn1.sequence
class _Originator:
    """OriginatorIdentifierOrKey, of which the key is made and taken."""

    key: Annotated[_EphemeralKey, asn1.Implicit(1)]


@asn1.sequence
class KeyIdentifier:
    identifier: bytes


@asn1.sequence
class WrappedKey:
    rid: IssuerAndSerial | Annotated[KeyIdentifier, asn1.Implicit(0)]
    key: bytes


@asn1.sequence
class KeyAgreement:
    version: int
    originator: Annotated[asn1.TLV, asn1.Explicit(0)]
    algorithm: asn1.TLV
    keys: list[WrappedKey]


@asn1.sequence
class _SharedInfo:
    """ECC-CMS-SharedInfo of RFC 5753 section 7.2."""

    algorithm: asn1.TLV
    entropy: Annotated[bytes | None, asn1.Explicit(0)]
    size: Annotated[bytes, asn1.Explicit(2)]


_DIGEST = WithNull(algorithm=_SHA256, parameters=asn1.Null())
#: AlgorithmIdentifiers, DER.
OAEP_SHA256 = asn1.encode_der(WithParameters(
    algorithm=_OAEP, parameters=tlv(asn1.encode_der(_OaepParameters(
        digest=_DIGEST,
        mask=WithParameters(algorithm=_MGF1, parameters=tlv(asn1.encode_der(_DIGEST))),
    )))))  # fmt: skip
AES256_WRAP = asn1.encode_der(Plain(algorithm=_AES256_WRAP))
ECDH_SHA256 = asn1.encode_der(WithParameters(algorithm=_ECDH_SHA256, parameters=tlv(AES256_WRAP)))


def wrap(
    key: bytes, public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, name: IssuerAndSerial | bytes
) -> KeyTransport | KeyAgreement:
    """Wrap a content key. name: of the recipient, bytes being the identifier of the key."""
    if isinstance(public, rsa.RSAPublicKey):
        return KeyTransport(
            version=2 if isinstance(name, bytes) else 0, rid=name, algorithm=tlv(OAEP_SHA256),
            key=public.encrypt(key, OAEP),
        )  # fmt: skip
    once = ec.generate_private_key(public.curve)  # for this message alone
    point = once.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    originator = asn1.encode_der(_Originator(key=_EphemeralKey(
        algorithm=Plain(algorithm=_EC_KEY), key=asn1.BitString(point, 0))))
    kek = wrapping_key(once.exchange(ec.ECDH(), public))
    return KeyAgreement(
        version=3, originator=tlv(_content_of(originator)), algorithm=tlv(ECDH_SHA256),
        keys=[WrappedKey(
            rid=KeyIdentifier(identifier=name) if isinstance(name, bytes) else name,
            key=keywrap.aes_key_wrap(kek, key),
        )],
    )  # fmt: skip


def recipient_info(wrapped: KeyTransport | KeyAgreement) -> bytes:
    """Return the RecipientInfo, DER, in which a key agreement has the tag [1]."""
    der = asn1.encode_der(wrapped)
    return der if isinstance(wrapped, KeyTransport) else b"\xa1" + der[1:]


def wrapping_key(
    secret: bytes, digest: hashes.HashAlgorithm = OAEP.algorithm, how: bytes = AES256_WRAP,
    size: int = KEY_SIZE, entropy: bytes | None = None,
) -> bytes:
    """Return the key that ECDH gives to wrap with.

    how, size: AlgorithmIdentifier of the key wrap, DER, and the bytes of its key. entropy: what
    else the sender put in (ukm). Raises ValueError for what is not DER."""
    info = asn1.encode_der(_SharedInfo(
        algorithm=tlv(how), entropy=entropy, size=(8 * size).to_bytes(4, "big")))
    return X963KDF(digest, size, info).derive(secret)


def exchanged(private: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    """Return the secret that ECDH gives with the originator's point; raises ValueError for one
    that is not on the key's curve."""
    public = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, point)
    return private.exchange(ec.ECDH(), public)


def point_of(agreement: KeyAgreement) -> bytes:
    """Return the originator's point; raises ValueError for any other originator."""
    inner = asn1.encode_der(agreement.originator)
    found = asn1.decode_der(_Originator, b"\x30" + length(len(inner)) + inner).key
    if found.algorithm.algorithm != _EC_KEY or found.key.padding_bits():
        raise ValueError("the originator is no point")
    return found.key.as_bytes()


def _content_of(sequence: bytes) -> bytes:
    """What stands in a short SEQUENCE of one element."""
    return sequence[2 if sequence[1] < 0x80 else 3 :]
