"""ML-KEM-768 + X25519 recipients: stanza type 4, the default.

The private key is an X-Wing seed of 32 bytes (draft-connolly-cfrg-xwing-kem):
SHAKE256(seed, 96) = the ML-KEM-768 seed (64 bytes) and the X25519 scalar (32 bytes).
"""

from __future__ import annotations

import hashlib
import os

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
)

from ..container.stanza import HYBRID
from .hpke import HpkeIdentity, HpkeRecipient

_MLKEM_PUBLIC = 1184


class HybridRecipient(HpkeRecipient):
    """An ML-KEM-768 encapsulation key and an X25519 public key, 1,216 bytes."""

    algorithm = "mlkem768-x25519"
    stanza_type = HYBRID
    kem = KEM.MLKEM768_X25519

    @staticmethod
    def _load(public_bytes: bytes) -> MLKEM768X25519PublicKey:
        if len(public_bytes) != _MLKEM_PUBLIC + 32:
            raise ValueError("a hybrid public key is 1216 bytes long")
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_bytes[:_MLKEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(public_bytes[_MLKEM_PUBLIC:]),
        )


class HybridIdentity(HpkeIdentity):
    """An ML-KEM-768 + X25519 private key: safe as long as either of the two is."""

    recipient_type = HybridRecipient

    @classmethod
    def generate(cls) -> HybridIdentity:
        return cls(os.urandom(32))

    @staticmethod
    def _load(private_bytes: bytes) -> tuple[MLKEM768X25519PrivateKey, bytes]:
        material = hashlib.shake_256(private_bytes).digest(96)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(material[:64])
        x25519 = X25519PrivateKey.from_private_bytes(material[64:])
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return MLKEM768X25519PrivateKey(mlkem, x25519), public
