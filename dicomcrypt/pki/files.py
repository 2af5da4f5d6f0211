"""Certificates, revocation lists, requests and keys in files: PEM or DER, bounded, whole."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

from ..errors import CertificateRefusedError, NoIdentityError, UsageError
from ..regular import open_regular

#: The most that is read of a file of certificates or keys, and of one of revocation lists.
MAX_FILE, MAX_CRL_FILE = 1 << 20, 64 << 20
#: The most that one certificate may have.
MAX_CERTIFICATE = 64 << 10
#: What the library raises for bytes that are none.
PARSE_ERRORS = (
    ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion,
    x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
_EDDSA = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_warnings = threading.Lock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's warnings of what it takes and we refuse, such as a serial of 0."""
    from cryptography.utils import CryptographyDeprecationWarning

    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        warnings.filterwarnings("ignore", "Attribute's length")
        yield


def read(path: str | os.PathLike[str], what: str, limit: int = MAX_FILE) -> bytes:
    """Read a file; raises UsageError naming it and what was meant to be in it."""
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise UsageError(f"cannot read {what} {os.fspath(path)!r}: {reason}") from None
    if len(data) > limit:
        raise UsageError(f"{what} {os.fspath(path)!r} is too large")
    return data


# ---- certificates ------------------------------------------------------------


def malformed(where: str, why: str = "") -> CertificateRefusedError:
    """The error for what is no whole certificate, list or request. why: a sentence of ours; what a
    parser says of its bytes helps nobody."""
    tail = f" ({why})" if why else ""
    return CertificateRefusedError(
        f"{where} is malformed{tail}: was it copied whole? ask for it again", "malformed"
    )


def examine(certificate: x509.Certificate, where: str = "the certificate") -> x509.Certificate:
    """Look at every part of a certificate that the library would parse later.

    Raises CertificateRefusedError with reason `malformed`, or `algorithm` for a key of a kind
    that is not known."""
    from . import names

    if len(certificate.tbs_certificate_bytes) > MAX_CERTIFICATE:
        raise malformed(where, "it is too large")
    try:
        with quiet():
            extensions = certificate.extensions
            for extension in extensions:
                extension.value.public_bytes()
            names.role_of(extensions)
            names.constructed_of(extensions)
            certificate.subject.rfc4514_string()
            certificate.issuer.rfc4514_string()
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            serial = certificate.serial_number
            whole_bytes = _whole_signature(certificate)
    except PARSE_ERRORS:
        raise malformed(where) from None
    if not whole_bytes:
        raise malformed(where, "its signature is not of whole bytes")
    if serial <= 0 or serial.bit_length() > 160:
        raise malformed(where, "its serial number is not one of 1 to 160 bits")
    if certificate.version is not x509.Version.v3 and len(extensions):
        raise malformed(where, "extensions in a certificate that is not of version 3")
    try:
        certificate.public_key()
    except UnsupportedAlgorithm:
        raise CertificateRefusedError(
            f"{where} is for a key of a kind that is not known here", "algorithm"
        ) from None
    except PARSE_ERRORS:
        raise malformed(where) from None
    return certificate


def _whole_signature(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    """Whether the last BIT STRING leaves no bit over: nothing is signed that says so."""
    der = signed.public_bytes(serialization.Encoding.DER)
    return der[-len(signed.signature) - 1] == 0


def parse_certificates(data: bytes, where: str) -> list[x509.Certificate]:
    """Parse PEM (any number) or DER (one), each looked at whole.

    Raises UsageError if there is none, CertificateRefusedError if one is malformed."""
    with quiet():
        try:
            if b"-----BEGIN" in data:
                if b"-----BEGIN CERTIFICATE-----" not in data:
                    raise UsageError(f"{where} holds no certificate")
                found = x509.load_pem_x509_certificates(data)
            elif data[:1] == b"\x30":
                found = [x509.load_der_x509_certificate(data)]
            else:
                raise UsageError(f"{where} holds no certificate: neither PEM nor DER")
        except UsageError:
            raise
        except PARSE_ERRORS:
            raise malformed(where) from None
    return [examine(certificate, where) for certificate in found]


def load_certificates(path: str | os.PathLike[str]) -> list[x509.Certificate]:
    """Read the certificates of a file, at least one; errors as of `parse_certificates`."""
    return parse_certificates(read(path, "certificate"), f"certificate file {os.fspath(path)!r}")


def load_certificate(path: str | os.PathLike[str]) -> x509.Certificate:
    """Read the first certificate of a file."""
    return load_certificates(path)[0]


def pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


# ---- revocation lists --------------------------------------------------------


def parse_crls(data: bytes, where: str) -> list[x509.CertificateRevocationList]:
    """Parse PEM (any number) or DER (one). Errors as of `parse_certificates`."""
    begin, end = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
    with quiet():
        try:
            if begin in data:
                found = [
                    x509.load_pem_x509_crl(begin + part.partition(end)[0] + end + b"\n")
                    for part in data.split(begin)[1:]
                ]
            elif data[:1] == b"\x30":
                found = [x509.load_der_x509_crl(data)]
            else:
                raise UsageError(f"{where} holds no revocation list: neither PEM nor DER")
            for crl in found:
                crl.extensions  # noqa: B018 parsed now
                _ = crl.issuer.rfc4514_string(), crl.last_update_utc, crl.next_update_utc
                if not _whole_signature(crl):
                    raise malformed(where, "its signature is not of whole bytes")
        except (UsageError, CertificateRefusedError):
            raise
        except PARSE_ERRORS:
            raise malformed(where) from None
    return found


def load_crls(path: str | os.PathLike[str]) -> list[x509.CertificateRevocationList]:
    """Read the revocation lists of a file, at least one."""
    data = read(path, "revocation list", MAX_CRL_FILE)
    return parse_crls(data, f"revocation list {os.fspath(path)!r}")


# ---- requests and keys -------------------------------------------------------


def load_request(path: str | os.PathLike[str]) -> x509.CertificateSigningRequest | Any:
    """Read a request (PKCS#10), or the bare public key of a kind that cannot sign a request.

    Raises UsageError for anything else, PolicyError for a request not signed by its key."""
    from .signatures import algorithm_name, is_taken

    where, data = f"request {os.fspath(path)!r}", read(path, "request")
    try:
        if b"-----BEGIN PUBLIC KEY-----" in data:
            key = serialization.load_pem_public_key(data)
            if hasattr(key, "verify"):
                raise UsageError(f"{where} is a bare key that can sign: make a request with it")
            return key
        pem_form = b"-----BEGIN" in data
        with quiet():
            load = x509.load_pem_x509_csr if pem_form else x509.load_der_x509_csr
            request = load(data)
            _ = request.extensions, request.subject.rfc4514_string(), request.public_key()
            if not (is_taken(request) or isinstance(request.public_key(), _EDDSA)):
                raise CertificateRefusedError(
                    f"{where} is signed with {algorithm_name(request)}, which is not taken: "
                    "ask for one signed with SHA-256 or better", "algorithm",
                )
            signed = request.is_signature_valid
    except (UsageError, CertificateRefusedError):
        raise
    except PARSE_ERRORS:
        raise UsageError(f"{where} is malformed: PKCS#10 in PEM or DER is meant") from None
    if not signed:
        raise CertificateRefusedError(
            f"{where} is not signed by its own key: it was changed, or is not its sender's",
            "bad-signature",
        )
    return request


def load_private_key(
    path: str | os.PathLike[str], passphrase: Callable[[], str | None] | None = None
) -> Any:
    """Read a private key, PEM or DER.

    passphrase: called if the key is encrypted. Raises UsageError for what is no key, and
    NoIdentityError for a missing or wrong passphrase."""
    return parse_private_key(
        read(path, "private key"), f"private key {os.fspath(path)!r}", passphrase
    )


def parse_private_key(
    data: bytes, where: str, passphrase: Callable[[], str | None] | None = None
) -> Any:
    """`load_private_key` of its content."""
    is_pem = b"-----BEGIN" in data
    load = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
    no_key = UsageError(f"{where} is no private key that is known here (PEM or DER, PKCS#8)")
    try:
        return load(data, None)
    except TypeError:  # it is encrypted
        pass
    except PARSE_ERRORS:
        raise no_key from None
    from ..keys.guarded import bound

    try:
        bound(data)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    words = passphrase() if passphrase is not None else None
    if words is None:
        raise NoIdentityError(f"{where} is encrypted: give its passphrase")
    try:
        return load(data, words.encode())
    except PARSE_ERRORS:
        raise NoIdentityError(f"{where}: the passphrase is wrong") from None
