"""New UIDs for old ones: the same everywhere under one key, and nothing without it."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os

from ..errors import OutputExistsError, UsageError
from ..keys.keyfile import write_private
from ..regular import others_may

KEY_SIZE = 32
_STANDARD = b"1.2.840.10008."
_LINE = b"dicomcrypt-uid-key-1 "


class UidMap:
    """Replaces UIDs by ones under 2.25 (PS3.5 B.2), a UUID of version 8 (RFC 9562) made by
    HMAC-SHA-256 of the old one: who has the key gets the same one again, in every file, process and
    run. Those of the standard itself stay. key: 32 secret bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise UsageError(f"a UID key has {KEY_SIZE} bytes")
        self._key = key
        self._new = functools.lru_cache(1 << 14)(self._make)

    def __repr__(self) -> str:
        return "UidMap()"

    def __reduce__(self) -> tuple[object, ...]:
        return UidMap, (self._key,)

    def _make(self, uid: bytes) -> bytes:
        digest = int.from_bytes(hmac.digest(self._key, uid, hashlib.sha256)[:16], "big")
        digest &= ~(0xF << 76 | 0x3 << 62)
        return b"2.25.%d" % (digest | 0x8 << 76 | 0x2 << 62)

    def new(self, value: bytes) -> bytes:
        """The value of a UI element with every UID in it replaced, padded; the very same value if
        none of them is to be."""
        uids = value.rstrip(b"\0 ").split(b"\\")
        found = [uid if not uid or uid.startswith(_STANDARD) else self._new(uid) for uid in uids]
        if found == uids:
            return value
        joined = b"\\".join(found)
        return joined + b"\0" * (len(joined) & 1)

    def pseudonym(self, value: bytes) -> bytes:
        """What takes the place of a patient's identifier: the same for the same one."""
        digest = hmac.digest(self._key, b"patient\0" + value.strip(b"\0 "), hashlib.sha256)
        return b"P" + digest[:8].hex().upper().encode()


def new_key() -> bytes:
    return os.urandom(KEY_SIZE)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(256)


def load_key(path: str) -> bytes:
    """Return the key of a file, which is made, readable by its owner alone, if it is not there.

    Raises UsageError, OSError."""
    try:
        data = _read(path)
    except FileNotFoundError:
        key = new_key()
        try:
            write_private(path, _LINE + key.hex().encode() + b"\n")
            return key
        except OutputExistsError:  # another job of the same tree was quicker
            data = _read(path)
    if others_may(path, 0o077):
        raise UsageError(f"the UID key {path!r} may be read by others: take that right away with "
                         "chmod 600")
    try:
        key = bytes.fromhex(data.removeprefix(_LINE).decode().strip())
    except ValueError:
        key = b""
    if not data.startswith(_LINE) or len(key) != KEY_SIZE:
        raise UsageError(f"{path!r} is no UID key: name a file that is not there, and one is made")
    return key
