"""The local cache of the catalogue: an SQLite image, sealed (docs/spec/vault-v1.md section 4.3)."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..container.schedule import expand
from ..errors import UsageError
from ..objects.atomic import AtomicFile
from ..objects.buffers import write_all
from ..regular import open_regular
from .segment import TAG, Keys

MAGIC = b"DCMXCCH1"
_HEAD = struct.Struct("<8s16s32s32sQ")
_PIECE = 1 << 20
#: SQLite takes images up to 1 GiB, and they have to grow: some 2.7 million objects.
IMAGE_LIMIT = 900 << 20


def _pieces(keys: Keys, head: bytes, size: int) -> tuple[AESGCM, Iterator[tuple[bytes, int]]]:
    """Return the cipher, and (nonce, plain bytes) of each piece."""
    salt = _HEAD.unpack(head)[3]
    cipher = AESGCM(expand(keys.cache_key(), b"dcmx/1 vault cache\0" + keys.vault_id + salt, 32))
    nonces = (
        (struct.pack("<QI", number, at + _PIECE >= size), min(_PIECE, size - at))
        for number, at in enumerate(range(0, size, _PIECE))
    )
    return cipher, nonces


def write_cache(path: str, keys: Keys, head_digest: bytes, image: bytes) -> bool:
    """Seal an image into a file of mode 0600; False if it is too large to keep, if something
    else than a file is in its place, or if it cannot be written."""
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    if not 0 < len(image) <= IMAGE_LIMIT:
        remove_cache(path)
        return False
    head = _HEAD.pack(MAGIC, keys.vault_id, head_digest, os.urandom(32), len(image))
    cipher, pieces = _pieces(keys, head, len(image))
    view, at = memoryview(image), 0
    try:
        with AtomicFile(path, force=True, sync=False) as file:  # a lost cache is made again
            write_all(file.raw, memoryview(head))
            for nonce, size in pieces:
                sealed = cipher.encrypt(nonce, view[at : at + size], head)
                write_all(file.raw, memoryview(sealed))
                at += size
            file.commit(mode=0o600)
    except OSError:  # a full medium, or one that is only read, keeps nobody from reading
        return False
    return True


def read_cache(path: str, keys: Keys) -> tuple[bytes, bytearray] | None:
    """Return (digest of the catalogue's head at that time, image); None for a cache that is not
    there, not whole, or not of this vault and key."""
    try:
        with open(open_regular(path), "rb") as file:
            head = file.read(_HEAD.size)
            magic, vault_id, digest, _, size = _HEAD.unpack(head)
            pieces_size = size + TAG * -(-size // _PIECE)
            if (magic != MAGIC or vault_id != keys.vault_id or not 0 < size <= IMAGE_LIMIT
                    or os.fstat(file.fileno()).st_size != _HEAD.size + pieces_size):
                return None
            cipher, pieces = _pieces(keys, head, size)
            image, at = bytearray(size), 0
            for nonce, part in pieces:
                image[at : at + part] = cipher.decrypt(nonce, file.read(part + TAG), head)
                at += part
    except (OSError, UsageError, InvalidTag, ValueError, struct.error):
        return None
    return digest, image


def remove_cache(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
