"""CMS recipients by password (RFC 3211): PBKDF2 (RFC 8018) makes a key, which wraps the content key
with AES in CBC, twice."""

from __future__ import annotations

import functools
import hmac
import os
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from .. import policy
from ..errors import PolicyError
from . import ber
from .ber import Element, damaged, integer, octets, oid, sequence, tlv
from .cms_recipients import AES256_CBC, CBC_SIZES

ITERATIONS, MOST_ITERATIONS = 600_000, 10_000_000
_SALT, _BLOCK = 16, 16
_PBKDF2 = oid("1.2.840.113549.1.5.12")
_PWRI_KEK = oid("1.2.840.113549.1.9.16.3.9")
_HMACS: dict[bytes, Any] = {
    oid(f"1.2.840.113549.2.{n}"): kind for n, kind in
    ((7, hashes.SHA1), (8, hashes.SHA224), (9, hashes.SHA256), (10, hashes.SHA384),
     (11, hashes.SHA512))
}  # fmt: skip
_HMAC_SHA256 = oid("1.2.840.113549.2.9")


@functools.lru_cache(maxsize=32)
def _derive(password: bytes, salt: bytes, iterations: int, digest: Any, size: int) -> bytes:
    """Kept, as the messages of one job are of one salt."""
    return PBKDF2HMAC(digest(), size, salt, iterations).derive(password)


class PasswordRecipient:
    """Whoever knows a password (bytes, UTF-8). The key that PBKDF2 makes of it, with one salt, is
    made once and serves every message of this recipient: it wraps, each time with new random bytes,
    a content key of the message's own. Raises PolicyError."""

    version, password = 0, True

    def __init__(self, password: bytes, *, iterations: int = ITERATIONS) -> None:
        policy.current().require("pbkdf2-sha256", "encrypt")
        self._salt, self._iterations = os.urandom(_SALT), iterations
        self._kek = _derive(password, self._salt, iterations, hashes.SHA256, 32)

    def __repr__(self) -> str:
        return "PasswordRecipient()"

    def info(self, key: bytes) -> bytes:
        """Return the PasswordRecipientInfo, DER, of a content key."""
        first = os.urandom(_BLOCK)
        size = -(-(4 + len(key)) // _BLOCK) * _BLOCK
        check = bytes(byte ^ 0xFF for byte in key[:3])
        block = bytes((len(key),)) + check + key
        block += os.urandom(max(size, 2 * _BLOCK) - len(block))
        cipher = algorithms.AES(self._kek)
        once = _crypt(Cipher(cipher, modes.CBC(first)).encryptor(), block)
        wrapped = _crypt(Cipher(cipher, modes.CBC(once[-_BLOCK:])).encryptor(), once)
        how = tlv(0xA0, _PBKDF2, sequence(
            octets(self._salt), integer(self._iterations), sequence(_HMAC_SHA256, ber.NULL_DER)
        ))  # fmt: skip
        inner = sequence(AES256_CBC, octets(first))
        return tlv(0xA3, integer(0), how, sequence(_PWRI_KEK, inner), octets(wrapped))


def _crypt(context: CipherContext, data: bytes) -> bytes:
    return context.update(data) + context.finalize()


def unwrap(info: Element, size: int, passwords: Iterable[bytes]) -> bytes | None:
    """Return the content key of a PasswordRecipientInfo, None if no password fits.

    Raises DamagedError, PolicyError for what is not known here or asks for too much work."""
    parts = info.children()
    if len(parts) != 4 or parts[1].tag != 0xA0:
        raise damaged()
    _, derived, how, wrapped = parts
    named = derived.children()
    if len(named) != 2 or named[0].whole != _PBKDF2:
        raise PolicyError("the CMS message's password is used in a way that is not known here")
    salt, rounds, *more = named[1].children()
    digest: Any = hashes.SHA1
    for part in more:
        if part.tag == ber.SEQUENCE:
            digest = _HMACS.get(part.children()[0].whole)
    iterations = rounds.integer()
    if digest is None or salt.tag != ber.OCTETS:
        raise damaged()
    if not 1 <= iterations <= MOST_ITERATIONS:
        raise PolicyError(f"the CMS message wants a password hashed {iterations} times: refused")
    wrap, inner = how.children()
    cipher, first = inner.children()
    key_size = CBC_SIZES.get(cipher.whole)
    if wrap.whole != _PWRI_KEK or key_size is None:
        raise PolicyError("the CMS message's key is wrapped in a way that is not known here")
    data, start = wrapped.content, first.content
    if len(start) != _BLOCK or len(data) % _BLOCK or not 2 * _BLOCK <= len(data) <= 1024:
        raise damaged()
    policy.current().require("pbkdf2-sha256", "decrypt")
    for password in passwords:
        kek = algorithms.AES(_derive(password, salt.content, iterations, digest, key_size))
        # The last block first: it is the first pass's, and the second one's starting block.
        last = _crypt(Cipher(kek, modes.CBC(data[-2 * _BLOCK : -_BLOCK])).decryptor(),
                      data[-_BLOCK:])
        once = _crypt(Cipher(kek, modes.CBC(last)).decryptor(), data[:-_BLOCK]) + last
        block = _crypt(Cipher(kek, modes.CBC(start)).decryptor(), once)
        found = block[4 : 4 + block[0]]
        check = bytes(byte ^ 0xFF for byte in found[:3])
        if block[0] == size == len(found) and hmac.compare_digest(check, block[1:4]):
            return found
    return None
