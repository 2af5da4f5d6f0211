"""What every key type with a public and a private half has in common (`keys.hpke`, `keys.rsa`,
`keys.held`)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..container.stanza import FULL, Stanza

if TYPE_CHECKING:
    from cryptography import x509


class PublicHalf:
    """A recipient by a public key.

    public_bytes: what makes the key again, and the hint. key: as the library has it. certificate,
    chain: what the key came with, if it came in a certificate (`keys.x509`); they stay in this
    process: to workers only the key goes.
    """

    algorithm: ClassVar[str]
    stanza_type: ClassVar[int]
    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()

    def __init__(self, public_bytes: bytes, key: Any) -> None:
        self.public_bytes, self.public_key = public_bytes, key
        self.hint = hashlib.sha256(public_bytes).digest()[:8]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hint={self.hint.hex()})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.public_bytes == self.public_bytes

    def __hash__(self) -> int:
        return hash(self.public_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.public_bytes,)

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        """Wrap 32 bytes of key into a stanza; raises PolicyError for a key that cannot."""
        raise NotImplementedError


AnyRecipient = TypeVar("AnyRecipient", bound=PublicHalf)


def usable(recipient: AnyRecipient) -> AnyRecipient:
    """Return a recipient; raises PolicyError if nothing can be encrypted to its key."""
    recipient.wrap(bytes(32), FULL, bytes(16))
    return recipient


class PrivateHalf:
    """An identity whose public half is `recipient`."""

    def __init__(self, recipient: PublicHalf) -> None:
        self.recipient = recipient

    @property
    def algorithm(self) -> str:
        return self.recipient.algorithm

    @property
    def stanza_type(self) -> int:
        return self.recipient.stanza_type

    @property
    def hint(self) -> bytes:
        return self.recipient.hint

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hint={self.hint.hex()})"
