"""The catalogue of a vault (docs/spec/vault-v1.md section 4)."""

from __future__ import annotations

import hmac
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ..errors import DamagedError, MissingBlobError
from . import head as heads
from .cache import read_cache, remove_cache, write_cache
from .database import Database, Keyed
from .head import EMPTY, Entry, Head, read_head, segment_name, write_head
from .listing import listing
from .loading import load_all
from .query import Query
from .rows import Row, identity_row
from .segment import (
    Block,
    Directory,
    Keys,
    Writer,
    decode_frame,
    directory_size,
    frames_of,
    inflate,
    tidy,
)
from .store import Store

#: More segments than this are joined.
MOST_SEGMENTS = 64
#: Rows that are read again rather than kept in the cache.
_MUCH = 20000
_TRIES = 5
_MANY = 500


class Catalogue:
    """The rows of all objects of a vault, in memory, kept in sealed segments.

    Reading needs no lease: `append`, `compact`, `rebuild` and `forget` need the writers'. Not for
    several threads at once. cache_path: where a sealed image of it is kept, None for nowhere.
    Raises DamagedError for whatever is damaged, forged, put back or missing."""

    def __init__(self, store: Store, keys: Keys, cache_path: str | None = None) -> None:
        self._store, self._keys, self._cache_path = store, keys, cache_path
        self._head = EMPTY
        self._found: Database | None = None
        self._fresh = 0  # rows that the cache has not

    # ---- opening ------------------------------------------------------------

    def open(self) -> Catalogue:
        """Read the catalogue: from the cache and what came since, or whole."""
        if self._found is None:
            self._found = self._cached() or Database()
        self.refresh(again=True)
        self._keep_cache()
        return self

    def _keep_cache(self) -> None:
        """Save the cache if much of what is in memory is not in it."""
        if self._cache_path and self._fresh > max(_MUCH, self._database.count // 10):
            self.save_cache()

    def __enter__(self) -> Catalogue:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is in memory."""
        if self._found is not None:
            try:
                self._keep_cache()
            finally:
                self._found.close()
                self._found = None

    @property
    def _database(self) -> Database:
        if self._found is None:
            raise ValueError("the catalogue is not open")
        return self._found

    @property
    def head(self) -> Head:
        return self._head

    def _cached(self) -> Database | None:
        found = read_cache(self._cache_path, self._keys) if self._cache_path else None
        if found is None:
            return None
        try:
            database = Database(found[1])
        except (sqlite3.Error, ValueError):
            return None
        if any(self._keys.row_key(record) is not None for record in database.skipped):
            database.close()  # keys came back
            return None
        return database

    def save_cache(self) -> bool:
        """Seal what is in memory into the cache, if there is to be one."""
        if self._cache_path is None:
            return False
        self._fresh = 0
        return write_cache(self._cache_path, self._keys, self._head.digest, self._database.image())

    def refresh(self, *, again: bool = False) -> bool:
        """Take in what others wrote meanwhile; whether there was something."""
        for left in reversed(range(_TRIES)):
            head = read_head(self._store, self._keys)
            if head.digest == self._head.digest and not again:
                return False
            try:
                self._catch_up(head)
            except MissingBlobError:  # compacted meanwhile, or gone
                if not left or read_head(self._store, self._keys).digest == head.digest:
                    raise
                continue
            self._head = head
            return True
        return False

    def _catch_up(self, head: Head) -> None:
        known = self._database.segments
        ids = [entry.segment_id for entry in head.segments]
        new = sum(entry.rows for entry in head.segments[len(known) :])
        if (not known or known != {*ids[: len(known)]}
                or new > max(_MUCH, self._database.count // 3)):  # one by one takes longer
            self._load_all(head)
        else:
            for entry in head.segments[len(known) :]:
                self._take_in(entry, self._segment(entry))
        self._database.set_segments(ids)

    def _segment(self, entry: Entry) -> bytes:
        """Return a whole segment, of which the head's digest is right."""
        data = self._store.read(segment_name(entry.segment_id), 0, entry.size + 1)
        if not hmac.compare_digest(sha256(data).digest(), entry.digest):
            raise DamagedError("a segment of the catalogue was changed: bring it back from a "
                               "backup, or give `vault repair --rebuild`")
        return data

    def _directory(self, entry: Entry, data: bytes | None = None) -> Directory:
        name, segment_id = segment_name(entry.segment_id), entry.segment_id
        if data is None:
            start = self._store.read(name, 0, 1 << 16)
            length = directory_size(start, self._keys.vault_id, segment_id, entry.size)
            if length > len(start):
                start += self._store.read(name, len(start), length - len(start))
        else:
            start = data
        return Directory(self._keys, segment_id, start, entry.size)

    def _take_in(self, entry: Entry, data: bytes) -> None:
        """Add the rows of one segment that came after all others."""
        directory = self._directory(entry, data)
        database = self._database
        found: list[tuple[bytes, Block]] = []
        for frame in directory.frames:
            block = directory.block(frame, data[frame.offset : frame.offset + frame.length])
            if block is None:
                database.skip([frame.record])
            else:
                found.append((frame.record, block))
                self._fresh += block.total
        database.add_all(found)

    def _load_all(self, head: Head) -> None:
        """Read all segments, into a new database."""
        directories = [self._directory(entry) for entry in head.segments]
        database = load_all(head.segments, directories, self._keys, self._segment)
        self._database.close()
        self._found = database
        self._fresh = sum(entry.rows for entry in head.segments)

    # ---- asking -------------------------------------------------------------

    def record_of(self, issuer: str | None, patient_id: str | None, study: str | None = None,
                  job: bytes | None = None) -> list[bytes]:  # fmt: skip
        """Return the ids of a record's keys, oldest first; none if it is not there."""
        who = identity_row(issuer, patient_id, study=study, job=job)
        where = "i.issuer IS ? AND i.patient IS ? AND i.study IS ? AND i.job IS ?"
        if who.PatientID is not None:  # not IS: it takes no index
            where = where.replace("i.patient IS", "i.patient =")
        elif who.StudyInstanceUID is not None:
            where = where.replace("i.study IS", "i.study =")
        else:
            where = where.replace("i.job IS", "i.job =")
        return self._database.key_ids(where, (
            who.IssuerOfPatientID, who.PatientID, who.StudyInstanceUID, who.job))

    def issuers(self, patient_id: str) -> list[str | None]:
        """Return the issuers under which a patient ID is known; None: without one."""
        return [row[0] for row in self._database.db.execute(
            "SELECT DISTINCT i.issuer FROM identities i JOIN records r ON r.id = i.record "
            "WHERE i.patient = ? AND r.there = 1", (patient_id,))]

    def identities(self, record_key_id: bytes) -> list[Row]:
        """Return whose record a record key is: identity rows."""
        return self._database.identities(record_key_id)

    def records(self) -> list[bytes]:
        """Return the ids of all record keys that the catalogue knows and the key table has."""
        return self._database.key_ids("r.there = 1", ())

    def lacks_keys(self) -> bool:
        """Whether rows were left out whose keys nobody destroyed; `keyless` looks closer."""
        return any(not self._keys.is_gone(record) for record in self._database.skipped)

    def keyless(self) -> set[bytes]:
        """Return the ids of record keys of which there are frames, and that the key table lacks
        although nobody destroyed them; what a cache has under them is forgotten."""
        found = {record for record in [*self._database.skipped, *self.records()]
                 if self._keys.row_key(record) is None and not self._keys.is_gone(record)}
        if not found:
            return found
        self.forget(found)
        frames = (frame.record for entry in self._head.segments
                  for frame in self._directory(entry).frames)
        return found.intersection(frames)

    def rows(self, record_key_ids: Iterable[bytes] | None = None,
             query: Query | Mapping[str, Any] | None = None) -> Iterator[Keyed]:  # fmt: skip
        """Yield (record key id, row) of all objects, of these records, that match."""
        query = _query(query)
        if query.by_uid:
            self._database.need("uid")
        where, values = query.where()
        if record_key_ids is None:
            yield from self._database.rows(f"WHERE {where}", values)
            return
        ids = list(dict.fromkeys(record_key_ids))
        for at in range(0, len(ids), _MANY):
            part = ids[at : at + _MANY]
            marks = ", ".join("?" * len(part))
            yield from self._database.rows(f"WHERE r.key_id IN ({marks}) AND {where}",
                                           [*part, *values])

    def object(self, object_id: bytes) -> list[Keyed]:
        """Return (record key id, row) of an object, one for each path that it stands for."""
        self._database.need("id")
        return list(self._database.rows("WHERE o.object_id = ?", (object_id,)))

    def same_instance(self, uid: str) -> list[Keyed]:
        """Return the objects with this SOP Instance UID, in all records."""
        return list(self.rows(query={"SOPInstanceUID": uid})) if uid else []

    def listing(self, level: str, query: Query | Mapping[str, Any] | None = None
                ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """Yield what matches at a level of the tree (`vault.listing`)."""
        return listing(self._database, level, _query(query))

    def stats(self) -> dict[str, int]:
        """Return numbers: records, patients, studies, series, objects, rows (paths), bytes."""
        found = self._database.db.execute(
            'SELECT count(DISTINCT record), count(DISTINCT "StudyInstanceUID"), '
            'count(DISTINCT "SeriesInstanceUID") FROM groups').fetchone()
        patients = self._database.one(
            "SELECT count(*) FROM (SELECT DISTINCT issuer, patient FROM identities "
            "WHERE patient IS NOT NULL)")
        rows, objects, size = self._database.db.execute(
            "SELECT count(*), count(DISTINCT object_id), ifnull(sum(size), 0) FROM objects"
        ).fetchone()
        stored = self._database.one(
            "SELECT ifnull(sum(size), 0) FROM (SELECT max(object_size) AS size FROM objects "
            "GROUP BY object_id)")
        segments = self._head.segments
        return {"record_keys": found[0], "patients": patients, "studies": found[1],
                "series": found[2], "objects": objects, "rows": rows, "size": size,
                "object_size": stored, "segments": len(segments),
                "catalogue_size": sum(entry.size for entry in segments),
                "generation": self._head.generation}

    def duplicates(self, most: int) -> dict[str, Any]:
        """Return what deduplication saves: files, objects, shared (files that were not stored
        again), saved (bytes); and how many instances have several contents, up to `most` of them
        with UID, number of objects and paths."""
        db = self._database.db
        files, objects, size = db.execute(
            "SELECT count(*), count(DISTINCT object_id), ifnull(sum(size), 0) FROM objects"
        ).fetchone()
        once = self._database.one(
            "SELECT ifnull(sum(size), 0) FROM (SELECT max(size) AS size FROM objects "
            "GROUP BY object_id)")
        several = db.execute(
            'SELECT "SOPInstanceUID", count(DISTINCT object_id) AS n FROM objects '
            'WHERE "SOPInstanceUID" IS NOT NULL GROUP BY "SOPInstanceUID" HAVING n > 1 '
            "ORDER BY n DESC, 1").fetchall()
        shown = []
        for uid, count in several[:most]:
            paths = sorted(os.fsdecode(row.path or b"") for _, row in self.same_instance(uid))
            shown.append({"uid": uid, "objects": count, "paths": paths})
        return {"files": files, "objects": objects, "shared": files - objects,
                "saved": size - once, "instances": len(several), "several": shown}

    # ---- changing -----------------------------------------------------------

    def append(self, records: Mapping[bytes, Sequence[Row]]) -> None:
        """Add rows of several records, all or none. A row takes the place of an earlier one of the
        same record key, object id and path; one that is `removed` takes it away."""
        self.refresh()
        made, blocks = self._write(frames_of((r, tidy(rows)) for r, rows in records.items()))
        if not made:
            return
        self._head = write_head(self._store, self._keys, self._head, self._head.segments + made)
        self._database.add_all(blocks)
        self._fresh += sum(block.total for _, block in blocks)
        self._database.set_segments(entry.segment_id for entry in self._head.segments)
        if len(self._head.segments) > MOST_SEGMENTS:
            self.compact()

    def _write(self, frames: Iterable[tuple[bytes, bytes, int]], keep: bool = True
               ) -> tuple[tuple[Entry, ...], list[tuple[bytes, Block]]]:  # fmt: skip
        """Put segments of these frames; return what the head says of them, and their rows."""
        made: list[Entry] = []
        blocks: list[tuple[bytes, Block]] = []
        writer = Writer(self._keys)

        def put() -> None:
            taken = writer.take()
            if taken is not None:
                segment_id, data, rows = taken
                self._store.put_new(segment_name(segment_id), data)
                made.append(Entry(segment_id, sha256(data).digest(), len(data), rows))

        for record, payload, rows in frames:
            writer.add(record, payload, rows)
            if keep:
                blocks.append((record, decode_frame(inflate(payload))))
            if writer.full:
                put()
        put()
        return tuple(made), blocks

    def compact(self, *, full: bool = False) -> bool:
        """Drop frames whose key is gone, join segments if there are too many (all with `full`),
        remove segments that do not count; whether the catalogue was written anew."""
        from .compaction import compacted

        self.refresh()
        segments = compacted(
            self._head.segments, self._keys, self._directory, self._segment,
            lambda frames: self._write(frames, keep=False)[0], MOST_SEGMENTS, full)
        changed = segments != self._head.segments
        if changed:
            self._head = write_head(self._store, self._keys, self._head, segments)
            self._database.set_segments(entry.segment_id for entry in segments)
            self._fresh = 1 << 62  # what is in the cache cannot be followed
        self.remove_orphans()
        return changed

    def remove_orphans(self) -> int:
        """Remove segments that the head does not name; return how many."""
        wanted = {segment_name(entry.segment_id) for entry in self._head.segments}
        found = [name for name in self._store.list("catalogue/")
                 if name != heads.NAME and name not in wanted]
        return sum(self._store.delete(name) for name in found)

    def rebuild(self, records: Iterable[tuple[bytes, Sequence[Row]]]) -> None:
        """Write the catalogue anew from all rows of each record key, each named once; what is there
        need not be readable."""
        made, _ = self._write(frames_of((r, tidy(rows)) for r, rows in records), keep=False)
        generation = self._keys.state
        try:
            generation = max(generation, heads.open_head(
                self._keys, self._store.read(heads.NAME)).generation)
        except DamagedError:
            pass
        before = Head(generation, (), bytes(32), 0)
        self._head = write_head(self._store, self._keys, before, made)
        self._fresh = 0
        self.close()
        if self._cache_path is not None:
            remove_cache(self._cache_path)
        self.open()
        self.remove_orphans()

    def reseal(self) -> None:
        """Seal the head anew, under the newest vault key: after one was made, so that heads under
        an older one do not count any more."""
        self.refresh()
        self._head = write_head(self._store, self._keys, self._head, self._head.segments)

    def forget(self, record_key_ids: Iterable[bytes]) -> None:
        """Take rows of records that were erased out of memory, and remove the cache; segments
        lose them when they are compacted."""
        if self._cache_path is not None:
            remove_cache(self._cache_path)
        if self._found is not None:
            self._found.forget(record_key_ids)
            self._fresh = 1 << 62


def _query(query: Query | Mapping[str, Any] | None) -> Query:
    return query if isinstance(query, Query) else Query(query or {})
