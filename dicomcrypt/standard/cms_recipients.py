"""Recipients of CMS messages (RFC 5652 section 6.2) and who can open them: content keys are wrapped
for certificates by RSAES-OAEP (RFC 4056, RFC 3560) or, where it is asked for, PKCS #1 v1.5, or by
ECDH (RFC 5753), and unwrapped with their private keys. `cms_password` has passwords.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from .. import policy
from ..errors import NoIdentityError, PolicyError, UsageError
from . import ber
from .ber import Element, damaged, integer, octets, oid, sequence, tlv

KEY_SIZE = 32
#: Of a message: each costs whoever opens it up to `cms_password.MOST_ITERATIONS`.
MAX_PASSWORDS = 4
_WRAPS = {oid(f"2.16.840.1.101.3.4.1.{n}"): size for n, size in ((5, 16), (25, 24), (45, 32))}
_AES256_WRAP = oid("2.16.840.1.101.3.4.1.45")
_RSA, _OAEP, _MGF1 = (oid(f"1.2.840.113549.1.1.{n}") for n in (1, 7, 8))
_P_SPECIFIED = oid("1.2.840.113549.1.1.9")
_DIGESTS: dict[bytes, Any] = {
    oid("1.3.14.3.2.26"): hashes.SHA1,
    **{oid(f"2.16.840.1.101.3.4.2.{n}"): kind for n, kind in
       ((1, hashes.SHA256), (2, hashes.SHA384), (3, hashes.SHA512), (4, hashes.SHA224))},
}  # fmt: skip
_SHA256 = oid("2.16.840.1.101.3.4.2.1")
#: dhSinglePass-stdDH with the KDF of X9.63 (RFC 5753 section 7.1.4, RFC 8551 for SHA-1).
_ECDH: dict[bytes, Any] = {
    oid("1.3.133.16.840.63.0.2"): hashes.SHA1,
    **{oid(f"1.3.132.1.11.{n}"): kind for n, kind in
       ((0, hashes.SHA224), (1, hashes.SHA256), (2, hashes.SHA384), (3, hashes.SHA512))},
}  # fmt: skip
_ECDH_SHA256 = oid("1.3.132.1.11.1")
_EC_KEY = oid("1.2.840.10045.2.1")
_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


@functools.cache
def _oaep(digest: Any, label: bytes | None = None, mask: Any = None) -> padding.OAEP:
    return padding.OAEP(padding.MGF1((mask or digest)()), digest(), label)


class Recipient(Protocol):
    """Wraps content keys. version: of its RecipientInfo."""

    version: int

    def info(self, key: bytes) -> bytes:
        """Return the RecipientInfo, DER, that takes this content key along."""


def _issuer_and_serial(certificate: x509.Certificate) -> bytes:
    return sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))


class CertificateRecipient:
    """A person by certificate: RSA of at least 2048 bits, or a key on P-256, P-384 or P-521.

    classic: PKCS #1 v1.5 instead of OAEP, for readers that know no other. Raises PolicyError for
    what the policy does not permit, UsageError for a key of another kind.
    """

    def __init__(self, certificate: x509.Certificate, *, classic: bool = False) -> None:
        self.certificate, self._classic = certificate, classic
        self._key = certificate.public_key()
        self._name = _issuer_and_serial(certificate)
        if isinstance(self._key, rsa.RSAPublicKey):
            self.version = 0
            name = "cms-rsa-pkcs1v15" if classic else "rsa-oaep-sha256"
            policy.current().require(name, "encrypt", self._key.key_size, kind="CMS")
        elif (
            isinstance(self._key, ec.EllipticCurvePublicKey) and self._key.curve.name in _CURVES
        ):
            self.version = 3
            policy.current().require(f"cms-ecdh-{_CURVES[self._key.curve.name]}", "encrypt",
                                     kind="CMS")
        else:
            raise UsageError(f"certificate {certificate.serial_number:x}: CMS needs an RSA key or "
                             "one on P-256, P-384 or P-521")

    def __repr__(self) -> str:
        return f"CertificateRecipient({self.certificate.serial_number:x})"

    def __reduce__(self):
        return _recipient_again, (self.certificate.public_bytes(Encoding.DER), self._classic)

    def info(self, key: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPublicKey):
            return self._transported(key)
        return self._agreed(key)

    def _transported(self, key: bytes) -> bytes:
        """KeyTransRecipientInfo."""
        if self._classic:
            how = _RSA_CLASSIC
            wrapped = self._key.encrypt(key, padding.PKCS1v15())
        else:
            how, wrapped = _OAEP_SHA256, self._key.encrypt(key, _oaep(hashes.SHA256))
        return sequence(integer(0), self._name, how, octets(wrapped))

    def _agreed(self, key: bytes) -> bytes:
        """KeyAgreeRecipientInfo with a key pair for this message alone."""
        once = ec.generate_private_key(self._key.curve)
        point = once.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        wrap = sequence(_AES256_WRAP)
        kek = _kek(once.exchange(ec.ECDH(), self._key), hashes.SHA256, wrap, KEY_SIZE, None)
        return tlv(
            0xA1, integer(3),
            tlv(0xA0, tlv(0xA1, sequence(_EC_KEY), tlv(0x03, b"\0", point))),
            sequence(_ECDH_SHA256, wrap),
            sequence(sequence(self._name, octets(aes_key_wrap(kek, key)))),
        )  # fmt: skip


_RSA_CLASSIC = sequence(_RSA, ber.NULL_DER)
_OAEP_SHA256 = sequence(_OAEP, sequence(
    tlv(0xA0, sequence(_SHA256, ber.NULL_DER)),
    tlv(0xA1, sequence(_MGF1, sequence(_SHA256, ber.NULL_DER))),
))  # fmt: skip


def _recipient_again(der: bytes, classic: bool) -> CertificateRecipient:
    return CertificateRecipient(x509.load_der_x509_certificate(der), classic=classic)


def _kek(shared: bytes, digest: Any, wrap: bytes, size: int, ukm: bytes | None) -> bytes:
    """The key that ECDH gives to wrap with: ECC-CMS-SharedInfo, RFC 5753 section 7.2."""
    info = sequence(
        wrap, *([] if ukm is None else [tlv(0xA0, octets(ukm))]),
        tlv(0xA2, octets((8 * size).to_bytes(4, "big"))),
    )  # fmt: skip
    return X963KDF(digest(), size, info).derive(shared)


# ---- opening -------------------------------------------------------------------


class CertificateKey(NamedTuple):
    """A private key of `cryptography`, or what does as it does (`standard.cms_token`), and its
    certificate if that is known."""

    private: Any
    certificate: x509.Certificate | None = None

    def __reduce__(self):
        der = self.certificate and self.certificate.public_bytes(Encoding.DER)
        return _key_again, (self.private.private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), der)


def _key_again(private: bytes, der: bytes | None) -> CertificateKey:
    return CertificateKey(load_der_private_key(private, None),
                          der and x509.load_der_x509_certificate(der))


class Opening(NamedTuple):
    """Who can open messages: keys, and passwords as bytes."""

    keys: tuple[CertificateKey, ...] = ()
    passwords: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Opening({len(self.keys)} keys, {len(self.passwords)} passwords)"


def content_key(infos: Sequence[Element], size: int, opening: Opening) -> bytes:
    """Return the content key that one of these keys or passwords unwraps.

    Raises NoIdentityError if none fits."""
    return next(content_keys(infos, size, opening))


def content_keys(infos: Sequence[Element], size: int, opening: Opening) -> Iterator[bytes]:
    """Yield what may be the content key, the next one if the content does not open with it: with
    PKCS #1 v1.5 and a key without its certificate nothing else tells whose a wrapped key is.

    Raises NoIdentityError if none fits, PolicyError for over `MAX_PASSWORDS` of them."""
    found = None
    if opening.passwords and sum(info.tag == 0xA3 for info in infos) > MAX_PASSWORDS:
        raise PolicyError(f"the CMS message has over {MAX_PASSWORDS} passwords: refused")
    for info in infos:
        if info.tag == ber.SEQUENCE:
            key = _from_transport(info, size, opening.keys)
        elif info.tag == 0xA1:
            key = _from_agreement(info, size, opening.keys)
        elif info.tag == 0xA3 and opening.passwords:
            from .cms_password import unwrap

            key = unwrap(info, size, opening.passwords)
        else:
            continue
        if key is not None:
            found = key
            yield key
    if found is None:
        raise NoIdentityError("no identity fits the CMS message: give the private key of one of "
                              "its recipients, or its password")


def _named(identifier: Element, key: CertificateKey) -> bool | None:
    """Whether a RecipientIdentifier means this key; None if nobody can say."""
    if key.certificate is None:
        return None
    if identifier.tag == ber.SEQUENCE:
        return identifier.whole == _issuer_and_serial(key.certificate)
    own = key.certificate.extensions
    try:
        found = own.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        found = x509.SubjectKeyIdentifier.from_public_key(key.certificate.public_key()).digest
    return hmac.compare_digest(found, identifier.content)


def _from_transport(info: Element, size: int, keys: Iterable[CertificateKey]) -> bytes | None:
    _, identifier, how, wrapped = exactly(info.children(), 4)
    for key in keys:
        if not isinstance(key.private.public_key(), rsa.RSAPublicKey):
            continue
        meant = _named(identifier, key)
        if meant is False or len(wrapped.content) != (key.private.key_size + 7) // 8:
            continue
        name, padded = _transport(how)
        policy.current().require(name, "decrypt", key.private.key_size)
        try:
            found = key.private.decrypt(wrapped.content, padded)
        except ValueError:
            found = b""
        if len(found) == size:
            return found
        if name == "cms-rsa-pkcs1v15":
            # What a padding oracle could ask is not answered: the content fails, as it would
            # with a wrong key (RFC 3218).
            return os.urandom(size)
    return None


def _transport(how: Element) -> tuple[str, Any]:
    """The name and padding of an RSA key transport; raises DamagedError."""
    identifier, *rest = how.children()
    if identifier.whole == _RSA:
        return "cms-rsa-pkcs1v15", padding.PKCS1v15()
    if identifier.whole != _OAEP or len(rest) > 1:
        raise PolicyError("the CMS message's key is wrapped in a way that is not known here")
    digest = mask = hashes.SHA1
    label = None
    for part in rest[0].children() if rest else ():
        (inner,) = exactly(part.children(), 1)
        names = inner.children()
        if part.tag == 0xA0:
            digest = _DIGESTS.get(names[0].whole) if names else None
        elif part.tag == 0xA1:
            if len(names) != 2 or names[0].whole != _MGF1:
                raise damaged()
            masks = names[1].children()
            mask = _DIGESTS.get(masks[0].whole) if masks else None
        elif part.tag == 0xA2 and len(names) == 2 and names[0].whole == _P_SPECIFIED:
            label = names[1].content
        if digest is None or mask is None:
            raise damaged("its digest is not known here")
    name = "rsa-oaep-sha1" if hashes.SHA1 in (digest, mask) else "rsa-oaep-sha256"
    return name, _oaep(digest, label or None, mask)


def _from_agreement(info: Element, size: int, keys: Iterable[CertificateKey]) -> bytes | None:
    parts = info.children()
    if len(parts) < 4:
        raise damaged()
    parts.pop(0)
    originator, ukm = parts.pop(0), None
    if parts[0].tag == 0xA1:
        ukm = parts.pop(0).children()[0].octets()
    how, wrapped_keys = exactly(parts, 2)
    identifier, wrap = exactly(how.children(), 2)
    digest = _ECDH.get(identifier.whole)
    wrap_name = wrap.children()
    wrap_size = _WRAPS.get(wrap_name[0].whole) if wrap_name else None
    if digest is None or wrap_size is None:
        raise PolicyError("the CMS message's key is agreed on in a way that is not known here")
    origin = originator.children()
    if len(origin) != 1 or origin[0].tag != 0xA1:
        return None  # a key of a certificate that is elsewhere
    _, point = exactly(origin[0].children(), 2)
    for wrapped in wrapped_keys.children():
        recipient, sealed = exactly(wrapped.children(), 2)
        for key in keys:
            if not isinstance(key.private.public_key(), ec.EllipticCurvePublicKey):
                continue
            if recipient.tag == 0xA0:  # RecipientKeyIdentifier
                recipient = recipient.children()[0]
            if _named(recipient, key) is False:
                continue
            curve = _CURVES.get(key.private.curve.name, "other")
            policy.current().require(f"cms-ecdh-{curve}", "decrypt")
            try:
                public = ec.EllipticCurvePublicKey.from_encoded_point(
                    key.private.curve, point.content[1:]
                )
                shared = key.private.exchange(ec.ECDH(), public)
                kek = _kek(shared, digest, wrap.whole, wrap_size, ukm)
                found = aes_key_unwrap(kek, sealed.content)
            except (ValueError, InvalidUnwrap):
                continue
            if len(found) == size:
                return found
    return None


def opening_of(keys: Iterable[Any], certificates: Iterable[x509.Certificate],
               passwords: Iterable[bytes] = ()) -> Opening:
    """Put private keys and the certificates that belong to them together."""
    def spki(key: Any) -> bytes:
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    known: dict[bytes, list[x509.Certificate]] = {}
    for certificate in certificates:
        known.setdefault(hashlib.sha256(spki(certificate.public_key())).digest(), []).append(
            certificate)
    found = []
    for key in keys:
        own = known.get(hashlib.sha256(spki(key.public_key())).digest(), [None])
        found += [CertificateKey(key, certificate) for certificate in own]
    return Opening(tuple(found), tuple(passwords))


def exactly(found: list[Element], count: int) -> list[Element]:
    """The elements, which must be so many; raises DamagedError."""
    if len(found) != count:
        raise damaged()
    return found
