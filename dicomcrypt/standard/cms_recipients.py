"""Recipients of CMS messages (RFC 5652 section 6.2) and who can open them: content keys are wrapped
for certificates as `keys.cms_enveloping` does or, where it is asked for, by PKCS #1 v1.5, and
unwrapped with their private keys as other writers may have wrapped them. `cms_password` has
passwords.
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
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from .. import policy
from ..errors import NoIdentityError, PolicyError, UsageError
from ..keys import cms_enveloping
from ..keys.cms_enveloping import CURVES, exchanged, wrapping_key
from ..keys.cms_structures import issuer_and_serial
from ..keys.spki import public_der
from . import ber
from .ber import Element, damaged, integer, octets, oid, sequence

#: Of a message: each costs whoever opens it up to `cms_password.MOST_ITERATIONS`.
MAX_PASSWORDS = 4
_WRAPS = {oid(f"2.16.840.1.101.3.4.1.{n}"): size for n, size in ((5, 16), (25, 24), (45, 32))}
#: Key sizes of AES in CBC, for contents and for passwords.
CBC_SIZES = {oid(f"2.16.840.1.101.3.4.1.{n}"): size for n, size in ((2, 16), (22, 24), (42, 32))}
AES256_CBC = oid("2.16.840.1.101.3.4.1.42")
_RSA, _OAEP, _MGF1 = (oid(f"1.2.840.113549.1.1.{n}") for n in (1, 7, 8))
_P_SPECIFIED = oid("1.2.840.113549.1.1.9")
_Hash = type[hashes.HashAlgorithm]
_DIGESTS: dict[bytes, _Hash] = {
    oid("1.3.14.3.2.26"): hashes.SHA1,
    **{oid(f"2.16.840.1.101.3.4.2.{n}"): kind for n, kind in
       ((1, hashes.SHA256), (2, hashes.SHA384), (3, hashes.SHA512), (4, hashes.SHA224))},
}  # fmt: skip
#: dhSinglePass-stdDH with the KDF of X9.63 (RFC 5753 section 7.1.4, RFC 8551 for SHA-1).
_ECDH: dict[bytes, _Hash] = {
    oid("1.3.133.16.840.63.0.2"): hashes.SHA1,
    **{oid(f"1.3.132.1.11.{n}"): kind for n, kind in
       ((0, hashes.SHA224), (1, hashes.SHA256), (2, hashes.SHA384), (3, hashes.SHA512))},
}  # fmt: skip


@functools.cache
def _oaep(digest: _Hash, label: bytes | None, mask: _Hash) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(mask()), digest(), label)


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
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            self.version = 0
            name = "cms-rsa-pkcs1v15" if classic else "rsa-oaep-sha256"
            policy.current().require(name, "encrypt", key.key_size, kind="CMS")
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
            self.version = 3
            policy.current().require(f"cms-ecdh-{CURVES[key.curve.name]}", "encrypt", kind="CMS")
        else:
            raise UsageError(f"certificate {certificate.serial_number:x}: CMS needs an RSA key or "
                             "one on P-256, P-384 or P-521")
        self._key = key

    def __repr__(self) -> str:
        return f"CertificateRecipient({self.certificate.serial_number:x})"

    def __reduce__(self) -> tuple[object, ...]:
        return _recipient_again, (self.certificate.public_bytes(Encoding.DER), self._classic)

    def info(self, key: bytes) -> bytes:
        if self._classic and isinstance(self._key, rsa.RSAPublicKey):
            wrapped = octets(self._key.encrypt(key, padding.PKCS1v15()))
            name = _issuer_and_serial(self.certificate)
            return sequence(integer(0), name, sequence(_RSA, ber.NULL_DER), wrapped)
        return cms_enveloping.recipient_info(
            cms_enveloping.wrap(key, self._key, issuer_and_serial(self.certificate)))


def _recipient_again(der: bytes, classic: bool) -> CertificateRecipient:
    return CertificateRecipient(x509.load_der_x509_certificate(der), classic=classic)


# ---- opening -------------------------------------------------------------------


class CertificateKey(NamedTuple):
    """A private key of `cryptography`, or what does as it does (`standard.cms_token`), and its
    certificate if that is known."""

    private: Any
    certificate: x509.Certificate | None = None

    def __reduce__(self) -> tuple[object, ...]:
        der = self.certificate and self.certificate.public_bytes(Encoding.DER)
        return _key_again, (self.private.private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), der)


def _key_again(private: bytes, der: bytes | None) -> CertificateKey:
    return CertificateKey(load_der_private_key(private, None),
                          None if der is None else x509.load_der_x509_certificate(der))


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
            found: bytes = key.private.decrypt(wrapped.content, padded)
        except ValueError:
            found = b""
        if len(found) == size:
            return found
        if name == "cms-rsa-pkcs1v15":
            # What a padding oracle could ask is not answered: the content fails, as it would
            # with a wrong key (RFC 3218).
            return os.urandom(size)
    return None


def _transport(how: Element) -> tuple[str, padding.AsymmetricPadding]:
    """The name and padding of an RSA key transport; raises DamagedError."""
    identifier, *rest = how.children()
    if identifier.whole == _RSA:
        return "cms-rsa-pkcs1v15", padding.PKCS1v15()
    if identifier.whole != _OAEP or len(rest) > 1:
        raise PolicyError("the CMS message's key is wrapped in a way that is not known here")
    digest: _Hash | None = hashes.SHA1
    mask: _Hash | None = hashes.SHA1
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
        (inside,) = exactly(parts.pop(0).children(), 1)
        ukm = inside.octets()
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
        if recipient.tag == 0xA0:  # RecipientKeyIdentifier, perhaps with more behind
            recipient, *_ = recipient.children() or [recipient]
        for key in keys:
            if not isinstance(key.private.public_key(), ec.EllipticCurvePublicKey):
                continue
            if _named(recipient, key) is False:
                continue
            curve = CURVES.get(key.private.curve.name, "other")
            policy.current().require(f"cms-ecdh-{curve}", "decrypt")
            try:
                secret = exchanged(key.private, point.content[1:])
                kek = wrapping_key(secret, digest(), wrap.whole, wrap_size, ukm)
                found = aes_key_unwrap(kek, sealed.content)
            except (ValueError, InvalidUnwrap):
                continue
            if len(found) == size:
                return found
    return None


def opening_of(keys: Iterable[Any], certificates: Iterable[x509.Certificate],
               passwords: Iterable[bytes] = ()) -> Opening:
    """Put private keys and the certificates that belong to them together."""
    known: dict[bytes, list[x509.Certificate]] = {}
    for certificate in certificates:
        known.setdefault(hashlib.sha256(public_der(certificate.public_key())).digest(), []).append(
            certificate)
    found = []
    for key in keys:
        own = known.get(hashlib.sha256(public_der(key.public_key())).digest(), [None])
        found += [CertificateKey(key, certificate) for certificate in own]
    return Opening(tuple(found), tuple(passwords))


def exactly(found: list[Element], count: int) -> list[Element]:
    """The elements, which must be so many; raises DamagedError."""
    if len(found) != count:
        raise damaged()
    return found
