"""Who signs objects, and whose signatures are wanted: keys and certificates from files."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from .. import policy
from ..errors import NoIdentityError, PolicyError, UsageError
from .cms import MAX_CERTIFICATES, build_cms, certificate_key, public_der, signature_algorithm

_LIMIT = 1 << 20
_DER = serialization.Encoding.DER
_PRIVATE = re.compile(
    rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----[ \r]*\n?", re.DOTALL
)
_BAD_KEY = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


class Signer:
    """Who signs: a private key, its certificate, and certificates that lead to a root.

    Goes through the pipe to worker processes like other keys. Raises UsageError if key and
    certificate do not belong together, or the key's kind cannot sign; PolicyError if the
    certificate is not valid now or is not for signing.
    """

    def __init__(
        self, key: Any, certificate: x509.Certificate, chain: Sequence[x509.Certificate] = ()
    ) -> None:
        public = certificate_key(certificate)
        self.algorithm = signature_algorithm(public).name
        policy.current().require(self.algorithm, "sign", getattr(public, "key_size", None))
        if public_der(key.public_key()) != public_der(public):
            raise UsageError("the signing key is not that of the certificate")
        _check_certificate(certificate)
        self._key, self.certificate = key, certificate
        self.chain = tuple(dict.fromkeys(c for c in chain if c != certificate))
        if len(self.chain) >= MAX_CERTIFICATES:
            raise UsageError(f"too many certificates: {MAX_CERTIFICATES} at most")
        #: Bytes that are enough for a signature: 4,627 is the longest, ML-DSA-87's.
        self.size = 8192 + sum(len(c.public_bytes(_DER)) for c in (certificate, *self.chain))

    def __repr__(self) -> str:
        return f"Signer({self.subject!r}, {self.algorithm})"

    def __reduce__(self):
        private = self._key.private_bytes(
            _DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = [c.public_bytes(_DER) for c in self.chain]
        return _unpickled, (private, self.certificate.public_bytes(_DER), chain)

    @property
    def subject(self) -> str:
        """The signer as the certificate names them (RFC 4514)."""
        return self.certificate.subject.rfc4514_string()

    @property
    def public_key(self) -> bytes:
        """The signer's SubjectPublicKeyInfo in DER."""
        return public_der(self.certificate.public_key())

    def sign(self, manifest: bytes) -> bytes:
        """Return the CMS of a manifest, DER."""
        return build_cms(manifest, self._key, self.certificate, self.chain)

    @classmethod
    def load(
        cls,
        key_path: str | os.PathLike[str],
        certificate_path: str | os.PathLike[str] | None = None,
        passphrase: str | Callable[[], str] | None = None,
        chain: Sequence[str | os.PathLike[str]] = (),
    ) -> Signer:
        """Read a signer from a PKCS#12 file that holds everything, or from PEM files.

        certificate_path: None if the certificate stands in the key's file; the signer's is the
        one that fits the key. passphrase: asked for only if the file needs one. chain: files
        with further certificates. Raises UsageError naming the file, NoIdentityError for a wrong
        passphrase, and what `Signer` raises."""
        shown = repr(os.fspath(key_path))
        data = _read(key_path)
        try:
            if b"-----BEGIN" in data:
                key = _pem_key(data, passphrase, shown)
                found = _certificates(data)
            else:
                key, found = _pkcs12(data, passphrase, shown)
            if certificate_path is not None:
                shown = repr(os.fspath(certificate_path))
                found = _certificates(_read(certificate_path)) + found
            for path in chain:
                shown = repr(os.fspath(path))
                found += _certificates(_read(path))
        except _BAD_KEY as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{shown} cannot be read as a key or certificate") from None
        shown = repr(os.fspath(key_path))
        public = public_der(key.public_key())
        fitting = [c for c in found if public_der(certificate_key(c)) == public]
        if not fitting:
            raise UsageError(f"{shown}: no certificate of the signing key: give it beside the key")
        return cls(key, fitting[0], [c for c in found if c not in fitting])


def _unpickled(private: bytes, certificate: bytes, chain: Sequence[bytes]) -> Signer:
    load = x509.load_der_x509_certificate
    key = serialization.load_der_private_key(private, None)
    return Signer(key, load(certificate), [load(c) for c in chain])


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {os.fspath(path)!r}: {(error.strerror or str(error)).lower()}"
        ) from None
    if len(data) > _LIMIT:
        raise UsageError(f"{os.fspath(path)!r} is too large for a key or certificate")
    return data


def _certificates(data: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM or DER file; raises ValueError."""
    if b"-----BEGIN" not in data:
        return [x509.load_der_x509_certificate(data)]
    if b"-----BEGIN CERTIFICATE-----" not in data:
        return []
    return x509.load_pem_x509_certificates(data)


def _phrase(passphrase: str | Callable[[], str] | None, shown: str) -> bytes:
    if passphrase is None:
        raise UsageError(f"the signing key {shown} is under a passphrase: give it")
    return (passphrase() if callable(passphrase) else passphrase).encode("utf-8")


def _pem_key(data: bytes, passphrase: str | Callable[[], str] | None, shown: str) -> Any:
    block = _PRIVATE.search(data)
    if block is None:
        raise UsageError(f"{shown} holds no private key")
    secret = None
    if b"ENCRYPTED" in block[0]:
        secret = _phrase(passphrase, shown)
    try:
        return serialization.load_pem_private_key(block[0], secret)
    except ValueError:
        if secret is None:
            raise
        raise NoIdentityError(f"the passphrase of the signing key {shown} is wrong") from None


def _pkcs12(
    data: bytes, passphrase: str | Callable[[], str] | None, shown: str
) -> tuple[Any, list[x509.Certificate]]:
    key = certificate = None
    try:
        key, certificate, more = pkcs12.load_key_and_certificates(data, None)
    except ValueError:
        secret = _phrase(passphrase, shown)
        try:
            key, certificate, more = pkcs12.load_key_and_certificates(data, secret)
        except ValueError:
            raise NoIdentityError(
                f"the passphrase of {shown} is wrong, or it is no PKCS#12 file"
            ) from None
    if key is None:
        raise UsageError(f"{shown} holds no private key")
    return key, [c for c in (certificate, *more) if c is not None]


def load_signer_keys(path: str | os.PathLike[str]) -> list[bytes]:
    """Read whose signatures are wanted: the public keys of a file with certificates (PEM, DER)
    or one public key (PEM), each as SubjectPublicKeyInfo.

    Another certificate of the same key counts as well. Raises UsageError naming the file."""
    data, shown = _read(path), repr(os.fspath(path))
    try:
        found = [certificate_key(c) for c in _certificates(data)]
        if not found:
            found = [serialization.load_pem_public_key(data)]
        for key in found:
            signature_algorithm(key)
    except UsageError as error:
        raise UsageError(f"{shown}: {error}") from None
    except _BAD_KEY:
        raise UsageError(f"{shown} holds no certificate and no public key") from None
    return [public_der(key) for key in found]


def _check_certificate(certificate: x509.Certificate) -> None:
    """Refuse to sign with a certificate whose signatures nobody should accept."""
    now = datetime.datetime.now(datetime.UTC)
    who = certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        raise PolicyError(f"the signing certificate of {who} has expired: renew it")
    if now < certificate.not_valid_before_utc:
        raise PolicyError(f"the signing certificate of {who} is not valid yet")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError:
        raise UsageError(f"the signing certificate of {who} cannot be read") from None
    if not (usage.digital_signature or usage.content_commitment):
        raise PolicyError(f"the certificate of {who} is not for signing: its key usage forbids it")
