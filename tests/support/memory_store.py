"""A store of a vault in memory: nothing of it has a path."""

from __future__ import annotations

from dicomcrypt.errors import MissingBlobError, OutputExistsError
from dicomcrypt.vault.store import check_name


class MemoryStore:
    """The operations of the protocol `Store`, and no others. requests: how many were made."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.requests = 0

    def _get(self, name: str) -> bytes:
        self.requests += 1
        if check_name(name) not in self.blobs:
            raise MissingBlobError(f"the vault lacks {name!r}")
        return self.blobs[name]

    def put_new(self, name, data) -> None:
        if check_name(name) in self.blobs:
            raise OutputExistsError(f"{name!r} exists")
        self.replace(name, data)

    def replace(self, name, data) -> None:
        self.requests += 1
        flat = isinstance(data, bytes | bytearray | memoryview)
        self.blobs[check_name(name)] = bytes(data) if flat else b"".join(data)

    def read(self, name, offset=0, length=None) -> bytes:
        data = self._get(name)
        return data[offset:] if length is None else data[offset : offset + length]

    def size(self, name) -> int:
        return len(self._get(name))

    def list(self, prefix):
        self.requests += 1
        return iter([name for name in self.blobs if name.startswith(prefix)])

    def delete(self, name) -> bool:
        self.requests += 1
        return self.blobs.pop(check_name(name), None) is not None

    def delete_many(self, names) -> int:
        return sum(self.delete(name) for name in names)
