"""Who signs objects, and whose signatures are wanted: keys and certificates from files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from .. import policy
from ..errors import DamagedError, PolicyError, TokenError, UsageError
from . import home
from .cms import MAX_CERTIFICATES, build_cms, certificate_key, signature_algorithm
from .extensions import extension
from .keyfile import looks_foreign, naming, read_key_file
from .spki import public_der

if TYPE_CHECKING:
    from .x509 import Found

_DER = serialization.Encoding.DER


class Signer:
    """Who signs: a private key, its certificate, and certificates that lead to a root.

    Goes through the pipe to worker processes like other keys. Raises UsageError if key and
    certificate do not belong together, or the key's kind cannot sign; PolicyError if the
    certificate is not valid now or is not for signing.
    """

    def __init__(
        self, key: Any, certificate: x509.Certificate, chain: Sequence[x509.Certificate] = ()
    ) -> None:
        from .x509 import sound

        public = certificate_key(sound(certificate))
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

    def __reduce__(self) -> tuple[Any, ...]:
        private = self._key.private_bytes(
            _DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _unpickled, (private, *self._encoded())

    def _encoded(self) -> tuple[bytes, list[bytes]]:
        return self.certificate.public_bytes(_DER), [c.public_bytes(_DER) for c in self.chain]

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

    def sign_digest(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """Return a signature of a digest as other standards want it: RSA by PKCS#1 v1.5, ECDSA
        in DER. Raises PolicyError if the policy does not permit it, UsageError for other keys."""
        key, given = self._key, Prehashed(algorithm)
        require = policy.current().require
        if isinstance(key, rsa.RSAPrivateKey):
            require(f"rsa-pkcs1v15-{algorithm.name}", "sign", key.key_size)
            return key.sign(digest, padding.PKCS1v15(), given)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            require(f"ecdsa-{algorithm.name}", "sign", key.key_size)
            return key.sign(digest, ec.ECDSA(given))
        raise UsageError(f"{self.algorithm} cannot sign here: use RSA or ECDSA")

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
        passphrase, DamagedError for a malformed certificate, and what `Signer` raises."""
        shown = repr(os.fspath(key_path))

        def ask() -> str:
            if passphrase is None:
                raise UsageError("it is under a passphrase: give it")
            return passphrase() if callable(passphrase) else passphrase

        with naming("signing key", key_path):
            found = _read(key_path, ask)
            if not found.private_keys:
                raise UsageError("it holds no signing key: PKCS#12 or PEM with the private key is "
                                 "meant")
        key, certificates = found.private_keys[0], found.certificates
        if certificate_path is not None:
            certificates = _certificates(certificate_path) + certificates
        for path in chain:
            certificates += _certificates(path)
        public = key.public_key()
        if not hasattr(public, "verify"):
            raise UsageError(f"{shown}: this kind of key cannot sign")
        own = public_der(public)
        fitting = [c for c in certificates if _public_der(c) == own]
        if not fitting:
            raise UsageError(f"{shown}: no certificate of the signing key: give it beside the key")
        return cls(key, max(fitting, key=_fitness), [c for c in certificates if c not in fitting])


def _fitness(certificate: x509.Certificate) -> tuple[bool, datetime.datetime]:
    """Of several certificates of a key the newest that is valid is meant."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin <= datetime.datetime.now(datetime.UTC) <= end, begin


def _public_der(certificate: x509.Certificate) -> bytes | None:
    try:
        return public_der(certificate_key(certificate))
    except (PolicyError, DamagedError):
        return None  # of a kind that cannot be the signer's


def _unpickled(private: bytes, certificate: bytes, chain: Sequence[bytes]) -> Signer:
    load = x509.load_der_x509_certificate
    key = serialization.load_der_private_key(private, None)
    return Signer(key, load(certificate), [load(c) for c in chain])


class StayingSigner(Signer):
    """A signer whose key stays in the job's process, in a card say: pickled for a worker, it
    becomes one that asks. `operations`: how many signatures it has made."""

    operations = 0

    def __reduce__(self) -> tuple[Any, ...]:
        home.HOME[id(self)] = self
        return _asking, (id(self), *self._encoded())

    def sign(self, manifest: bytes) -> bytes:
        self.operations += 1
        return super().sign(manifest)

    answer = sign  # what workers ask for


class _Elsewhere:
    """The key of a signer that is asked: its public half."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self._public = certificate_key(certificate)

    def public_key(self) -> Any:
        return self._public


class AskingSigner(Signer):
    """A staying signer as a worker has it."""

    def __init__(
        self, number: int, certificate: x509.Certificate, chain: Sequence[x509.Certificate]
    ) -> None:
        super().__init__(_Elsewhere(certificate), certificate, chain)
        self._number = number

    def sign(self, manifest: bytes) -> bytes:
        """Raises TokenError."""
        if home.ask is None:
            raise TokenError("the signing key is in another process, which cannot be asked here")
        signature = home.ask(home.Question(self._number, manifest))
        if signature is None:
            raise TokenError("the signing key gave no signature")
        return signature


def _asking(number: int, certificate: bytes, chain: Sequence[bytes]) -> AskingSigner:
    load = x509.load_der_x509_certificate
    return AskingSigner(number, load(certificate), [load(c) for c in chain])


def _read(path: str | os.PathLike[str], ask: Callable[[], str] | None = None) -> Found:
    """What a file of keys and certificates holds; DER other than PKCS #12 is one certificate.
    Raises as `keys.x509.read`."""
    from .x509 import Found, is_pkcs12, read

    data = read_key_file(path)
    if ask is not None and b"-----BEGIN " not in data and not is_pkcs12(data):
        return Found([], [], [])
    if not looks_foreign(data):
        return Found([], [], [])
    return read(data, ask, private=ask is not None)


def _certificates(path: str | os.PathLike[str]) -> list[x509.Certificate]:
    """The certificates of a file; raises UsageError naming it if there is none."""
    with naming("certificate", path):
        found = _read(path).certificates
        if not found:
            raise UsageError("it holds no certificate")
        return found


def load_signer_keys(path: str | os.PathLike[str]) -> list[bytes]:
    """Read whose signatures are wanted: the public keys of a file with certificates or public keys
    (PEM, DER), each as SubjectPublicKeyInfo.

    Another certificate of the same key counts as well. Raises UsageError naming the file,
    PolicyError for a key whose signatures are too weak, DamagedError for a malformed
    certificate."""
    with naming("signer", path):
        found = _read(path)
        keys = [certificate_key(c) for c in found.certificates] or found.public_keys
        if not keys:
            raise UsageError("it holds no certificate and no public key")
        for key in keys:
            signature_algorithm(key)
        return [public_der(key) for key in keys]


def _check_certificate(certificate: x509.Certificate) -> None:
    """Refuse to sign with a certificate whose signatures nobody should accept."""
    now = datetime.datetime.now(datetime.UTC)
    who = certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        raise PolicyError(f"the signing certificate of {who} has expired: renew it")
    if now < certificate.not_valid_before_utc:
        raise PolicyError(f"the signing certificate of {who} is not valid yet")
    usage = extension(certificate.extensions, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise PolicyError(f"the certificate of {who} is not for signing: its key usage forbids it")
