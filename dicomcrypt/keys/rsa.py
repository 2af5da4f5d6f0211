"""RSA recipients: stanza type 3, RSAES-OAEP (RFC 8017 section 7.1) with SHA-256, MGF1 with SHA-256
and no label."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from ..container.stanza import RSA, Stanza
from ..errors import PolicyError
from .keypair import PrivateHalf, PublicHalf

LEAST_BITS, MOST_BITS = 2048, 16384
KEY_SIZE, MOST_EXPONENT_BITS = 32, 64


def _oaep() -> OAEP:
    return OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=None)


class RsaRecipient(PublicHalf):
    """An RSA public key (SubjectPublicKeyInfo in DER) of at least 2048 bits: classical.

    key_bits: bits of the modulus. Raises PolicyError for a modulus under 2048 or over 16384 bits.
    """

    algorithm, stanza_type = "rsa-oaep-sha256", RSA

    def __init__(self, public_bytes: bytes) -> None:
        key = load_der_public_key(public_bytes)
        if not isinstance(key, RSAPublicKey):
            raise ValueError("not an RSA key")
        super().__init__(
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), key)
        self.key_bits = key.key_size
        if not LEAST_BITS <= self.key_bits <= MOST_BITS:
            raise PolicyError(
                f"an RSA key of {self.key_bits} bits: {LEAST_BITS} at least, {MOST_BITS} at most"
            )

    def __repr__(self) -> str:
        return f"RsaRecipient(hint={self.hint.hex()}, key_bits={self.key_bits})"

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        """Wrap 32 bytes of key into a stanza; what binds it to its object is the slot's MAC.

        Raises PolicyError for a key whose exponent is none: even, or of over 64 bits."""
        exponent = self.public_key.public_numbers().e
        if exponent.bit_length() > MOST_EXPONENT_BITS or not exponent & 1:
            raise PolicyError("an RSA key with an exponent that nobody makes: its owner may not be "
                              "able to decrypt")
        return Stanza(RSA, scope, self.hint, self.public_key.encrypt(key, _oaep()))


class RsaIdentity(PrivateHalf):
    """An RSA private key (PKCS #8 in DER). Never shown, logged or pickled into anything but a
    pipe."""

    def __init__(self, private_bytes: bytes) -> None:
        key = load_der_private_key(private_bytes, None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("not an RSA key")
        self._key, self._private_bytes = key, bytes(private_bytes)
        self.recipient: RsaRecipient = RsaRecipient(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )

    @property
    def key_bits(self) -> int:
        return self.recipient.key_bits

    def private_bytes(self) -> bytes:
        """Return the key as PKCS #8 in DER."""
        return self._private_bytes

    def __repr__(self) -> str:
        return f"RsaIdentity(hint={self.hint.hex()}, key_bits={self.key_bits})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._private_bytes,)

    def matches(self, stanza: Stanza) -> bool:
        return (
            stanza.type == RSA
            and stanza.hint == self.hint
            and len(stanza.body) == (self.key_bits + 7) // 8
        )

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the wrapped key, or None for whatever is not one: all failures look the same."""
        if not self.matches(stanza):
            return None
        try:
            key = self._key.decrypt(stanza.body, _oaep())
        except ValueError:
            return None
        return key if len(key) == KEY_SIZE else None
