"""Which signatures of certificates, revocation lists and attribute certificates are taken."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    mldsa,
    mlkem,
    padding,
    rsa,
    x448,
    x25519,
)
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from .files import PARSE_ERRORS, quiet

Signed = x509.Certificate | x509.CertificateRevocationList | x509.CertificateSigningRequest
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512(),
}  # fmt: skip
_RSA = {"1.2.840.113549.1.1.11": "256", "1.2.840.113549.1.1.12": "384",
        "1.2.840.113549.1.1.13": "512"}  # fmt: skip
_ECDSA = {"1.2.840.10045.4.3.2": "256", "1.2.840.10045.4.3.3": "384", "1.2.840.10045.4.3.4": "512"}
_MldsaPrivate = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_MldsaPublic = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
_MLDSA: dict[str, tuple[type[_MldsaPrivate], type[_MldsaPublic]]] = {
    "2.16.840.1.101.3.4.3.17": (mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey),
    "2.16.840.1.101.3.4.3.18": (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    "2.16.840.1.101.3.4.3.19": (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
}
_PSS = "1.2.840.113549.1.1.10"
_NAMES = {
    "1.2.840.113549.1.1.4": "MD5", "1.2.840.113549.1.1.5": "SHA-1", "1.2.840.10045.4.1": "SHA-1",
    "1.2.840.113549.1.1.14": "SHA-224", "1.2.840.10045.4.3.1": "SHA-224",
    "1.3.101.112": "Ed25519", "1.3.101.113": "Ed448",
}  # fmt: skip


def is_taken(signed: Signed) -> bool:
    """Whether the signature of a certificate or a list is of an algorithm that is taken: RSA
    (PKCS#1 v1.5 or PSS) and ECDSA with SHA-256, 384 or 512, ML-DSA."""
    oid = signed.signature_algorithm_oid.dotted_string
    if oid == _PSS:
        try:
            hash_algorithm = signed.signature_hash_algorithm
        except PARSE_ERRORS:
            return False
        return isinstance(hash_algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512)
    return oid in _RSA or oid in _ECDSA or oid in _MLDSA


def issuing_key(certificate: x509.Certificate) -> CertificateIssuerPublicKeyTypes:
    """Return an issuer's public key; raises ValueError for one of a kind that signs nothing."""
    key = certificate.public_key()
    if isinstance(key, x25519.X25519PublicKey | x448.X448PublicKey | mlkem.MLKEM768PublicKey
                  | mlkem.MLKEM1024PublicKey):
        raise ValueError("a key that signs nothing")
    return key


def algorithm_name(signed: Signed) -> str:
    """What a signature's algorithm is called, for a message."""
    oid = signed.signature_algorithm_oid.dotted_string
    return _NAMES.get(oid, oid)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool | None:
    """Whether an issuer's key signed a certificate; None if the library cannot tell."""
    try:
        with quiet():
            certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except UnsupportedAlgorithm:
        return None
    except PARSE_ERRORS:
        return False if is_taken(certificate) else None
    return True


# ---- of bytes, for what the library does not know: attribute certificates ----


def sign(key: Any, data: bytes) -> tuple[str, bytes]:
    """Sign bytes as certificates are signed. Return the algorithm's identifier and the signature.

    RSA signs by PKCS#1 v1.5 with SHA-256, ECDSA with the hash of its curve's size."""
    from .profiles import signing_hash

    chosen = signing_hash(key)
    if isinstance(key, rsa.RSAPrivateKey):
        return "1.2.840.113549.1.1.11", key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey) and chosen is not None:
        name = chosen.name.removeprefix("sha")
        oid = next(oid for oid, size in _ECDSA.items() if size == name)
        return oid, key.sign(data, ec.ECDSA(chosen))
    for oid, (private, _) in _MLDSA.items():
        if isinstance(key, private):
            return oid, key.sign(data)
    raise TypeError(f"{type(key).__name__} signs no certificates")


def verify(key: Any, oid: str, signature: bytes, data: bytes) -> bool | None:
    """Whether a signature by `sign` is right; None for an algorithm that is not taken."""
    try:
        if oid in _RSA and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), _HASHES[_RSA[oid]])
        elif oid in _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(_HASHES[_ECDSA[oid]]))
        elif oid in _MLDSA and isinstance(key, _MLDSA[oid][1]):
            key.verify(signature, data)
        else:
            return None
    except (InvalidSignature, ValueError):
        return False
    return True
