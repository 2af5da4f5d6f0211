"""A key table's keys as an OpenPGP message (RFC 9580), which GnuPG reads and writes too.

The content is JSON: {"format": "dicomcrypt-keytable-1", "table": hex, "keys": [{"id": hex,
"kind": text, "label": text or null, "key": base64 of 32 bytes}]}. Documents and accesses stay
behind.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DamagedError, MissingExtraError, NoIdentityError, UsageError

if TYPE_CHECKING:
    from .unlocked import KeyInfo

FORMAT = "dicomcrypt-keytable-1"
#: Bytes of a message that is imported: some millions of keys.
LONGEST_MESSAGE = 1 << 29


class Entry(NamedTuple):
    """An imported key."""

    id: bytes
    kind: str
    label: str | None
    key: bytes

    def __repr__(self) -> str:
        return f"Entry({self.id.hex()})"


def _library() -> Any:
    try:
        import pysequoia
    except ImportError:
        raise MissingExtraError(
            "OpenPGP messages need pysequoia: pip install 'dicomcrypt[openpgp]'"
        ) from None
    return pysequoia


def to_json(table_id: bytes, entries: Iterable[tuple[KeyInfo, bytes]]) -> bytes:
    """Return the content of a message; it is secret."""
    keys = [
        {"id": info.id.hex(), "kind": info.kind, "label": info.label,
         "key": base64.b64encode(key).decode()}
        for info, key in entries
    ]  # fmt: skip
    return json.dumps({"format": FORMAT, "table": table_id.hex(), "keys": keys}, indent=1).encode()


def from_json(text: bytes) -> list[Entry]:
    """Parse a message's content; raises UsageError, never showing what it read."""
    try:
        content = json.loads(text, object_pairs_hook=_each_once)
        if content["format"] != FORMAT:
            raise UsageError("the message holds no keys of a key table that this knows")
        found = [_entry(item) for item in content["keys"]]
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(
            "the message holds no keys of a key table: docs/keytable.md tells its form"
        ) from None
    if len({entry.id for entry in found}) != len(found):
        raise UsageError("the message holds a key twice")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError for one that says something twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _entry(item: dict[str, Any]) -> Entry:
    kind, label = item["kind"], item.get("label")
    if not isinstance(kind, str) or not isinstance(label, str | None):
        raise TypeError
    try:
        key_id, key = bytes.fromhex(item["id"]), base64.b64decode(item["key"], validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(key_id) != 16 or len(key) != 32:
        raise ValueError
    return Entry(key_id, kind, label, key)


def encrypt(
    content: bytes, *, password: str | None, certificates: Sequence[bytes], armor: bool
) -> bytes:
    """Encrypt for a password or for OpenPGP certificates, each armored or binary.

    OpenPGP stretches a password far less than Argon2id does: take a long one. Raises UsageError
    for both or neither, and for what is no certificate.
    """
    library = _library()
    if (password is None) != bool(certificates):
        raise UsageError("export with a password or for OpenPGP certificates")
    try:
        if password is not None:
            return bytes(library.encrypt(content, passwords=[password], armor=armor))
        found = [c for data in certificates for c in library.Cert.split_bytes(data)]
        if not found:
            raise UsageError("no OpenPGP certificate in it")
        return bytes(library.encrypt(content, recipients=found, armor=armor))
    except RuntimeError as error:  # with a backtrace in its text
        raise UsageError(f"cannot encrypt to the OpenPGP certificate: {_reason(error)}") from None


def decrypt(message: bytes, *, password: str | None, key: bytes | None) -> bytes:
    """Decrypt a message by its password, or by an OpenPGP secret key whose password it is.

    Raises NoIdentityError if neither opens it, DamagedError for a message that was changed or
    is none.
    """
    library = _library()
    if len(message) > LONGEST_MESSAGE:
        raise UsageError("the message is too large for an export of a key table")
    if password is None and key is None:
        raise UsageError("give the password of the OpenPGP message, or an OpenPGP secret key")
    try:
        how = {"passwords": [password]} if key is None else \
            {"decryptor": _decryptor(library, key, password)}
        content: bytes = library.decrypt(message, **how).bytes
        return content
    except RuntimeError as error:
        reason = _reason(error)
        if "key to decrypt" in reason or "password" in reason.lower():
            what = "password" if key is None else "OpenPGP key"
            raise NoIdentityError(f"wrong {what} for the OpenPGP message") from None
        raise DamagedError(f"not a whole OpenPGP message: {reason}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust; its class cannot be imported
            raise
        raise DamagedError("not a whole OpenPGP message: it cannot be parsed") from None


def _decryptor(library: Any, key: bytes, password: str | None) -> Any:
    try:
        secret = library.Tsk.from_bytes(key)
    except RuntimeError:
        raise UsageError("no OpenPGP secret key in it") from None
    try:
        return secret.decryptor(password)
    except RuntimeError as error:
        raise NoIdentityError(f"the OpenPGP key cannot be used: {_reason(error)}") from None


def _reason(error: RuntimeError) -> str:
    """The first line of an error, short: what follows is a backtrace."""
    return (str(error).splitlines() or [""])[0][:120].lower()
