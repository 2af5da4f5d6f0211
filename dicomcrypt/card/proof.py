"""Signatures that card and host both check, and what an authentication signs."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from . import profile
from .profile import Algorithm

SHA256 = hashes.SHA256()
DIGEST = utils.Prehashed(SHA256)
PADDINGS = {
    Algorithm.RSA_PKCS1: padding.PKCS1v15(),
    Algorithm.RSA_PSS: padding.PSS(padding.MGF1(SHA256), 32),
}


def proof(challenge: bytes) -> bytes:
    """Return the digest that INTERNAL AUTHENTICATE signs."""
    return hashlib.sha256(profile.AUTHENTICATION_PREFIX + challenge).digest()


def check(key: Any, algorithm: Algorithm, signature: bytes, digest: bytes) -> None:
    """Check a signature in the card's form. Raises InvalidSignature, for a key of another kind
    too."""
    if isinstance(key, rsa.RSAPublicKey) and algorithm in PADDINGS:
        key.verify(signature, digest, PADDINGS[algorithm], DIGEST)
    elif (
        isinstance(key, ec.EllipticCurvePublicKey)
        and key.curve.name == "secp256r1" and algorithm is Algorithm.ECDSA and len(signature) == 64
    ):  # fmt: skip
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(DIGEST))
    else:
        raise InvalidSignature
