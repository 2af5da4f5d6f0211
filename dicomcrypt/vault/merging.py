"""Two records that are one patient's: IDs that were corrected (docs/spec/vault-v1.md, 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .keys import VaultKeys
from .rows import Row
from .selecting import identities_of
from .vault import Vault

MERGES = "merges"


def merge(vault: Vault, one: Sequence[bytes], into: Sequence[bytes]) -> int:
    """Make two records one; return how many rows are shown under the other identity from now on.

    Both have the identities of both afterwards, and rows of the first show the patient ID of the
    second. Keys and objects stay as they are. It is written down in the key table, too: it stands
    in no object. Hold the writers' lease."""
    if {*one} & {*into}:
        return 0
    target = main_identity(vault, into)
    identities = identities_of(vault.catalogue, [*one, *into])
    with vault.keys.transaction():
        merges = (vault.keys.document(MERGES) or {}).get(0, [])
        if [one[0], into[0]] not in merges:
            vault.keys.put_document(MERGES, {0: [*merges, [one[0], into[0]]]})
    rows: dict[bytes, list[Row]] = {}
    for key_id in (*one, *into):  # a key's own identity stays its first one
        known = {who.encode() for who in vault.catalogue.identities(key_id)}
        rows[key_id] = [who for who in identities if who.encode() not in known]
    count = 0
    for key_id, row in vault.catalogue.rows(one):
        rows[key_id].append(renamed(row, target))
        count += 1
    vault.catalogue.append(rows)
    return count


def main_identity(vault: Vault, records: Sequence[bytes]) -> Row:
    """Return the identity that a record is shown under: what most of its rows say."""
    names: dict[tuple[str | None, str | None], int] = {}
    for _, row in vault.catalogue.rows(records):
        place = row.IssuerOfPatientID, row.PatientID
        names[place] = names.get(place, 0) + 1
    known = {(who.IssuerOfPatientID, who.PatientID): who
             for who in identities_of(vault.catalogue, records)}
    best = max((place for place in names if place in known), key=names.__getitem__, default=None)
    return known[best] if best is not None else next(iter(known.values()))


def renamed(row: Row, target: Row) -> Row:
    """Return a row that shows another patient; of a record without a patient, the row itself."""
    if target.PatientID is None:
        return row
    return dataclasses.replace(row, PatientID=target.PatientID,
                               IssuerOfPatientID=target.IssuerOfPatientID)


def merges(keys: VaultKeys) -> Iterator[tuple[bytes, bytes]]:
    """Yield (a key of one record, a key of the one it was merged into), in their order."""
    pairs: list[list[bytes]] = (keys.document(MERGES) or {}).get(0, [])
    yield from ((one, into) for one, into in pairs)


def rename_merged(keys: VaultKeys, successors: Mapping[bytes, bytes]) -> None:
    """Name the record keys that take the places of others; in a `transaction` with their end."""
    before = list(merges(keys))
    after = [[successors.get(one, one), successors.get(into, into)] for one, into in before]
    if after != [[*pair] for pair in before]:
        keys.put_document(MERGES, {0: [pair for pair in after if pair[0] != pair[1]]})


def apply_merges(keys: VaultKeys, rows: dict[bytes, list[Row]]) -> None:
    """Do all merges again on rows that come from the objects alone, by record keys."""
    groups: dict[bytes, list[bytes]] = {}
    for key_id in rows:
        who = next((row.encode() for row in rows[key_id] if row.is_identity), key_id)
        groups.setdefault(who, []).append(key_id)
    whole = {key_id: found for found in groups.values() for key_id in found}
    for one, into in merges(keys):
        if one not in whole or into not in whole or whole[one] is whole[into]:
            continue
        first, second = whole[one], whole[into]
        target = next((r for r in rows[into] if r.is_identity), None)
        identities = _identities(rows, [*second, *first])
        for key_id in first:
            rows[key_id] = [renamed(r, target) if target and not r.is_identity else r
                            for r in rows[key_id]]
        second += first
        for key_id in second:
            whole[key_id] = second
            own = [r for r in rows[key_id] if r.is_identity][:1]  # stays the first one
            rows[key_id] = [*own, *(r for r in identities if r not in own),
                            *(r for r in rows[key_id] if not r.is_identity)]


def _identities(rows: dict[bytes, list[Row]], key_ids: Iterable[bytes]) -> list[Row]:
    found = {r.encode(): r for key_id in key_ids for r in rows[key_id] if r.is_identity}
    return list(found.values())
