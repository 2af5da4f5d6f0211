"""What the HPKE key types share: stanza types 1, 2, 4 and 10 to 13 (docs/spec/dcmx-v1.md
section 4.2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, Suite

from ..container.stanza import FULL, Stanza, stanza_info
from ..errors import PolicyError

if TYPE_CHECKING:
    from cryptography import x509

    from .rsa import RsaRecipient


class HpkeRecipient:
    """A public key that wraps by HPKE (RFC 9180, base mode).

    Subclasses set `algorithm`, `stanza_type`, `kem` and build `_key` from the public bytes.
    certificate, chain: what the key came with, if it came in a certificate (`keys.x509`). They
    stay in this process: to workers only the key goes.
    """

    algorithm: ClassVar[str]
    stanza_type: ClassVar[int]
    kem: ClassVar[Any]
    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()

    def __init__(self, public_bytes: bytes) -> None:
        self.public_bytes = bytes(public_bytes)
        self.hint = hashlib.sha256(self.public_bytes).digest()[:8]
        self._key = self._load(self.public_bytes)

    @staticmethod
    def _load(public_bytes: bytes) -> Any:
        raise TypeError("an abstract recipient has no key")

    @property
    def public_key(self) -> Any:
        """The key as the library has it."""
        return self._key

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hint={self.hint.hex()})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.public_bytes == self.public_bytes

    def __hash__(self) -> int:
        return hash(self.public_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.public_bytes,)

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        """Wrap 32 bytes of key into a stanza; raises PolicyError for a key that gives no secret,
        such as a point of X25519 of low order (RFC 7748 section 6.1)."""
        info = stanza_info(self.stanza_type, scope, binding)
        suite = Suite(self.kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        try:
            body = suite.encrypt(key, self._key, info=info)
        except ValueError:
            raise PolicyError(f"nothing can be encrypted to the key {self.hint.hex()}: it is "
                              "damaged, or made to give no secret") from None
        return Stanza(self.stanza_type, scope, self.hint, body)


AnyRecipient = TypeVar("AnyRecipient", bound="HpkeRecipient | RsaRecipient")


def usable(recipient: AnyRecipient) -> AnyRecipient:
    """Return a recipient; raises PolicyError if nothing can be encrypted to its key."""
    recipient.wrap(bytes(32), FULL, bytes(16))
    return recipient


class HpkeIdentity:
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
        self.recipient = self.recipient_type(public_bytes)

    @staticmethod
    def _load(private_bytes: bytes) -> tuple[Any, bytes]:
        raise TypeError("an abstract identity has no key")

    @property
    def algorithm(self) -> str:
        return self.recipient.algorithm

    @property
    def stanza_type(self) -> int:
        return self.recipient.stanza_type

    @property
    def hint(self) -> bytes:
        return self.recipient.hint

    def private_bytes(self) -> bytes:
        """Return the private bytes, for a key file."""
        return self._private_bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hint={self.recipient.hint.hex()})"

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
