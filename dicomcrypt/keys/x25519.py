"""X25519 recipients: stanza type 1, classical."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import KEM

from ..container.stanza import X25519
from .hpke import HpkeIdentity, HpkeRecipient


class X25519Recipient(HpkeRecipient):
    """A 32-byte X25519 public key."""

    algorithm = "x25519"
    stanza_type = X25519
    kem = KEM.X25519

    @staticmethod
    def _load(public_bytes: bytes) -> X25519PublicKey:
        return X25519PublicKey.from_public_bytes(public_bytes)


class X25519Identity(HpkeIdentity):
    """An X25519 private key. Not safe against a quantum computer; prefer HybridIdentity."""

    recipient_type = X25519Recipient

    @classmethod
    def generate(cls) -> X25519Identity:
        return cls(os.urandom(32))

    @staticmethod
    def _load(private_bytes: bytes) -> tuple[X25519PrivateKey, bytes]:
        key = X25519PrivateKey.from_private_bytes(private_bytes)
        return key, key.public_key().public_bytes_raw()
