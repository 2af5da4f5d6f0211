"""A store and keys in memory, for tests of the catalogue."""

from __future__ import annotations

import hashlib
import os

from dicomcrypt.errors import DamagedError, MissingBlobError, OutputExistsError


class Cut(BaseException):
    """The process ends here."""


class MemoryStore:
    """Blobs in a dictionary; `left`: how many changes still work, None for all."""

    def __init__(self):
        self.blobs, self.left = {}, None

    def _change(self):
        if self.left is not None:
            if not self.left:
                raise Cut
            self.left -= 1

    def put_new(self, name, data):
        self._change()
        if name in self.blobs:
            raise OutputExistsError(name)
        self.blobs[name] = bytes(data)

    def replace(self, name, data):
        self._change()
        self.blobs[name] = bytes(data)

    def delete(self, name):
        self._change()
        return self.blobs.pop(name, None) is not None

    def read(self, name, offset=0, length=None):
        if name not in self.blobs:
            raise MissingBlobError(name)
        data = self.blobs[name]
        return data[offset:] if length is None else data[offset : offset + length]

    def size(self, name):
        return len(self.read(name))

    def list(self, prefix):
        return iter([name for name in self.blobs if name.startswith(prefix)])


class PlainKeys:
    """What the catalogue wants of a vault's keys; `store` may cut its changes, too."""

    def __init__(self, store=None):
        self.vault_id, self.generation, self.state, self.head_generation = os.urandom(16), 1, 0, 0
        self._secret, self._cache, self.gone, self._store = os.urandom(32), 0, set(), store

    def _key(self, *parts):
        return hashlib.sha256(repr((self._secret, parts)).encode()).digest()

    def derive(self, g, label):
        if not 1 <= g <= self.generation:
            raise DamagedError("no such vault key")
        return self._key("vault", g, label)

    def is_gone(self, record):
        return self.row_key(record) is None

    def row_key(self, record):
        return None if record in self.gone else self._key("row", record)

    def cache_key(self):
        return self._key("cache", self._cache)

    def erase(self, *records):
        self.gone |= {*records}
        self._cache += 1

    def raise_state(self, n, g=0):
        if self._store is not None:
            self._store._change()
        assert n >= self.state
        self.state, self.head_generation = n, max(g, self.head_generation)
