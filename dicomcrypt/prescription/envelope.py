"""CMS AuthEnvelopedData (RFC 5083): content under a fresh AES-256-GCM key (RFC 5084), that key
wrapped for each recipient by RSAES-OAEP with SHA-256 (RFC 4056) or ECDH with the X9.63 derivation
of SHA-256 and AES-256 key wrap (RFC 5753). `openssl cms -decrypt` reads it.

Recipients are named by the identifier of their key, which tells no name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any

from cryptography import x509
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from .. import policy
from ..card.status import StatusWord
from ..errors import CardStatusError, DamagedError, NoIdentityError, UsageError
from ..keys.cms import certificate_key
from ..keys.cms_structures import (
    DATA,
    IssuerAndSerial,
    Plain,
    WithNull,
    encoded,
    length,
    oid,
    tlv,
)
from ..pki import names
from ..pki.files import PARSE_ERRORS
from ..pki.profiles import CURVES
from ..policy.names import of_key
from .holders import Holder
from .signed import MAX_MESSAGE, subject_key_identifier

_MAX_RECIPIENTS = 16
_KEY, _NONCE, _TAG = 32, 12, 16
AUTH_ENVELOPED = oid("1.2.840.113549.1.9.16.1.23")
_AES_GCM, _AES_WRAP = oid("2.16.840.1.101.3.4.1.46"), oid("2.16.840.1.101.3.4.1.45")
_OAEP, _MGF1 = oid("1.2.840.113549.1.1.7"), oid("1.2.840.113549.1.1.8")
_SHA256, _ECDH = oid("2.16.840.1.101.3.4.2.1"), oid("1.3.132.1.11.1")
_EC_KEY = oid("1.2.840.10045.2.1")


# ---- RFC 5652, 5083, 5084, 5753 --------------------------------------------------


@asn1.sequence
class _WithParameters:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class _OaepParameters:
    digest: Annotated[WithNull, asn1.Explicit(0)]
    mask: Annotated[_WithParameters, asn1.Explicit(1)]


@asn1.sequence
class _GcmParameters:
    nonce: bytes
    tag: int


@asn1.sequence
class _KeyTransport:
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
class _KeyIdentifier:
    identifier: bytes


@asn1.sequence
class _WrappedKey:
    rid: IssuerAndSerial | Annotated[_KeyIdentifier, asn1.Implicit(0)]
    key: bytes


@asn1.sequence
class _KeyAgreement:
    version: int
    originator: Annotated[asn1.TLV, asn1.Explicit(0)]
    algorithm: _WithParameters
    keys: list[_WrappedKey]


@asn1.sequence
class _SharedInfo:
    """ECC-CMS-SharedInfo of RFC 5753 section 7.2."""

    algorithm: Plain
    size: Annotated[bytes, asn1.Explicit(2)]


@asn1.sequence
class _Encrypted:
    type: x509.ObjectIdentifier
    algorithm: _WithParameters
    content: Annotated[bytes, asn1.Implicit(0)]


@asn1.sequence
class _AuthEnveloped:
    version: int
    recipients: asn1.SetOf[_KeyTransport | Annotated[_KeyAgreement, asn1.Implicit(1)]]
    encrypted: _Encrypted
    tag: bytes


@asn1.sequence
class _ContentInfo:
    type: x509.ObjectIdentifier
    content: Annotated[_AuthEnveloped, asn1.Explicit(0)]


_DIGEST = WithNull(algorithm=_SHA256, parameters=asn1.Null())
_OAEP_IDENTIFIER = asn1.encode_der(_WithParameters(
    algorithm=_OAEP, parameters=tlv(asn1.encode_der(_OaepParameters(
        digest=_DIGEST,
        mask=_WithParameters(algorithm=_MGF1, parameters=tlv(asn1.encode_der(_DIGEST))),
    )))))  # fmt: skip
_WRAP = Plain(algorithm=_AES_WRAP)
_ECDH_IDENTIFIER = asn1.encode_der(
    _WithParameters(algorithm=_ECDH, parameters=tlv(asn1.encode_der(_WRAP)))
)
_SHARED = asn1.encode_der(_SharedInfo(algorithm=_WRAP, size=(8 * _KEY).to_bytes(4, "big")))
_PADDING = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


# ---- making --------------------------------------------------------------------


def seal(content: bytes, recipients: Iterable[x509.Certificate]) -> bytes:
    """Return content as DER that the holders of these certificates' keys can open.

    Raises UsageError for keys other than RSA and P-256, P-384, P-521, and for no recipient;
    PolicyError for a key that is too weak. Whether the certificates are good is not asked here."""
    certificates = list(dict.fromkeys(recipients))
    if not 1 <= len(certificates) <= _MAX_RECIPIENTS:
        raise UsageError(f"from 1 to {_MAX_RECIPIENTS} recipients are needed")
    policy.current().require("aes-256-gcm", "encrypt")
    key, nonce = AESGCM.generate_key(8 * _KEY), os.urandom(_NONCE)
    sealed = AESGCM(key).encrypt(nonce, content, None)
    parameters = tlv(asn1.encode_der(_GcmParameters(nonce=nonce, tag=_TAG)))
    return asn1.encode_der(_ContentInfo(type=AUTH_ENVELOPED, content=_AuthEnveloped(
        version=0, recipients=asn1.SetOf([_wrap(key, c) for c in certificates]),
        encrypted=_Encrypted(
            type=DATA, algorithm=_WithParameters(algorithm=_AES_GCM, parameters=parameters),
            content=sealed[:-_TAG],
        ),
        tag=sealed[-_TAG:],
    )))  # fmt: skip


def _wrap(key: bytes, certificate: x509.Certificate) -> Any:
    public = certificate_key(certificate)
    named = of_key(public, signs=False)
    if named.algorithm.startswith(("rsa-", "hpke-")):  # hpke-p256 stands for ECDH on P-256
        policy.current().require(named.algorithm, "encrypt", named.bits)
    identifier = subject_key_identifier(certificate)
    issuer = IssuerAndSerial(issuer=tlv(certificate.issuer.public_bytes()),
                             serial=certificate.serial_number)
    if isinstance(public, rsa.RSAPublicKey):
        return _KeyTransport(
            version=0 if identifier is None else 2,
            rid=issuer if identifier is None else identifier,
            algorithm=tlv(_OAEP_IDENTIFIER), key=public.encrypt(key, _PADDING),
        )
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES:
        ephemeral = ec.generate_private_key(public.curve)
        point = ephemeral.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        originator = asn1.encode_der(_Originator(key=_EphemeralKey(
            algorithm=Plain(algorithm=_EC_KEY), key=asn1.BitString(point, 0))))
        return _KeyAgreement(
            version=3, originator=tlv(_content_of(originator)),
            algorithm=asn1.decode_der(_WithParameters, _ECDH_IDENTIFIER),
            keys=[_WrappedKey(
                rid=issuer if identifier is None else _KeyIdentifier(identifier=identifier),
                key=keywrap.aes_key_wrap(_derive(ephemeral.exchange(ec.ECDH(), public)), key),
            )],
        )
    raise UsageError(f"the key of certificate {names.label(certificate)} is of a kind that "
                     "prescriptions are not wrapped to: RSA, P-256, P-384 or P-521 is meant")


def _content_of(sequence: bytes) -> bytes:
    """What stands in a short SEQUENCE of one element."""
    return sequence[2 if sequence[1] < 0x80 else 3 :]


def _derive(secret: bytes) -> bytes:
    return X963KDF(hashes.SHA256(), _KEY, _SHARED).derive(secret)


# ---- opening -------------------------------------------------------------------


def _wrong(what: str) -> DamagedError:
    return DamagedError(f"the envelope is damaged: {what}")


def is_envelope(der: bytes) -> bool:
    """Whether DER begins as an AuthEnvelopedData does."""
    return asn1.encode_der(AUTH_ENVELOPED) in der[:24]


def is_for(der: bytes, certificate: x509.Certificate) -> bool:
    """Whether an envelope is wrapped for a certificate. Raises DamagedError."""
    return _for(_parse(der), certificate) is not None


def open_envelope(der: bytes, holder: Holder) -> bytes:
    """Return the content that was wrapped for a holder.

    Raises NoIdentityError if it was wrapped for others, DamagedError for what is not whole."""
    enveloped = _parse(der)
    wrapped = _for(enveloped, holder.certificate)
    if wrapped is None:
        raise NoIdentityError("the prescription is not encrypted to the key of certificate "
                              f"{names.label(holder.certificate)}: it is for somebody else")
    try:
        key = _unwrap(wrapped, holder)
    except (ValueError, keywrap.InvalidUnwrap):
        raise _wrong("its key does not unwrap") from None
    except CardStatusError as error:
        if error.status != StatusWord.WRONG_PARAMETERS:
            raise
        raise _wrong("its key does not unwrap") from None
    parameters = asn1.decode_der(_GcmParameters, encoded(enveloped.encrypted.algorithm.parameters))
    if len(key) != _KEY:
        raise _wrong("its key is of another size")
    try:
        return AESGCM(key).decrypt(
            parameters.nonce, enveloped.encrypted.content + enveloped.tag, None
        )
    except InvalidTag:
        raise _wrong("its content was changed") from None


def recipients_of(der: bytes) -> list[bytes]:
    """Return the identifiers of the keys that an envelope is wrapped to, as everybody sees them."""
    found = []
    for recipient in _parse(der).recipients.as_list():
        rids = [recipient.rid] if isinstance(recipient, _KeyTransport) else [
            one.rid.identifier for one in recipient.keys if isinstance(one.rid, _KeyIdentifier)]
        found += [rid for rid in rids if isinstance(rid, bytes)]
    return found


def _parse(der: bytes) -> _AuthEnveloped:
    if len(der) > MAX_MESSAGE:
        raise _wrong("it is too large")
    try:
        info = asn1.decode_der(_ContentInfo, der)
        enveloped = info.content
        algorithm = enveloped.encrypted.algorithm
        parameters = asn1.decode_der(_GcmParameters, encoded(algorithm.parameters))
    except (*PARSE_ERRORS, UnsupportedAlgorithm):
        raise _wrong("it is not as it must be") from None
    if (info.type != AUTH_ENVELOPED or enveloped.version != 0 or enveloped.encrypted.type != DATA
            or algorithm.algorithm != _AES_GCM or parameters.tag != _TAG
            or len(parameters.nonce) != _NONCE or len(enveloped.tag) != _TAG
            or not 1 <= len(enveloped.recipients.as_list()) <= _MAX_RECIPIENTS):
        raise _wrong("it is not as it must be")
    return enveloped


def _for(enveloped: _AuthEnveloped, certificate: x509.Certificate) -> Any:
    """Return what was wrapped for a certificate; of a key agreement, (it, the wrapped key)."""
    own = subject_key_identifier(certificate)

    def fits(rid: Any) -> bool:
        if isinstance(rid, IssuerAndSerial):
            return (encoded(rid.issuer), rid.serial) == (
                certificate.issuer.public_bytes(), certificate.serial_number)
        return own is not None and own == (rid if isinstance(rid, bytes) else rid.identifier)

    for recipient in enveloped.recipients.as_list():
        if isinstance(recipient, _KeyTransport):
            if fits(recipient.rid):
                return recipient
        else:
            for one in recipient.keys:
                if fits(one.rid):
                    return recipient, one.key
    return None


def _unwrap(wrapped: Any, holder: Holder) -> bytes:
    if isinstance(wrapped, _KeyTransport):
        named = isinstance(wrapped.rid, IssuerAndSerial)
        if (encoded(wrapped.algorithm) != _OAEP_IDENTIFIER or wrapped.version != (0 if named else 2)
                or not isinstance(holder.key, rsa.RSAPrivateKey)):
            raise _wrong("its key is wrapped in a way that is not taken")
        policy.current().require("rsa-oaep-sha256", "decrypt", holder.key.key_size)
        return holder.key.decrypt(wrapped.key, _PADDING)
    agreement, key = wrapped
    inner = encoded(agreement.originator)
    originator = asn1.decode_der(_Originator, b"\x30" + length(len(inner)) + inner)
    if (encoded(agreement.algorithm) != _ECDH_IDENTIFIER or agreement.version != 3
            or originator.key.algorithm.algorithm != _EC_KEY or originator.key.key.padding_bits()
            or not isinstance(holder.key, ec.EllipticCurvePrivateKey)):
        raise _wrong("its key is wrapped in a way that is not taken")
    public = ec.EllipticCurvePublicKey.from_encoded_point(
        holder.key.curve, originator.key.key.as_bytes()
    )
    return keywrap.aes_key_unwrap(_derive(holder.key.exchange(ec.ECDH(), public)), key)

