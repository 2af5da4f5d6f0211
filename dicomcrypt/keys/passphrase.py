"""Passphrases: stanza types 5 (scrypt) and 6 (Argon2id)."""

from __future__ import annotations

import hmac
import os
import struct
import unicodedata
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from ..container.schedule import expand
from ..container.stanza import ARGON2ID, NO_HINT, PASSPHRASE_TYPES, SCRYPT, Stanza, stanza_info
from ..errors import DamagedError, UsageError

_ARGON = struct.Struct("<IBB")
_TAIL = 16 + 32 + 40  # salt, commitment, wrapped key


class Passphrase:
    """A passphrase, as recipient and as identity.

    passphrase: text, normalised to NFC and encoded as UTF-8. kdf: "argon2id" (64 MiB, 3
    passes, 4 lanes: RFC 9106 section 4's second choice) or "scrypt" (N = 2^17, r = 8,
    p = 1: 128 MiB). The parameters stand in each stanza; larger ones slow down guessing.

    Raises UsageError for an empty passphrase and parameters outside the specification.
    """

    hint = NO_HINT
    costly = True

    def __init__(
        self,
        passphrase: str,
        *,
        kdf: str = "argon2id",
        log2_n: int = 17,
        memory_kib: int = 65536,
        passes: int = 3,
        lanes: int = 4,
    ) -> None:
        if not passphrase:
            raise UsageError("an empty passphrase protects nothing")
        if kdf not in ("argon2id", "scrypt"):
            raise UsageError(f"unknown key derivation {kdf!r}: use argon2id or scrypt")
        self._secret = unicodedata.normalize("NFC", passphrase).encode("utf-8")
        self._settings = (kdf, log2_n, memory_kib, passes, lanes)
        self.algorithm = kdf
        self.stanza_type = ARGON2ID if kdf == "argon2id" else SCRYPT
        try:
            if kdf == "argon2id":
                self._parameters = _ARGON.pack(memory_kib, passes, lanes)
            else:
                self._parameters = bytes((log2_n,))
        except (struct.error, ValueError):
            self._parameters = b"\0" * _ARGON.size
        derive = _parse(self.stanza_type, self._parameters)
        if derive is None:
            raise UsageError("the key derivation's parameters are out of range")
        self._derive = derive

    def __repr__(self) -> str:
        return "Passphrase(...)"

    def __reduce__(self) -> tuple[Any, ...]:
        kdf, log2_n, memory, passes, lanes = self._settings
        return _rebuild, (self._secret.decode("utf-8"), kdf, log2_n, memory, passes, lanes)

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        """Wrap 32 bytes of key into a stanza; takes as long as the parameters say."""
        salt = os.urandom(16)
        kek, commitment = self._keys(self._derive(salt), self.stanza_type, scope, binding)
        body = self._parameters + salt + commitment + aes_key_wrap(kek, key)
        return Stanza(self.stanza_type, scope, NO_HINT, body)

    def matches(self, stanza: Stanza) -> bool:
        return False  # no hint tells whose passphrase it is

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the wrapped key, or None if the passphrase does not fit.

        Raises DamagedError for parameters beyond the specification's limits, before they
        cost anything."""
        if stanza.type not in PASSPHRASE_TYPES:
            return None
        split = 1 if stanza.type == SCRYPT else _ARGON.size
        if len(stanza.body) != split + _TAIL:
            return None
        derive = _parse(stanza.type, stanza.body[:split])
        if derive is None:
            raise DamagedError("the header asks for a key derivation beyond its limits")
        salt = stanza.body[split : split + 16]
        kek, commitment = self._keys(derive(salt), stanza.type, stanza.scope, binding)
        if not hmac.compare_digest(commitment, stanza.body[split + 16 : split + 48]):
            return None
        try:
            return aes_key_unwrap(kek, stanza.body[split + 48 :])
        except (InvalidUnwrap, ValueError):
            raise DamagedError("the passphrase stanza of the header is damaged") from None

    def _keys(
        self, kdf: Argon2id | Scrypt, kind: int, scope: int, binding: bytes
    ) -> tuple[bytes, bytes]:
        keys = expand(kdf.derive(self._secret), stanza_info(kind, scope, binding), 64)
        return keys[:32], keys[32:]


def _rebuild(
    passphrase: str, kdf: str, log2_n: int, memory: int, passes: int, lanes: int
) -> Passphrase:
    return Passphrase(
        passphrase, kdf=kdf, log2_n=log2_n, memory_kib=memory, passes=passes, lanes=lanes
    )


def _parse(kind: int, parameters: bytes) -> Callable[[bytes], Argon2id | Scrypt] | None:
    """Return salt -> KDF for a stanza's parameters, None if they are out of range."""
    if kind == SCRYPT:
        if not 15 <= parameters[0] <= 20:
            return None
        return lambda salt: Scrypt(salt=salt, length=32, n=1 << parameters[0], r=8, p=1)
    memory, passes, lanes = _ARGON.unpack(parameters)
    if not (1 <= passes <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory <= 1 << 21):
        return None
    return lambda salt: Argon2id(
        salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory
    )
