"""Detached signatures over small documents: policies, and the heads of the audit log.

The key alone decides the algorithm: Ed25519 (RFC 8032), ECDSA on P-256 with SHA-256 or P-384 with
SHA-384 (DER), RSA-PSS with SHA-256 and a salt of 32 bytes from 2048 bits on, ML-DSA (FIPS 204).
A key is known by the SHA-256 of its SubjectPublicKeyInfo.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ..errors import UsageError
from ..regular import open_regular

_MIN_RSA = 2048
_LIMIT = 1 << 20


def algorithm_of(public_key: Any) -> tuple[str, int | None]:
    """Return a public key's signature algorithm and, for RSA, its bits.

    Raises UsageError for keys that sign nothing here."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "ed25519", None
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        known = {"secp256r1": "ecdsa-p256-sha256", "secp384r1": "ecdsa-p384-sha384"}
        if public_key.curve.name in known:
            return known[public_key.curve.name], None
    if isinstance(public_key, rsa.RSAPublicKey):
        if public_key.key_size < _MIN_RSA:
            raise UsageError(f"an RSA key of {public_key.key_size} bits signs nothing here: "
                             f"{_MIN_RSA} at least")
        return "rsa-pss-sha256", public_key.key_size
    for level in (44, 65, 87):
        if isinstance(public_key, getattr(mldsa, f"MLDSA{level}PublicKey")):
            return f"ml-dsa-{level}", None
    raise UsageError("this kind of key signs nothing here: Ed25519, P-256, P-384, RSA or ML-DSA "
                     "are taken")


def _parameters(algorithm: str) -> tuple[Any, ...]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    if algorithm == "ecdsa-p256-sha256":
        return (ec.ECDSA(hashes.SHA256()),)
    if algorithm == "ecdsa-p384-sha384":
        return (ec.ECDSA(hashes.SHA384()),)
    if algorithm == "rsa-pss-sha256":
        return padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    return ()


class Verifier:
    """A public key that signatures are checked with."""

    def __init__(self, public_key: Any) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = public_key
        self.algorithm, self.bits = algorithm_of(public_key)
        #: SubjectPublicKeyInfo, DER.
        self.public_bytes: bytes = public_key.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = hashlib.sha256(self.public_bytes).hexdigest()

    def __repr__(self) -> str:
        return f"Verifier({self.algorithm}, {self.key_id[:16]})"

    @classmethod
    def from_bytes(cls, public_bytes: bytes) -> Verifier:
        """From a SubjectPublicKeyInfo in DER; raises UsageError."""
        return cls(parse_public(public_bytes))

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether this is the key's signature of data."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, data, *_parameters(self.algorithm))
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A private key that signs; `verifier` is its public half."""

    def __init__(self, private_key: Any) -> None:
        self._key = private_key
        self.verifier = Verifier(private_key.public_key())

    def __repr__(self) -> str:
        return f"Signer({self.verifier.algorithm}, {self.key_id[:16]})"

    @property
    def key_id(self) -> str:
        return self.verifier.key_id

    def sign(self, data: bytes) -> bytes:
        signature: bytes = self._key.sign(data, *_parameters(self.verifier.algorithm))
        return signature


def parse_public(data: bytes) -> Any:
    """Return the public key of a certificate or a public key, PEM or DER; raises UsageError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if b"PRIVATE KEY-----" in data:
        raise UsageError("this is a private key: its public key or certificate is wanted")
    pem = b"-----BEGIN" in data
    ways = (
        (x509.load_pem_x509_certificate, serialization.load_pem_public_key) if pem
        else (x509.load_der_x509_certificate, serialization.load_der_public_key)
    )  # fmt: skip
    for way in ways:
        try:
            found = way(data)
            return found.public_key() if isinstance(found, x509.Certificate) else found
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    raise UsageError("neither a certificate nor a public key, in PEM or DER")


def read_bounded(path: str | os.PathLike[str], what: str, limit: int = _LIMIT) -> bytes:
    """Read a small file; raises UsageError naming it."""
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {what} {os.fspath(path)!r}: {(error.strerror or '').lower()}"
        ) from None
    if len(data) > limit:
        raise UsageError(f"{what} {os.fspath(path)!r} is too large")
    return data


def load_verifier(path: str | os.PathLike[str]) -> Verifier:
    """Read a certificate's or a public key's file, PEM or DER; raises UsageError naming it."""
    try:
        return Verifier(parse_public(read_bounded(path, "public key")))
    except UsageError as error:
        raise UsageError(_with_name(path, error)) from None


def load_signer(path: str | os.PathLike[str], passphrase: str | None = None) -> Signer:
    """Read a private key's file, PEM or DER, perhaps encrypted.

    Raises UsageError naming it, NoIdentityError for a wrong passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    from ..errors import NoIdentityError

    data = read_bounded(path, "private key")
    load = (serialization.load_pem_private_key if b"-----BEGIN" in data
            else serialization.load_der_private_key)
    secret = None if passphrase is None else passphrase.encode()
    try:
        key = load(data, secret)
    except TypeError:
        state = "not encrypted" if secret is not None else "encrypted: give its passphrase"
        raise UsageError(f"private key {os.fspath(path)!r} is {state}") from None
    except (ValueError, UnsupportedAlgorithm):
        if secret is not None:
            raise NoIdentityError(
                f"private key {os.fspath(path)!r}: the passphrase is wrong, or it is no key"
            ) from None
        raise UsageError(f"{os.fspath(path)!r} is no private key in PEM or DER") from None
    try:
        return Signer(key)
    except UsageError as error:
        raise UsageError(_with_name(path, error)) from None


def _with_name(path: str | os.PathLike[str], error: UsageError) -> str:
    text = str(error)
    name = repr(os.fspath(path))
    return text if name in text else f"{name}: {text}"
