"""CMS AuthEnvelopedData (RFC 5083): content under a fresh AES-256-GCM key (RFC 5084), that key
wrapped for each recipient by RSAES-OAEP with SHA-256 (RFC 4056) or ECDH with the X9.63 derivation
of SHA-256 and AES-256 key wrap (RFC 5753). `openssl cms -decrypt` reads it.

Recipients are named by the identifier of their key, which tells no name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .. import policy
from ..card.status import StatusWord
from ..errors import CardStatusError, DamagedError, NoIdentityError, UsageError
from ..keys import cms_enveloping
from ..keys.cms import certificate_key
from ..keys.cms_enveloping import (
    CURVES,
    ECDH_SHA256,
    KEY_SIZE,
    OAEP,
    OAEP_SHA256,
    KeyAgreement,
    KeyIdentifier,
    KeyTransport,
    WithParameters,
    exchanged,
    point_of,
    wrapping_key,
)
from ..keys.cms_structures import DATA, IssuerAndSerial, encoded, issuer_and_serial, oid, tlv
from ..keys.extensions import key_identifier
from ..pki import names
from ..pki.files import PARSE_ERRORS
from .holders import Holder
from .signed import MAX_MESSAGE

_MAX_RECIPIENTS = 16
_NONCE, _TAG = 12, 16
AUTH_ENVELOPED = oid("1.2.840.113549.1.9.16.1.23")
_AES_GCM = oid("2.16.840.1.101.3.4.1.46")


# ---- RFC 5652, 5083, 5084 --------------------------------------------------------


@asn1.sequence
class _GcmParameters:
    nonce: bytes
    tag: int


@asn1.sequence
class _Encrypted:
    type: x509.ObjectIdentifier
    algorithm: WithParameters
    content: Annotated[bytes, asn1.Implicit(0)]


@asn1.sequence
class _AuthEnveloped:
    version: int
    recipients: asn1.SetOf[KeyTransport | Annotated[KeyAgreement, asn1.Implicit(1)]]
    encrypted: _Encrypted
    tag: bytes


@asn1.sequence
class _ContentInfo:
    type: x509.ObjectIdentifier
    content: Annotated[_AuthEnveloped, asn1.Explicit(0)]


# ---- making --------------------------------------------------------------------


def seal(content: bytes, recipients: Iterable[x509.Certificate]) -> bytes:
    """Return content as DER that the holders of these certificates' keys can open.

    Raises UsageError for keys other than RSA and P-256, P-384, P-521, and for no recipient;
    PolicyError for a key that is too weak. Whether the certificates are good is not asked here."""
    certificates = list(dict.fromkeys(recipients))
    if not 1 <= len(certificates) <= _MAX_RECIPIENTS:
        raise UsageError(f"from 1 to {_MAX_RECIPIENTS} recipients are needed")
    policy.current().require("aes-256-gcm", "encrypt")
    key, nonce = AESGCM.generate_key(8 * KEY_SIZE), os.urandom(_NONCE)
    sealed = AESGCM(key).encrypt(nonce, content, None)
    parameters = tlv(asn1.encode_der(_GcmParameters(nonce=nonce, tag=_TAG)))
    return asn1.encode_der(_ContentInfo(type=AUTH_ENVELOPED, content=_AuthEnveloped(
        version=0, recipients=asn1.SetOf([_wrap(key, c) for c in certificates]),
        encrypted=_Encrypted(
            type=DATA, algorithm=WithParameters(algorithm=_AES_GCM, parameters=parameters),
            content=sealed[:-_TAG],
        ),
        tag=sealed[-_TAG:],
    )))  # fmt: skip


def _wrap(key: bytes, certificate: x509.Certificate) -> KeyTransport | KeyAgreement:
    public = certificate_key(certificate)
    if isinstance(public, rsa.RSAPublicKey):
        policy.current().require("rsa-oaep-sha256", "encrypt", public.key_size)
    elif isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES:
        policy.current().require(f"cms-ecdh-{CURVES[public.curve.name]}", "encrypt")
    else:
        raise UsageError(f"the key of certificate {names.label(certificate)} is of a kind that "
                         "prescriptions are not wrapped to: RSA, P-256, P-384 or P-521 is meant")
    identifier = key_identifier(certificate.extensions)
    return cms_enveloping.wrap(
        key, public, issuer_and_serial(certificate) if identifier is None else identifier
    )


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
    if len(key) != KEY_SIZE:
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
        rids = [recipient.rid] if isinstance(recipient, KeyTransport) else [
            one.rid.identifier for one in recipient.keys if isinstance(one.rid, KeyIdentifier)]
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


def _for(
    enveloped: _AuthEnveloped, certificate: x509.Certificate
) -> KeyTransport | tuple[KeyAgreement, bytes] | None:
    """Return what was wrapped for a certificate; of a key agreement, (it, the wrapped key)."""
    own = key_identifier(certificate.extensions)

    def fits(rid: IssuerAndSerial | KeyIdentifier | bytes) -> bool:
        if isinstance(rid, IssuerAndSerial):
            return (encoded(rid.issuer), rid.serial) == (
                certificate.issuer.public_bytes(), certificate.serial_number)
        return own is not None and own == (rid if isinstance(rid, bytes) else rid.identifier)

    for recipient in enveloped.recipients.as_list():
        if isinstance(recipient, KeyTransport):
            if fits(recipient.rid):
                return recipient
        else:
            for one in recipient.keys:
                if fits(one.rid):
                    return recipient, one.key
    return None


def _unwrap(wrapped: KeyTransport | tuple[KeyAgreement, bytes], holder: Holder) -> bytes:
    if isinstance(wrapped, KeyTransport):
        named = isinstance(wrapped.rid, IssuerAndSerial)
        if (encoded(wrapped.algorithm) != OAEP_SHA256 or wrapped.version != (0 if named else 2)
                or not isinstance(holder.key, rsa.RSAPrivateKey)):
            raise _wrong("its key is wrapped in a way that is not taken")
        policy.current().require("rsa-oaep-sha256", "decrypt", holder.key.key_size)
        return holder.key.decrypt(wrapped.key, OAEP)
    agreement, key = wrapped
    if (encoded(agreement.algorithm) != ECDH_SHA256 or agreement.version != 3
            or not isinstance(holder.key, ec.EllipticCurvePrivateKey)
            or holder.key.curve.name not in CURVES):
        raise _wrong("its key is wrapped in a way that is not taken")
    policy.current().require(f"cms-ecdh-{CURVES[holder.key.curve.name]}", "decrypt")
    secret = exchanged(holder.key, point_of(agreement))
    return keywrap.aes_key_unwrap(wrapping_key(secret), key)
