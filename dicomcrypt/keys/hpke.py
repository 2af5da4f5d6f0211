"""What the HPKE key types share: stanza types 1, 2, 4 and 10 to 13 (docs/spec/dcmx-v1.md
section 4.2)."""

from __future__ import annotations

from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, Suite

from ..container.stanza import Stanza, stanza_info
from ..errors import PolicyError
from .keypair import PrivateHalf, PublicHalf


class HpkeRecipient(PublicHalf):
    """A public key that wraps by HPKE (RFC 9180, base mode).

    Subclasses set `algorithm`, `stanza_type`, `kem` and build the key from the public bytes.
    """

    kem: ClassVar[Any]

    def __init__(self, public_bytes: bytes) -> None:
        public_bytes = bytes(public_bytes)
        super().__init__(public_bytes, self._load(public_bytes))

    @staticmethod
    def _load(public_bytes: bytes) -> Any:
        raise TypeError("an abstract recipient has no key")

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        """Wrap 32 bytes of key into a stanza; raises PolicyError for a key that gives no secret,
        such as a point of X25519 of low order (RFC 7748 section 6.1)."""
        info = stanza_info(self.stanza_type, scope, binding)
        suite = Suite(self.kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        try:
            body = suite.encrypt(key, self.public_key, info=info)
        except ValueError:
            raise PolicyError(f"nothing can be encrypted to the key {self.hint.hex()}: it is "
                              "damaged, or made to give no secret") from None
        return Stanza(self.stanza_type, scope, self.hint, body)


class HpkeIdentity(PrivateHalf):
    """A private key whose public half is an HpkeRecipient.

    private_bytes: 32 bytes, or PKCS #8 in DER where `private_size` is None. Never shown, logged
    or pickled into anything but a pipe.
    """

    recipient_type: ClassVar[type[HpkeRecipient]]
    private_size: ClassVar[int | None] = 32

    def __init__(self, private_bytes: bytes) -> None:
        if self.private_size is not None and len(private_bytes) != self.private_size:
            raise ValueError(f"a private key is {self.private_size} bytes long")
        self._private_bytes = bytes(private_bytes)
        self._key, public_bytes = self._load(self._private_bytes)
        self.recipient: HpkeRecipient = self.recipient_type(public_bytes)

    @staticmethod
    def _load(private_bytes: bytes) -> tuple[Any, bytes]:
        raise TypeError("an abstract identity has no key")

    def private_bytes(self) -> bytes:
        """Return the private bytes, for a key file."""
        return self._private_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._private_bytes,)

    def matches(self, stanza: Stanza) -> bool:
        recipient = self.recipient
        return (
            stanza.type == recipient.stanza_type
            and stanza.hint == recipient.hint
            and len(stanza.body) == recipient.kem.enc_length() + 48
        )

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the wrapped key, or None if the stanza is not for this key."""
        if not self.matches(stanza):
            return None
        info = stanza_info(stanza.type, stanza.scope, binding)
        suite = Suite(self.recipient.kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        try:
            return suite.decrypt(stanza.body, self._key, info=info)
        except (InvalidTag, ValueError):
            return None
