"""Putting a vault in order again (docs/spec/vault-v1.md, 7)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..container.layout import OPAQUE, STREAM_ORDER, TAGS
from ..container.reader import Container, OpenContainer
from ..errors import DicomcryptError, MissingBlobError, OutputExistsError, UsageError
from ..objects.decoder import decode_stream
from ..objects.files import object_meta
from ..objects.signing import unlock
from .checking import Check, Finding, Progress, orphan_kind, record_of
from .doubles import Doubles, hash_content, lineage
from .erasing import erasures, finish_pending, note_again
from .facts import FAR, MOST, has_owner, owner_of, read_facts
from .merging import apply_merges
from .placing import journals, remove_journal
from .rows import Row, identity_row
from .sealing import keyed_hasher
from .selecting import whole_record
from .store import copy_blob, move_blob, open_blob
from .vault import REWRAP, Vault, object_name

DAMAGED = "damaged"
_LEFT = {"rewrap", "keyless"}  # not wrong for who writes, but not mended either
_SETS_ASIDE = {"damaged", "other", "size", "record", "foreign"}


@dataclass
class Repaired:
    """What was done: numbers of objects and rows, and where damaged objects are now."""

    aside: list[str] = field(default_factory=list)
    adopted: int = 0
    dropped: int = 0
    removed: int = 0
    buried: int = 0
    rebuilt: int = 0
    unreadable: int = 0
    left: list[Finding] = field(default_factory=list)


class _Beginning:
    """Takes the beginning of a stream, and no more."""

    class Enough(Exception):
        pass

    def __init__(self, most: int) -> None:
        self._most, self._scratch = most, bytearray()
        self.data = bytearray()
        self.position = 0

    def room(self, size: int) -> memoryview:
        if len(self._scratch) < size:
            self._scratch = bytearray(size)
        return memoryview(self._scratch)[:size]

    def take(self, size: int, rest: int) -> None:
        self.data += self._scratch[:size]
        self._scratch[:rest] = self._scratch[size : size + rest]
        self.position += size
        if len(self.data) >= self._most:
            raise self.Enough


def beginning(opened: OpenContainer, most: int = MOST) -> bytes:
    """Return the beginning of an object's file, without pixel data: its elements."""
    sid = TAGS if TAGS in opened.streams else OPAQUE
    if sid not in opened.streams:
        sid = next(sid for sid in STREAM_ORDER if sid in opened.streams)
    head = _Beginning(most)
    with contextlib.suppress(_Beginning.Enough):
        decode_stream(opened, sid, head, bytearray())
    return bytes(head.data)


def read_row(vault: Vault, object_id: bytes) -> tuple[bytes, Row, Row]:
    """Return a record key's id, the row of an object, and the identity row of its record, from the
    object alone. Raises DamagedError, NoIdentityError."""
    with contextlib.closing(open_blob(vault.store, object_name(object_id))) as source:
        container = Container(source)
        opened = unlock(container, [vault.identity])
        record = record_of(container, vault.identity)
        index, meta = object_meta(opened)
        facts: dict[str, Any] = {}
        if meta.link is None:
            for most in (MOST, FAR):
                data = memoryview(beginning(opened, most))
                facts = read_facts(data, len(data), lambda _: data)  # noqa: B023  called now
                if has_owner(facts) or len(data) < most:
                    break
    owner = owner_of(facts)
    job = lineage(vault.keys, record)[-1] if record else None
    who = identity_row(owner.issuer, owner.patient_id, study=owner.study, job=job)
    row = Row(
        object_id=object_id, path=meta.name or object_id.hex().encode(),
        size=index.size if index is not None and meta.link is None else 0,
        object_size=container.size, mtime_ns=max(meta.mtime_ns or 0, 0), added_ns=time.time_ns(),
        core_digest=hashlib.sha256(container.prefix.core).digest()[:16],
        generation=opened.unlocked.slot.generation, **facts,
    )  # fmt: skip
    return record or b"", row, who


def set_aside(vault: Vault, name: str, folder: str | None) -> str:
    """Move an object out of the vault's objects: into a folder, or below `damaged/` in the store.

    Returns its new place."""
    base = name.rpartition("/")[2]
    for number in range(1000):
        extra = f".{number}" if number else ""
        with contextlib.suppress(OutputExistsError, FileExistsError):
            if folder is None:
                target = f"{DAMAGED}/{base}{extra}"
                move_blob(vault.store, name, target)
                return target
            os.makedirs(folder, mode=0o700, exist_ok=True)
            path = os.path.join(folder, base + extra)
            copy_blob(vault.store, name, path)
            vault.store.delete(name)
            return path
    raise UsageError(f"a thousand files in {folder or DAMAGED!r} are called {base!r}: make room")


def bury_again(vault: Vault) -> int:
    """Destroy record keys that an old copy of the key table brought back."""
    gone = [record for _, records in erasures(vault.store, vault.keys) for record in records or ()
            if vault.keys.record_key(record) is not None]
    if not gone:
        return 0
    with vault.keys.transaction():
        vault.keys.bury_records(gone, time.time_ns())
        vault.keys.renew_cache_key()
    vault.keys.table.vacuum()
    return len(gone)


def repair(
    vault: Vault, *, aside: str | None = None, drop_missing: bool = False,
    remove_erased: bool = False, accept_old: bool = False, rebuild: bool = False,
    damaged: Iterable[str] = (), jobs: int = 1, progress: Progress | None = None,
) -> Repaired:
    """Put a vault, opened without its catalogue, in order. Hold the writers' lease.

    aside: folder for damaged objects, by default `damaged/` in the store. drop_missing: take away
    rows of objects that are gone; remove_erased: delete objects of erased records; accept_old:
    take older headers as they are; rebuild: write
    the catalogue anew from the objects alone; damaged: names of objects that are known not to be
    whole (`verify`). Raises UsageError for one that is not there, and for a folder in the vault."""
    if aside is not None:
        vault.refuse_inside(aside)
    damaged = [*damaged]
    for name in damaged:
        try:
            vault.store.size(name)
        except MissingBlobError:
            raise UsageError(f"the vault has no {name!r}: `vault verify` names what is not whole"
                             ) from None
    done = Repaired(buried=bury_again(vault))
    note_again(vault)
    if not vault.has_header():
        vault.write_header()
    if rebuild:
        _rebuild(vault, done, aside, progress)
    check = Check(vault, jobs=jobs, progress=progress)
    findings = list(check.run())
    if not check.readable:
        done.left = [finding for finding in findings if finding.wrong]
        return done
    finish_pending(vault)
    rows: dict[bytes, list[Row]] = {}
    doubles = Doubles(vault)
    known = {finding.name for finding in findings}
    findings += [Finding("damaged", True, "not every byte is as it was", name)
                 for name in damaged if name not in known]
    for finding in findings:
        if finding.kind in _SETS_ASIDE and finding.name is not None:
            with contextlib.suppress(MissingBlobError):
                done.aside.append(set_aside(vault, finding.name, aside))
            done.dropped += _drop(vault, finding.name, rows)
        elif finding.kind == "missing" and drop_missing:
            done.dropped += _drop(vault, finding.name or "", rows)
        elif finding.kind == "orphan":
            _adopt(vault, finding, rows, done, aside, doubles)
        elif finding.kind == "old" and accept_old:
            _accept(vault, finding.name or "", rows)
        elif finding.kind == "erased" and remove_erased:
            done.removed += vault.store.delete(finding.name or "")
        elif finding.kind in _LEFT or (finding.wrong and finding.kind != "revived"):
            done.left.append(finding)
    if rows:
        vault.catalogue.append(rows)
    vault.catalogue.compact()
    vault.remove_parts()
    for path in journals(vault):
        remove_journal(path)
    return done


def _drop(vault: Vault, name: str, rows: dict[bytes, list[Row]]) -> int:
    """Take away all rows of an object."""
    found = vault.catalogue.object(_id_of(name))
    for record, row in found:
        if row.removed() not in rows.setdefault(record, []):
            rows[record].append(row.removed())
    return len(found)


def _accept(vault: Vault, name: str, rows: dict[bytes, list[Row]]) -> None:
    """Let the rows of an object say which header it has."""
    with contextlib.closing(open_blob(vault.store, name)) as source:
        opened = unlock(Container(source), [vault.identity])
    for record, row in vault.catalogue.object(_id_of(name)):
        rows.setdefault(record, []).append(
            dataclasses.replace(row, generation=opened.unlocked.slot.generation))


def _id_of(name: str) -> bytes:
    return bytes.fromhex(name.rpartition("/")[2].partition(".")[0])


def _adopt(vault: Vault, finding: Finding, rows: dict[bytes, list[Row]], done: Repaired,
           aside: str | None, doubles: Doubles) -> None:  # fmt: skip
    """Give an object a row; if its record has the same file already, under the same path, it goes.
    """
    try:
        record, row, who = read_row(vault, _id_of(finding.name or ""))
    except (DicomcryptError, OSError):
        done.aside.append(set_aside(vault, finding.name or "", aside))
        return
    doubles.learn(who, record)
    if doubles.of(who, row) is not None:
        done.removed += vault.store.delete(object_name(row.object_id or b""))
        return
    row = dataclasses.replace(row, dedupe_digest=_dedupe_digest(vault, record, row))
    doubles.add(who, row)
    found = rows.setdefault(record, [])
    if not vault.catalogue.identities(record) and not any(r.is_identity for r in found):
        found.insert(0, who)
    found.append(row)
    done.adopted += 1


def _dedupe_digest(vault: Vault, record: bytes, row: Row) -> bytes | None:
    """Return by what an object is found when the same file is added again; None if that cannot be
    said."""
    own = vault.catalogue.identities(record)[:1]
    same = [k for k in whole_record(vault.catalogue, [record])
            if vault.catalogue.identities(k)[:1] == own]
    key = next(filter(None, map(vault.keys.dedupe_key, same)), None)
    try:
        return hash_content(vault, row.object_id or b"", keyed_hasher(key)) if key else None
    except (DicomcryptError, OSError):
        return None


def _rebuild(vault: Vault, done: Repaired, aside: str | None, progress: Progress | None) -> None:
    """Write the catalogue anew, from the objects alone.

    Other paths of a file that is stored once are kept if the catalogue can be read; merges come
    from the key table. Of what a deep rewrap that was cut short has made twice, the new one stays,
    and the rewrap goes on from there."""
    others = list(_aliases(vault))
    rewrap = vault.keys.document(REWRAP) is not None
    current: dict[bytes, bool] = {}
    twice: list[tuple[bytes, Row, Row]] = []
    doubles = Doubles(vault)
    rows: dict[bytes, list[Row]] = {}
    names = [name for name in vault.store.list("objects/") if name.endswith(".dcmx")]
    found: dict[bytes, tuple[bytes, Row]] = {}
    for number, name in enumerate(names, 1):
        object_id = _id_of(name)
        try:
            record, row, who = read_row(vault, object_id)
        except (DicomcryptError, OSError):
            if orphan_kind(vault, object_id)[0] in ("damaged", "foreign", "orphan"):
                with contextlib.suppress(MissingBlobError):
                    done.aside.append(set_aside(vault, name, aside))
            else:
                done.unreadable += 1
            continue
        finally:
            if progress is not None:
                progress(number, len(names))
        if record not in current:
            current[record] = not rewrap or vault.keys.is_current(record)
        if current[record] and doubles.of(who, row) is None:
            doubles.add(who, row)
            rows.setdefault(record, [who]).append(row)
            found[object_id] = record, row
        else:
            twice.append((record, row, who))
    for record, row, who in twice:
        if doubles.of(who, row) is not None:
            done.removed += vault.store.delete(object_name(row.object_id or b""))
            continue
        doubles.add(who, row)
        rows.setdefault(record, [who]).append(row)
        found[row.object_id or b""] = record, row
    if rewrap:  # what the key table says of a key counts until it has gone
        for record in list(rows):
            for old in lineage(vault.keys, record)[1:]:
                if vault.keys.record_key(old) is not None:
                    rows.setdefault(old, rows[record][:1])
    for record, row in others:
        if row.object_id in found and row.path != found[row.object_id][1].path:
            rows.setdefault(record, []).append(row)
    for object_rows in rows.values():
        done.rebuilt += sum(not row.is_identity for row in object_rows)
    apply_merges(vault.keys, rows)
    vault.catalogue.rebuild(rows.items())


def _aliases(vault: Vault) -> Iterator[tuple[bytes, Row]]:
    """Yield (record key id, row) of all rows, if the catalogue can be read."""
    try:
        vault.catalogue.open()
    except DicomcryptError:
        return
    yield from vault.catalogue.rows()
