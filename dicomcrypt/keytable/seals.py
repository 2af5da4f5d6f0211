"""What the key of a table seals: rows, and the head that stands for all of them."""

from __future__ import annotations

import hmac
import os
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..container.schedule import expand
from ..container.stanza import Recipient
from ..errors import DamagedError
from .access import wrap_key

_HEAD = struct.Struct(">16sQQ32s32s")  # as Head, then the seal
HEAD_SIZE = _HEAD.size
_NONCE, _TAG = 12, 16


class Head(NamedTuple):
    """The table's id, the number of changes so far, of entries, and a digest of the roster."""

    table_id: bytes
    counter: int
    entries: int
    roster: bytes


class Seals:
    """Seals and opens under keys derived from the table key (docs/keytable.md). False if wiped."""

    def __init__(self, table_id: bytes, key: bytes) -> None:
        self.table_id, self._key = table_id, bytearray(key)

    def __repr__(self) -> str:
        return f"Seals({self.table_id.hex()})"

    def __bool__(self) -> bool:
        return bool(self._key)

    def wipe(self) -> None:
        """Overwrite the key; copies that libraries made of it are beyond reach."""
        self._key[:] = bytes(len(self._key))
        self._key = bytearray()

    def derive(self, purpose: bytes, name: bytes, length: int = 32) -> bytes:
        info = b"dcmx/1 keytable %s\0" % purpose + self.table_id + name
        return expand(self._key, info, length)  # type: ignore[arg-type]  # no copy is left behind

    def seal(self, purpose: bytes, name: bytes, head: bytes, content: bytes) -> bytes:
        """Return nonce and ciphertext of a row; head is what stands before them, in clear."""
        nonce = os.urandom(_NONCE)
        cipher = AESGCM(self.derive(purpose, name))
        return nonce + cipher.encrypt(nonce, content, self.table_id + name + head)

    def open(self, purpose: bytes, name: bytes, head: bytes, sealed: bytes) -> bytes:
        """Undo `seal`; raises InvalidTag."""
        if len(sealed) < _NONCE + _TAG:
            raise InvalidTag
        cipher = AESGCM(self.derive(purpose, name))
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self.table_id + name + head)

    def seal_head(self, head: Head) -> bytes:
        message = _HEAD.pack(*head, b"")[:-32]
        return message + hmac.digest(self.derive(b"head", b""), message, "sha256")

    def open_head(self, value: bytes) -> Head:
        """Undo `seal_head`; raises DamagedError."""
        if len(value) == HEAD_SIZE:
            head = Head(*_HEAD.unpack(value)[:-1])
            if hmac.compare_digest(self.seal_head(head), value) and head.table_id == self.table_id:
                return head
        raise DamagedError("the key table's head was changed without its key")

    def wrap(self, recipient: Recipient, name: bytes) -> bytes:
        """Return the table key as an access row for somebody."""
        return wrap_key(bytes(self._key), recipient, self.table_id, name)

    def key(self) -> bytes:
        """The table key, for whoever opens the same table again."""
        return bytes(self._key)

    def made_of(self, key: bytes) -> bool:
        """Whether this is the table key."""
        return hmac.compare_digest(key, bytes(self._key))
