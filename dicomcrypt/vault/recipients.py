"""Who may open a vault: added to its key table, or taken away with a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..container.stanza import PASSPHRASE_TYPES, Recipient, Stanza
from ..errors import UnknownKeyError, UsageError
from ..keys.hpke import HpkeRecipient
from ..keys.keyfile import parse_recipients, recipient_text
from ..keytable import UnlockedKeyTable
from ..keytable.rotation import replace_table
from .keys import VaultKeys

DOCUMENT = "recipients"


def remember(keys: VaultKeys, access: Mapping[str, Recipient]) -> None:
    """Keep public keys in the key table: a table with a new key is made for them one day.

    Of recipients that are no key files (certificates) and of logins none is kept."""
    with keys.transaction():
        document = keys.document(DOCUMENT) or {}
        known = {name: text for name, text in document.get(0, [])}
        for name, recipient in access.items():
            known.pop(name, None)
            if isinstance(recipient, HpkeRecipient):
                known[name] = recipient_text(recipient)
        keys.put_document(DOCUMENT, {0: [[name, text] for name, text in known.items()]})


def _known(keys: VaultKeys) -> dict[str, Recipient]:
    entries = (keys.document(DOCUMENT) or {}).get(0, [])
    return {name: parse_recipients(text)[0] for name, text in entries}


def add(keys: VaultKeys, name: str, recipient: Recipient, *, replace: bool = False) -> None:
    """Let somebody open the vault: its key table changes, nothing else, however large it is.

    Raises UsageError if the name is taken."""
    with keys.transaction():
        keys.table.grant(name, recipient, replace=replace)
        remember(keys, {name: recipient})


def listed(keys: VaultKeys) -> list[dict[str, Any]]:
    """Who may open the vault: name, type, hint, and whether the public key is at hand."""
    known = _known(keys)
    return [
        {"name": name, "type": stanza.type_name, "hint": stanza.hint.hex(),
         "public_key_known": name in known}
        for name, stanza in keys.table.accesses().items()
    ]  # fmt: skip


def _same(stanza: Stanza, recipient: Recipient) -> bool:
    return stanza.type == recipient.stanza_type and stanza.hint == recipient.hint


def remove(
    keys: VaultKeys, path: str, names: Sequence[str], *, given: Sequence[Recipient] = (),
    logins: Mapping[str, Recipient] | None = None, drop: bool = False,
) -> tuple[VaultKeys, list[str]]:
    """Take accesses away: a new key table, with a new key, takes the old one's place, and a new
    vault key is made, under which everything is that is added from now on.

    given: recipients that stay and of whom the table has no public key; logins: those that stay,
    with their passphrases; drop: what is neither goes, too. Hold the writers' lease. Returns the
    keys of the new table, open, and the names that are gone; the old one is closed. Raises
    UnknownKeyError for a name that nobody has, UsageError for accesses that could not be kept.
    """
    accesses = keys.table.accesses()
    for name in names:
        if name not in accesses:
            raise UnknownKeyError(f"the vault has no recipient {name!r}: it may be opened by "
                                  f"{', '.join(accesses)}")
    for name in names:
        for other, stanza in accesses.items():
            if other not in names and stanza.hint == accesses[name].hint and (
                stanza.type == accesses[name].type not in PASSPHRASE_TYPES
            ):
                raise UsageError(f"{name!r} and {other!r} are the same key, which would still open "
                                 "the vault: remove both names")
    known, logins = _known(keys), logins or {}
    staying: dict[str, Recipient] = {}
    lost: list[str] = []
    for name, stanza in accesses.items():
        if name in names:
            continue
        if name in logins:
            staying[name] = logins[name]
        elif name in known and _same(stanza, known[name]):
            staying[name] = known[name]
        else:
            found = next((r for r in given if _same(stanza, r)), None)
            if found is not None and stanza.type not in PASSPHRASE_TYPES:
                staying[name] = found
            else:
                lost.append(name)
    if lost and not drop:
        raise UsageError(
            f"the new key table cannot be made for {', '.join(lost)}: give their public keys or "
            "certificates with -r (the old one has no certificates), a login's passphrase with "
            "--keep-login, or --drop-others, and add them again"
        )
    if not staying:
        raise UsageError("the last recipient cannot be taken away: nobody could open the vault")

    def prepare(table: UnlockedKeyTable) -> None:
        made = VaultKeys(table)
        made.new_generation()
        made.put_document(DOCUMENT, {0: []})
        remember(made, staying)

    table = replace_table(keys.table, path, staying, prepare)
    return VaultKeys(table), [*names, *lost]
