"""The vault stanza: an object's key, wrapped by its record's key (docs/spec/vault-v1.md, 2.1)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from ..container.stanza import FULL, VAULT, Stanza, stanza_info
from ..errors import DamagedError, NoIdentityError, UsageError
from .keys import object_wrapping_key

_HEAD = struct.Struct("<I12s")
_BODY = _HEAD.size + 16 + 40 + 16
#: What policies call it.
ALGORITHM = "aes-kw"


class VaultRecipient:
    """A record of a vault, as who an object is encrypted to.

    generation, stanza_key: of the latest vault key, `VaultKeys.derive(generation, "stanza")`."""

    algorithm = ALGORITHM
    stanza_type = VAULT

    def __init__(
        self, vault_id: bytes, generation: int, stanza_key: bytes, record_id: bytes,
        record_key: bytes,
    ) -> None:  # fmt: skip
        self.hint, self._generation = vault_id[:8], generation
        self._seal = AESGCM(stanza_key)
        self._record_id, self._record_key = record_id, record_key

    def __repr__(self) -> str:
        return f"VaultRecipient({self.hint.hex()})"

    def wrap(self, key: bytes, scope: int, binding: bytes) -> Stanza:
        if scope != FULL:
            raise UsageError("a vault holds whole objects")
        wrapped = aes_key_wrap(object_wrapping_key(self._record_key, binding), key)
        nonce = os.urandom(12)
        sealed = self._seal.encrypt(
            nonce, self._record_id + wrapped, stanza_info(VAULT, scope, binding)
        )
        return Stanza(VAULT, scope, self.hint, _HEAD.pack(self._generation, nonce) + sealed)


class StanzaKeys(NamedTuple):
    """What opens a vault's objects in another process, besides their record keys.

    keys: the stanza keys of all generations; the first is generation 1."""

    vault_id: bytes
    keys: list[bytes]

    def __repr__(self) -> str:
        return f"StanzaKeys({self.vault_id.hex()})"

    def identity(self, record_key: Callable[[bytes], bytes | None]) -> VaultIdentity:
        """Return who opens them. record_key: as of VaultIdentity."""
        def stanza_key(g: int) -> bytes:
            if not 1 <= g <= len(self.keys):
                raise DamagedError("the object is of a newer generation than the key table: is "
                                   "that an old copy?")
            return self.keys[g - 1]

        return VaultIdentity(self.vault_id, stanza_key, record_key)


class VaultIdentity:
    """Who holds a vault's keys.

    stanza_key: the stanza key of a generation, raises DamagedError if there is none. record_key:
    a record's key by its id, None if it is gone. Several threads may share one if they may share
    what it asks."""

    algorithm = ALGORITHM

    def __init__(
        self, vault_id: bytes, stanza_key: Callable[[int], bytes],
        record_key: Callable[[bytes], bytes | None],
    ) -> None:  # fmt: skip
        self._hint, self._stanza_key, self._record_key = vault_id[:8], stanza_key, record_key
        self._seals: dict[int, AESGCM] = {}
        self._last: tuple[Stanza, bytes, tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        return f"VaultIdentity({self._hint.hex()})"

    def matches(self, stanza: Stanza) -> bool:
        return stanza.type == VAULT and stanza.hint == self._hint and stanza.scope == FULL

    def record_of(self, stanza: Stanza, binding: bytes) -> tuple[bytes, bytes] | None:
        """Return the id of the record key that a stanza needs, and the wrapped key."""
        last = self._last
        if last is not None and last[0] is stanza and last[1] == binding:
            return last[2]
        if not self.matches(stanza) or len(stanza.body) != _BODY:
            return None
        generation, nonce = _HEAD.unpack_from(stanza.body)
        if generation not in self._seals:
            self._seals[generation] = AESGCM(self._stanza_key(generation))
        try:
            content = self._seals[generation].decrypt(
                nonce, stanza.body[_HEAD.size :], stanza_info(VAULT, stanza.scope, binding)
            )
        except InvalidTag:
            return None
        found = content[:16], content[16:]
        self._last = stanza, binding, found  # who asks whose it is opens it next
        return found

    def unwrap(self, stanza: Stanza, binding: bytes) -> bytes | None:
        """Return the object key; None if the stanza is not this vault's, or was changed.

        Raises NoIdentityError if the record was erased."""
        found = self.record_of(stanza, binding)
        if found is None:
            return None
        key = self._record_key(found[0])
        if key is None:
            raise NoIdentityError("the key of the object's record is gone: it was erased")
        try:
            return aes_key_unwrap(object_wrapping_key(key, binding), found[1])
        except (InvalidUnwrap, ValueError):
            return None
