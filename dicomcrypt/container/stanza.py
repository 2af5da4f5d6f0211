"""Stanzas, and the two protocols through which every key type comes in
(docs/spec/dcmx-v1.md section 4.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from ..errors import DamagedError, UsageError

X25519, P256, RSA, HYBRID, SCRYPT, ARGON2ID, BATCH = 1, 2, 3, 4, 5, 6, 7
VAULT = 9
MLKEM768, MLKEM1024, P384, P521 = 10, 11, 12, 13
#: From here on types belong to third parties, by the entry points of `keys.plugins`.
FOREIGN = 128
TYPE_NAMES = {
    X25519: "X25519",
    P256: "P-256",
    RSA: "RSA-OAEP",
    HYBRID: "ML-KEM-768+X25519",
    SCRYPT: "passphrase (scrypt)",
    ARGON2ID: "passphrase (Argon2id)",
    BATCH: "batch",
    MLKEM768: "ML-KEM-768",
    MLKEM1024: "ML-KEM-1024",
    P384: "P-384",
    P521: "P-521",
    VAULT: "vault",
}
PASSPHRASE_TYPES = frozenset({SCRYPT, ARGON2ID})
POST_QUANTUM_TYPES = frozenset({HYBRID, MLKEM768, MLKEM1024})
#: Of third parties' types nothing is known, so they count as classical.
CLASSICAL_TYPES = frozenset({X25519, P256, RSA, P384, P521, *range(FOREIGN, 256)})

FULL, TAGS_SCOPE, PIXELS_SCOPE, BATCH_SCOPE = 1, 2, 3, 4
SCOPE_NAMES = {FULL: "full", TAGS_SCOPE: "tags", PIXELS_SCOPE: "pixels", BATCH_SCOPE: "batch key"}
SCOPES = {"full": FULL, "tags": TAGS_SCOPE, "pixels": PIXELS_SCOPE}

NO_HINT = bytes(8)
_HEAD = struct.Struct("<BBH8s")


class Stanza(NamedTuple):
    """One wrapped key: who it is for (type, hint), what it opens (scope), and the body."""

    type: int
    scope: int
    hint: bytes
    body: bytes

    def pack(self) -> bytes:
        return _HEAD.pack(self.type, self.scope, len(self.body), self.hint) + self.body

    @property
    def type_name(self) -> str:
        return TYPE_NAMES.get(
            self.type, f"{'foreign' if self.type >= FOREIGN else 'unknown'} type {self.type}"
        )


@runtime_checkable
class Recipient(Protocol):
    """Somebody to encrypt to."""

    @property
    def algorithm(self) -> str:
        """Its name in the policy's registry."""

    @property
    def stanza_type(self) -> int:
        """The type of its stanzas, docs/spec/dcmx-v1.md section 4.2."""

    @property
    def hint(self) -> bytes:
        """Eight bytes by which its stanzas are known, NO_HINT if nothing shall tell them."""

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        """Wrap 32 bytes of key; binding is CORE, or the batch id for scope 4."""


@runtime_checkable
class Identity(Protocol):
    """Somebody who may decrypt."""

    def matches(self, stanza: Stanza) -> bool:
        """Whether type and hint say that the stanza is for this identity."""

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the 32 bytes of key, or None if the stanza is not for this identity."""


def stanza_info(kind: int, scope: int, binding: bytes) -> bytes:
    """Return what a stanza is bound to: its type, its scope and its object or batch."""
    return b"dcmx/1 stanza\0" + bytes((kind, scope)) + binding


def check_strengths(kinds: Iterable[int]) -> None:
    """Refuse a classical recipient beside a post-quantum one: the weakest decides.

    Raises UsageError."""
    kinds = set(kinds)
    if kinds & POST_QUANTUM_TYPES and kinds & CLASSICAL_TYPES:
        raise UsageError(
            "a classical recipient beside a post-quantum one makes the object as weak as the "
            "classical key: leave it out, or give --allow-classical"
        )


def parse_stanzas(data: bytes, count: int) -> list[Stanza]:
    """Parse exactly `count` stanzas that fill `data`; raises DamagedError otherwise."""
    stanzas, at = [], 0
    for _ in range(count):
        if len(data) - at < _HEAD.size:
            raise DamagedError("a stanza is cut off")
        kind, scope, length, hint = _HEAD.unpack_from(data, at)
        at += _HEAD.size + length
        if at > len(data):
            raise DamagedError("a stanza is cut off")
        stanzas.append(Stanza(kind, scope, hint, data[at - length : at]))
    if at != len(data):
        raise DamagedError("the stanzas do not fill their slot")
    return stanzas
