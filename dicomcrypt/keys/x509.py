"""Recipients and identities from files of other programs: X.509 certificates (RFC 5280), public and
private keys, in PEM (RFC 7468), DER and PKCS #12 (RFC 7292).

What a certificate says of itself is heeded here: a keyUsage that forbids encryption is refused.
Whether it is to be believed (chain, dates, revocation) is checked by who knows trust anchors; for
that a recipient keeps its `certificate` and the `chain` that came with it.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
    pkcs12,
)
from cryptography.utils import CryptographyDeprecationWarning

from ..errors import DamagedError, DicomcryptError, NoIdentityError, PolicyError, UsageError
from . import extensions, guarded
from .extensions import extension
from .spki import WHICH, identity_of, public_der, recipient_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from .hpke import HpkeIdentity
    from .keypair import PublicHalf
    from .rsa import RsaIdentity

#: Asks for the passphrase of a file.
Ask = Callable[[], str]
MOST_BLOCKS = 256
_LABEL = re.compile(rb"[A-Z0-9 ]{1,40}(?=-----\s)")
_BEGIN = b"-----BEGIN "
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")
_PUBLIC = (b"PUBLIC KEY", b"RSA PUBLIC KEY")
_PRIVATE = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")
_PSS_ONLY = x509.ObjectIdentifier("1.2.840.113549.1.1.10")
_PKCS5, _PKCS12 = bytes.fromhex("2a864886f70d0105"), bytes.fromhex("2a864886f70d010c")
_PSS_ONLY_DER = bytes.fromhex("06092a864886f70d01010a")
_FAULTS = (ValueError, TypeError, KeyError, UnsupportedAlgorithm, OverflowError,
           x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)
_PRIVATE_HERE = "a secret key is in it: give its certificate or public key alone"
_CUT = "malformed, or of a kind that is not known here: was it copied whole?"


class Found(NamedTuple):
    """What a file holds. meant: the certificate that PKCS #12 keeps with its key."""

    certificates: list[x509.Certificate]
    public_keys: list[Any]
    private_keys: list[Any]
    meant: x509.Certificate | None = None


def recipients_in(data: bytes, ask: Ask | None = None) -> list[PublicHalf]:
    """Return the recipients of a file of certificates or public keys.

    ask: gives the passphrase of a PKCS #12 file that needs one. Of several certificates those of
    persons are meant, all of them; those of CAs are their chain.
    Raises UsageError, PolicyError, NoIdentityError for a wrong passphrase, DamagedError for a
    malformed certificate.
    """
    found = read(data, ask, private=False)
    recipients = [recipient_of(key) for key in found.public_keys]
    if found.meant is not None:
        chain = [c for c in found.certificates if c != found.meant]
        recipients.append(from_certificate(found.meant, chain))
    elif found.certificates:
        recipients += from_certificates(found.certificates)
    if not recipients:
        raise UsageError("no certificate and no public key in it")
    return recipients


def identities_in(data: bytes, ask: Ask | None = None) -> list[HpkeIdentity | RsaIdentity]:
    """Return the identities of a file of private keys; a certificate beside a key becomes its
    recipient's `certificate`, whatever it says; one that is malformed is passed over, since the key
    is what decrypts. Raises as `recipients_in`."""
    found = read(data, ask, lenient=True)
    if not found.private_keys:
        raise UsageError("no private key in it")
    identities = [identity_of(key) for key in found.private_keys]
    for identity, key in zip(identities, found.private_keys, strict=True):
        own = public_der(key.public_key())
        for certificate in found.certificates:
            if _public_der(certificate) == own:
                identity.recipient.certificate = certificate
                identity.recipient.chain = tuple(
                    c for c in found.certificates if _public_der(c) != own
                )
    return identities


# ---- certificates ---------------------------------------------------------


def from_certificates(certificates: Sequence[x509.Certificate]) -> list[PublicHalf]:
    """Return the recipients that a list of certificates means, in its order.

    Certificates of CAs are passed over unless one stands alone; so is one that forbids
    encryption where another of the same subject allows it (people have one to sign with).
    """
    leaves = [c for c in certificates if not is_authority(sound(c))]
    if len(certificates) == 1:
        leaves = list(certificates)
    if not leaves:
        raise UsageError("only certificates of CAs in it: none of them is a recipient's")
    chain = [c for c in certificates if c not in leaves]
    served = {c.subject.public_bytes() for c in leaves if usage_refusal(c) is None}
    return [
        from_certificate(c, chain) for c in leaves
        if usage_refusal(c) is None or c.subject.public_bytes() not in served
    ]  # fmt: skip


def from_certificate(
    certificate: x509.Certificate, chain: Iterable[x509.Certificate] = ()
) -> PublicHalf:
    """Return the recipient of a certificate; raises PolicyError if it forbids encryption."""
    refusal = usage_refusal(certificate)
    if refusal is not None:
        raise PolicyError(f"{named(certificate)}: {refusal}")
    recipient = recipient_of(_key_of(certificate))
    recipient.certificate, recipient.chain = certificate, tuple(chain)
    return recipient


def named(certificate: x509.Certificate) -> str:
    """A certificate for a message: by its number, as names may be patients'."""
    return f"certificate {certificate.serial_number:x}"


def usage_refusal(certificate: x509.Certificate) -> str | None:
    """Say why a certificate's key must not be encrypted to; None if it may.

    Without keyUsage it may. RSA and ML-KEM need keyEncipherment (RFC 8017 keys by RFC 5280
    section 4.2.1.3, RFC 9935), curves keyAgreement (RFC 8813, RFC 8410).
    """
    if certificate.public_key_algorithm_oid == _PSS_ONLY:
        return "its key is for RSA-PSS signatures alone"
    usage = extension(_extensions(certificate), x509.KeyUsage)
    if usage is None:
        return None
    key = _key_of(certificate)
    if isinstance(key, ec.EllipticCurvePublicKey | x25519.X25519PublicKey):
        allowed, wanted = usage.key_agreement, "keyAgreement"
    else:
        allowed, wanted = usage.key_encipherment, "keyEncipherment"
    return None if allowed else f"its keyUsage forbids encryption ({wanted} is not in it)"


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether basicConstraints say that it is a CA's."""
    return extensions.is_authority(_extensions(certificate))


def addresses(certificate: x509.Certificate) -> set[str]:
    """The e-mail addresses that a certificate is for, in lower case."""
    names = extension(_extensions(sound(certificate)), x509.SubjectAlternativeName)
    found = [] if names is None else names.get_values_for_type(x509.RFC822Name)
    found += [str(a.value) for a in
              certificate.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)]
    return {address.lower() for address in found}


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except _FAULTS:
        raise DamagedError(f"{named(certificate)} is malformed") from None


def _key_of(certificate: x509.Certificate) -> Any:
    try:
        return certificate.public_key()
    except UnsupportedAlgorithm:
        raise PolicyError(
            f"{named(certificate)}: its key is of a kind that is not known here: {WHICH}"
        ) from None
    except _FAULTS:
        raise DamagedError(f"{named(certificate)}: its key is malformed") from None


def _public_der(certificate: x509.Certificate) -> bytes | None:
    try:
        return public_der(certificate.public_key())
    except _FAULTS:
        return None


# ---- files ----------------------------------------------------------------


def read(
    data: bytes, ask: Ask | None = None, *, private: bool = True, lenient: bool = False
) -> Found:
    """Take a PEM, DER or PKCS #12 file apart; raises as `recipients_in`.

    private: whether private keys are looked for; otherwise one that is there raises UsageError,
    unless PKCS #12 has it beside a certificate. lenient: pass over malformed certificates."""
    with warnings.catch_warnings():  # what is odd but read, such as a serial number of zero
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return _read(data, ask, private, lenient)


def _read(data: bytes, ask: Ask | None, private: bool, lenient: bool) -> Found:
    if _BEGIN in data:
        return _read_pem(data, ask, private, lenient)
    shape = _shape(data)
    loaders: tuple[Callable[[bytes], x509.Certificate | PublicKeyTypes], ...] = (
        x509.load_der_x509_certificate, load_der_public_key,
    )  # fmt: skip
    for load in loaders:
        try:
            made = load(data)
        except UnsupportedAlgorithm:
            raise PolicyError(f"the key is of a kind that is not known here: {WHICH}") from None
        except _FAULTS:
            continue
        if isinstance(made, x509.Certificate):
            return Found([sound(made)], [], [])
        _refuse_pss(data)
        return Found([], [made], [])
    if shape == "pkcs12":
        return _read_pkcs12(data, ask, lenient)
    if shape == "certificate":
        raise DamagedError("the certificate is malformed: was it copied whole?")
    if shape == "public":
        raise UsageError(f"the public key is {_CUT}")
    if not private:
        raise UsageError(_PRIVATE_HERE if shape == "private" else f"a key or certificate, {_CUT}")
    return Found([], [], [_private_key(load_der_private_key, data, ask)])


def is_pkcs12(data: bytes) -> bool:
    """Whether DER or BER begins as PKCS #12 does (RFC 7292 section 4)."""
    return _shape(data) == "pkcs12"


def _shape(data: bytes) -> str:
    """What DER begins like, though the rest of it may be missing: certificate, public, private,
    pkcs12, or nothing that is known."""
    at = _content(data, 0)
    inner = data[at : at + 1]
    if data[:1] != b"\x30":
        return ""
    if inner == b"\x02":
        return "pkcs12" if data[at : at + 3] == b"\x02\x01\x03" else "private"
    if inner != b"\x30":
        return ""
    below = _content(data, at)
    if data[below : below + 1] == b"\xa0":
        return "certificate"
    if data[below : below + 1] != b"\x06":
        return ""
    # PKCS #5 and PKCS #12 name ways to encrypt a private key.
    encrypted = data[below + 2 :].startswith((_PKCS5, _PKCS12))
    return "private" if encrypted else "public"


def _content(data: bytes, at: int) -> int:
    """Where the content of the element begins that begins at `at`; BER allowed."""
    length = data[at + 1] if len(data) > at + 1 else 0
    return at + 2 + (length & 0x7F if length & 0x80 else 0)


def _refuse_pss(der: bytes) -> None:
    """The library forgets what a key is for; its algorithm identifier says it."""
    if _PSS_ONLY_DER in der[:32]:
        raise PolicyError("the key is for RSA-PSS signatures alone")


def sound(certificate: x509.Certificate) -> x509.Certificate:
    """Have all of a certificate parsed now: the library does some of it when it is asked.

    Raises DamagedError."""
    try:
        _ = certificate.extensions
        _ = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        _ = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    except _FAULTS:
        raise DamagedError(f"{named(certificate)} is malformed") from None
    return certificate


def _read_pem(data: bytes, ask: Ask | None, private: bool, lenient: bool) -> Found:
    found, parts = Found([], [], []), data.split(_BEGIN)[1:]
    if len(parts) > MOST_BLOCKS:
        raise UsageError(f"over {MOST_BLOCKS} keys and certificates in one file")
    for number, part in enumerate(parts, 1):
        match = _LABEL.match(part)
        label = match[0] if match is not None else b""
        end = b"-----END " + label + b"-----"
        if not label or end not in part:
            raise UsageError("a PEM block without its end: was it copied whole?")
        block = _BEGIN + part[: part.index(end)] + end + b"\n"
        name = label.decode().lower()
        try:
            if label in _CERTIFICATES:
                found.certificates.append(sound(x509.load_pem_x509_certificate(block)))
            elif label in _PUBLIC:
                _refuse_pss(base64.b64decode(b"".join(block.splitlines()[1:-1])))
                found.public_keys.append(load_pem_public_key(block))
            elif label in _PRIVATE:
                if not private:
                    raise UsageError(_PRIVATE_HERE)
                found.private_keys.append(_private_key(load_pem_private_key, block, ask))
            elif label not in (b"EC PARAMETERS", b"DH PARAMETERS"):
                raise UsageError(f"a PEM block of the kind {name!r} is no key and no certificate")
        except DamagedError:
            if not lenient:
                raise
        except DicomcryptError:
            raise
        except UnsupportedAlgorithm:
            raise PolicyError(f"block {number} ({name}) is of a kind that is not known here: "
                              f"{WHICH}") from None
        except _FAULTS:
            if lenient and label in _CERTIFICATES:
                continue
            kind = DamagedError if label in _CERTIFICATES else UsageError
            raise kind(f"block {number} ({name}) is {_CUT}") from None
    return found


def _private_key(load: Callable[..., Any], data: bytes, ask: Ask | None) -> Any:
    try:
        return guarded.call(load, data, None)
    except UsageError:
        raise
    except TypeError:  # the library's word for a key under a passphrase
        pass
    except (ValueError, UnsupportedAlgorithm, OverflowError):
        raise UsageError(f"the private key is {_CUT}") from None
    if ask is None:
        raise UsageError("the private key is under a passphrase")
    secret = ask().encode()
    try:
        return guarded.call(load, data, secret)
    except UsageError:
        raise
    except (ValueError, TypeError):
        raise NoIdentityError("wrong passphrase, or the key is damaged") from None
    except (UnsupportedAlgorithm, OverflowError):
        raise UsageError("the key is encrypted in a way that is not known here") from None


def _read_pkcs12(data: bytes, ask: Ask | None, lenient: bool) -> Found:
    for secret in (None, b""):
        try:
            packed = guarded.call(pkcs12.load_pkcs12, data, secret)
        except UsageError:
            raise
        except _FAULTS:
            continue
        return _unpacked(packed, lenient)
    if ask is None:
        raise UsageError("the PKCS #12 file is under a passphrase, or damaged")
    secret = ask().encode()
    try:
        packed = guarded.call(pkcs12.load_pkcs12, data, secret)
    except UsageError:
        raise
    except _FAULTS:
        raise NoIdentityError("wrong passphrase, or the PKCS #12 file is damaged") from None
    return _unpacked(packed, lenient)


def _unpacked(packed: pkcs12.PKCS12KeyAndCertificates, lenient: bool) -> Found:
    meant = packed.cert.certificate if packed.cert is not None else None
    others = [c.certificate for c in packed.additional_certs]
    if len(others) > MOST_BLOCKS:
        raise UsageError(f"over {MOST_BLOCKS} certificates in one file")
    certificates = []
    for one in ([meant] if meant is not None else []) + others:
        try:
            certificates.append(sound(one))
        except DamagedError:
            if not lenient:
                raise
    keys = [packed.key] if packed.key is not None else []
    return Found(certificates, [], keys, meant)
