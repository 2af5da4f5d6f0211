"""The key file of the database: what is stored of codes is hashed, and what is stored of persons
encrypted, by keys that come from it."""

from __future__ import annotations

import hmac
import os
import re

from ..errors import DamagedError, UsageError
from ..keys.keyfile import read_secret_line, write_private
from ..regular import others_may
from .code import packed

_NONCE = 12
_HEX = re.compile("[0-9a-f]{64}")


class Secret:
    """Keyed hashes (HMAC-SHA256) and encryption (AES-256-GCM) under one key of 32 bytes.

    Every use has a label of its own; fields are packed with their lengths."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if len(key) != 32:
            raise UsageError("the key of the database is 32 bytes long")
        both = HKDF(hashes.SHA256(), 64, None, b"dicomcrypt otp 1 keys").derive(key)
        self._mac, self._aead = both[:32], AESGCM(both[32:])

    def __repr__(self) -> str:
        return "Secret(...)"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Secret:
        """Read the key file: 64 hexadecimal digits. Raises UsageError naming it."""
        name = os.fspath(path)
        if others_may(path, 0o077):
            raise UsageError(f"the key file {name!r} may be read by others: take that right away "
                             "with chmod 600")
        line = read_secret_line(path, "key file")
        if not _HEX.fullmatch(line):
            raise UsageError(f"key file {name!r} does not hold 64 hexadecimal digits")
        return cls(bytes.fromhex(line))

    @staticmethod
    def write_new(path: str | os.PathLike[str]) -> None:
        write_private(path, os.urandom(32).hex().encode() + b"\n")

    def mac(self, label: str, *fields: bytes) -> bytes:
        """Return a keyed hash, 32 bytes."""
        return hmac.digest(self._mac, packed(label.encode(), *fields), "sha256")

    def pseudonym(self, label: str, *fields: bytes) -> str:
        """Return a name for what has none in the database, 32 hexadecimal digits like others."""
        return self.mac(label, *fields)[:16].hex()

    def seal(self, label: str, owner: str, data: bytes) -> bytes:
        """Encrypt a column's value, bound to what it is and to the row that it stands in."""
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, data, packed(label.encode(), owner.encode()))

    def open(self, label: str, owner: str, sealed: bytes) -> bytes:
        """Decrypt what `seal` made; raises DamagedError."""
        from cryptography.exceptions import InvalidTag

        sealed = bytes(sealed)  # some drivers give a memoryview
        try:
            return self._aead.decrypt(sealed[:_NONCE], sealed[_NONCE:],
                                      packed(label.encode(), owner.encode()))
        except (InvalidTag, ValueError):
            raise DamagedError("a row of the database is damaged, or of another key file") from None
