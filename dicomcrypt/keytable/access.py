"""Who may unlock a key table: wrapped table keys by name, and what slows down guessing."""

from __future__ import annotations

import hashlib
import math
import struct
import time
import unicodedata
from collections.abc import Iterable, Iterator

from ..container.stanza import PASSPHRASE_TYPES, Identity, Recipient, Stanza, parse_stanzas
from ..errors import DamagedError, NoIdentityError, ThrottledError, UsageError
from ..keys.passphrase import Passphrase
from ..keys.permission import check_decryption, check_encryption
from .store import ACCESS, ATTEMPTS, Store

#: The scope of stanzas that wrap a table's key; no object has it.
TABLE_SCOPE = 5
MOST_ACCESSES = 256
_LONGEST_NAME = 128
#: Wrong passwords without a delay; then 1 s, 2 s, 4 s and so on up to the longest.
FREE_ATTEMPTS, LONGEST_DELAY = 5, 30.0
_ATTEMPTS = struct.Struct(">IQ")  # wrong passwords, Unix time in ms before which none is tried


def access_name(name: str) -> bytes:
    """Return a login or access name as it is stored: NFC, UTF-8.

    Raises UsageError for an empty or long name, and for control characters."""
    try:
        found = unicodedata.normalize("NFC", name).encode()
    except UnicodeEncodeError:
        found = b""
    if not 0 < len(found) <= _LONGEST_NAME or any(
        unicodedata.category(ch).startswith("C") for ch in name
    ):
        raise UsageError(f"a name is 1 to {_LONGEST_NAME} bytes long, without control characters")
    return found


def _binding(table_id: bytes, name: bytes) -> bytes:
    """What a wrapped table key is bound to, 32 bytes: no other table takes it, nor another name."""
    return hashlib.sha256(b"dcmx/1 keytable access\0" + table_id + name).digest()


def wrap_key(key: bytes, recipient: Recipient, table_id: bytes, name: bytes) -> bytes:
    """Return an access row's value; raises PolicyError for what the policy does not let encrypt."""
    check_encryption([recipient])
    return recipient.wrap(key, TABLE_SCOPE, _binding(table_id, name)).pack()


def parse_access(value: bytes) -> Stanza:
    stanza = parse_stanzas(value, 1)[0]
    if stanza.scope != TABLE_SCOPE:
        raise DamagedError("an access of the key table is damaged")
    return stanza


def unwrap_by_password(store: Store, table_id: bytes, login: str, password: str) -> bytes:
    """Return the table key by login and password; the attempt is counted first.

    An unknown login costs and answers the same as a wrong password. Raises NoIdentityError,
    ThrottledError, and UsageError if attempts cannot be counted.
    """
    name, entered = access_name(login), Passphrase(password)
    bucket = hashlib.sha256(b"dcmx/1 keytable login\0" + table_id + name).digest()[:1]
    _spend(store, bucket)
    # somebody else's stands in for one that is not there: bound to his name, it cannot fit
    other = next(_passphrases(value for _, value in store.items(ACCESS)), None)
    stanza = next(_passphrases([store.get(ACCESS, name)]), other)
    if stanza is None:
        stanza = entered.wrap(bytes(32), TABLE_SCOPE, b"")
    key = entered.unwrap(stanza, _binding(table_id, name))
    if key is None:
        raise NoIdentityError("wrong login or password for the key table")
    check_decryption(entered, stanza)
    store.delete(ATTEMPTS, bucket)
    return key


def _passphrases(values: Iterable[bytes | None]) -> Iterator[Stanza]:
    for value in values:
        if value is not None and (stanza := parse_access(value)).type in PASSPHRASE_TYPES:
            yield stanza


def unwrap_by_identity(
    store: Store, table_id: bytes, identities: Iterable[Identity]
) -> bytes:
    """Return the table key by a private key; raises NoIdentityError if none fits."""
    identities = list(identities)
    for name, value in store.items(ACCESS):
        stanza = parse_access(value)
        for identity in identities:
            if identity.matches(stanza):
                key = identity.unwrap(stanza, _binding(table_id, name))
                if key is not None:
                    check_decryption(identity, stanza)
                    return key
    raise NoIdentityError("no identity fits the key table: is it one that was given access?")


def _spend(store: Store, bucket: bytes) -> None:
    """Count an attempt before it is made, or raise ThrottledError.

    Logins share 256 counters, so that a login that does not exist slows down like one that
    does, and the space stays small. A clock set back delays by the longest delay at most.
    """
    with store.transaction():
        now = int(time.time() * 1000)
        failures, until = _parse_attempts(store.get(ATTEMPTS, bucket))
        longest = now + int(LONGEST_DELAY * 1000)
        if until > longest:
            until = longest
            store.put(ATTEMPTS, bucket, _ATTEMPTS.pack(failures, until))
        if until <= now:
            failures = min(failures + 1, 1 << 16)
            over = failures - FREE_ATTEMPTS
            delay = 0.0 if over < 0 else min(2.0 ** min(over, 16), LONGEST_DELAY)
            store.put(ATTEMPTS, bucket, _ATTEMPTS.pack(failures, now + int(delay * 1000)))
    if until > now:
        seconds = (until - now) / 1000
        raise ThrottledError(
            f"too many wrong passwords: wait {math.ceil(seconds)} s and try again", seconds
        )


def _parse_attempts(value: bytes | None) -> tuple[int, int]:
    if value is None or len(value) != _ATTEMPTS.size:
        return 0, 0
    return _ATTEMPTS.unpack(value)
