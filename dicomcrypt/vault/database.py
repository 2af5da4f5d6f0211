"""The catalogue in memory: an SQLite database that is never written in clear.

Rows that follow each other share much (patient, study, series): a `groups` row says it once. Of a
path, the folder is the group's, the name the object's.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any
from zlib import crc32

from .rows import FIELDS, REMOVED, Row
from .segment import SHARED, Block

VERSION = 1
_GROUP_COLUMNS = ["folder", *(FIELDS[key] for key in SHARED[1:])]
_NAME = _GROUP_COLUMNS.index("PatientName")
_REFERRING = _GROUP_COLUMNS.index("ReferringPhysicianName")
#: Columns of `objects` that a row has, by key; 1 is not kept: removed rows are not there.
_OWN = {0: "object_id", 2: "name", 3: "size", 4: "object_size", 5: "mtime_ns", 6: "added_ns",
        7: "core_digest", 8: "dedupe_digest", 9: "generation", 32: "SOPInstanceUID",
        33: "InstanceNumber"}  # fmt: skip
_QUOTED = {name: f'"{name}"' for name in (*_GROUP_COLUMNS, *_OWN.values())}
_SCHEMA = f"""
CREATE TABLE segments(id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE records(id INTEGER PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, there INTEGER NOT NULL);
CREATE TABLE identities(record INTEGER NOT NULL, issuer TEXT, patient TEXT, study TEXT, job BLOB);
CREATE TABLE groups(id INTEGER PRIMARY KEY, record INTEGER NOT NULL,
  {", ".join(_QUOTED[name] for name in _GROUP_COLUMNS)}, person INTEGER, doctor INTEGER);
CREATE TABLE people(id INTEGER PRIMARY KEY, text TEXT NOT NULL, name1 TEXT, name2 TEXT, name3 TEXT);
CREATE TABLE objects(id INTEGER PRIMARY KEY, grp INTEGER NOT NULL,
  {", ".join(_QUOTED[name] for name in _OWN.values())}, uid_crc INTEGER);
PRAGMA user_version = {VERSION};
"""
#: Made after many rows came in at once: that is quicker than keeping them up to date.
_INDEXES = """
CREATE INDEX IF NOT EXISTS identities_patient ON identities(patient, issuer);
CREATE INDEX IF NOT EXISTS identities_study ON identities(study);
CREATE INDEX IF NOT EXISTS identities_job ON identities(job);
CREATE INDEX IF NOT EXISTS identities_record ON identities(record);
CREATE INDEX IF NOT EXISTS groups_record ON groups(record);
CREATE INDEX IF NOT EXISTS groups_folder ON groups(folder);
CREATE INDEX IF NOT EXISTS groups_patient ON groups("PatientID");
CREATE INDEX IF NOT EXISTS groups_study ON groups("StudyInstanceUID");
CREATE INDEX IF NOT EXISTS groups_series ON groups("SeriesInstanceUID");
CREATE INDEX IF NOT EXISTS groups_accession ON groups("AccessionNumber");
CREATE INDEX IF NOT EXISTS groups_person ON groups(person);
CREATE INDEX IF NOT EXISTS objects_grp ON objects(grp);
"""
#: Made when they are needed first: 0.6 s for a million rows.
_LOOKUPS = {
    "id": "objects(object_id)",
    "uid": "objects(uid_crc) WHERE uid_crc IS NOT NULL",
}
_SELECT = "SELECT {} FROM objects o JOIN groups g ON g.id = o.grp JOIN records r ON r.id = g.record"
_OWN_NAMES = list(_OWN.values())
_ROW = ", ".join([*(f"o.{_QUOTED[name]}" for name in _OWN_NAMES),
                  *(f"g.{_QUOTED[name]}" for name in _GROUP_COLUMNS)])
_WIDTH = len(_OWN) + 2
_MARKS = f"({', '.join('?' * _WIDTH)})"
_INSERT = (f"INSERT INTO objects({', '.join(_QUOTED[n] for n in _OWN_NAMES)}, uid_crc, grp) "  # noqa: S608
           "VALUES ")
#: Rows of one statement: a third less time for each than one by one.
_AT_ONCE = 32
_INSERT_MANY = _INSERT + ", ".join([_MARKS] * _AT_ONCE)
_INSERT += _MARKS
_UID = list(_OWN).index(32)
_FIELD_NAMES = ["path" if name == "name" else name for name in _OWN_NAMES] + [
    *_GROUP_COLUMNS[1:]]
Keyed = tuple[bytes, Row]


@lru_cache(1 << 12)
def name_key(text: str) -> str:
    """Return a name as names are compared: without case, accents and doubled spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not "\u0300" <= c <= "\u036f")
    return " ".join(unicodedata.normalize("NFC", plain.casefold()).split())


def name_keys(text: str | None) -> list[str | None]:
    """Return the keys of a person name's three component groups."""
    found: list[str | None] = []
    for part in (text or "").split("=")[:3]:
        found.append("^".join(map(name_key, part.split("^"))).rstrip("^ ") or None)
    return found + [None] * (3 - len(found))


def _many_at_once(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `_AT_ONCE` rows as one tuple, and of the next ones."""
    values = chain.from_iterable(rows)
    while many := tuple(islice(values, _AT_ONCE * _WIDTH)):
        yield many


class Database:
    """The rows of a catalogue. Not for several threads at once."""

    def __init__(self, image: bytes | bytearray | None = None) -> None:
        """image: what `image` returned, of a source that is trusted."""
        self.db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if image is not None:
            self.db.deserialize(image)
            if self.one("PRAGMA user_version") != VERSION:
                raise ValueError("an image of another version")
        # temp_store: no plain temporary files.
        self.db.executescript("PRAGMA temp_store = MEMORY; PRAGMA journal_mode = OFF; "
                              "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
        if image is None:
            self.db.executescript(_SCHEMA)
        self._read_state()

    def _read_state(self) -> None:
        self._records: dict[bytes, int] = dict(self.db.execute("SELECT key_id, id FROM records"))
        self._people: dict[str | None, int] = dict(self.db.execute("SELECT text, id FROM people"))
        self._looked_up: set[str] = set()
        self._next_group = (self.one("SELECT max(id) FROM groups") or 0) + 1
        self._base = self.one("SELECT max(id) FROM people") or 0
        self._next_record = (self.one("SELECT max(id) FROM records") or 0) + 1

    def close(self) -> None:
        self.db.close()

    def image(self) -> bytes:
        return self.db.serialize()

    def one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        found = self.db.execute(sql, values).fetchone()
        return found and found[0]

    def need(self, *lookups: str) -> None:
        """Make indexes of objects: by "id" or "uid"."""
        for name in lookups:
            if name not in self._looked_up:
                self.db.execute(f"CREATE INDEX IF NOT EXISTS objects_{name} "
                                f"ON {_LOOKUPS[name]}")
                self._looked_up.add(name)

    @property
    def count(self) -> int:
        """How many rows there are, or were before some were taken away."""
        found: int | None = self.one("SELECT max(id) FROM objects")
        return found or 0

    @property
    def segments(self) -> set[bytes]:
        return {row[0] for row in self.db.execute("SELECT id FROM segments")}

    @property
    def skipped(self) -> list[bytes]:
        """Ids of record keys whose rows were skipped, as the keys were gone."""
        return [r[0] for r in self.db.execute("SELECT key_id FROM records WHERE there = 0")]

    def set_segments(self, ids: Iterable[bytes]) -> None:
        self.db.execute("DELETE FROM segments")
        self.db.executemany("INSERT INTO segments VALUES (?)", [(i,) for i in ids])

    def skip(self, key_ids: Iterable[bytes]) -> None:
        for key_id in key_ids:
            self.db.execute("UPDATE records SET there = 0 WHERE id = ?", (self._record(key_id),))

    # ---- loading ------------------------------------------------------------

    def _record(self, key_id: bytes) -> int:
        if key_id not in self._records:
            self._records[key_id], self._next_record = self._next_record, self._next_record + 1
            self.db.execute("INSERT INTO records VALUES (?, ?, 1)",
                            (self._records[key_id], key_id))
        return self._records[key_id]

    def _identities(self, record: int, identities: Iterable[dict[int, Any]]) -> None:
        for found in identities:
            wanted = (record, found.get(16), found.get(17), found.get(21), found.get(51))
            if not self.one("SELECT 1 FROM identities WHERE record = ? AND issuer IS ? AND "
                            "patient IS ? AND study IS ? AND job IS ?", wanted):
                self.db.execute("INSERT INTO identities VALUES (?, ?, ?, ?, ?)", wanted)

    def load(self, blocks: Iterable[tuple[bytes, list[Block]]], base: int = 0) -> None:
        """Take in all rows of many records at once, each with all of its frames in their order,
        into an empty database; `index` has to follow. base: what ids begin after."""
        self.db.executescript("CREATE INDEX IF NOT EXISTS identities_record "
                              "ON identities(record);BEGIN;")
        # no more records and groups than rows, and two persons a group
        self._base, self._next_group, self._next_record = 2 * base, base + 1, base + 1
        groups: list[tuple[Any, ...]] = []
        rows = chain.from_iterable(self._object_rows(blocks, groups))
        if base and (first := next(rows, None)) is not None:
            self.db.execute(_INSERT, first)
            self.db.execute("UPDATE objects SET id = ?", (base + 1,))
        while part := list(islice(rows, _AT_ONCE * 1000)):
            whole = len(part) - len(part) % _AT_ONCE
            self.db.executemany(_INSERT_MANY, _many_at_once(part[:whole]))
            self.db.executemany(_INSERT, part[whole:])
            self._add_groups(groups)
        self._add_groups(groups)
        self.db.execute("COMMIT")

    def merge(self, image: bytes | bytearray) -> None:
        """Take in what another database loaded, of other records and another `base`; names of
        persons in it may be known already."""
        self.db.execute("ATTACH ':memory:' AS other")
        self.db.deserialize(image, name="other")
        self.db.execute("BEGIN")
        for table in ("records", "identities", "groups", "objects", "people"):
            self.db.execute(f"INSERT INTO main.{table} SELECT * FROM other.{table}")  # noqa: S608
        self.db.execute("COMMIT")
        self.db.execute("DETACH other")

    def index(self) -> None:
        """Make what is quicker to make after loading, and what was read of the database anew."""
        self.db.executescript(f"{_INDEXES}PRAGMA analysis_limit = 400;ANALYZE;")
        self._read_state()

    def _add_groups(self, groups: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * (len(_GROUP_COLUMNS) + 4))
        self.db.executemany(f"INSERT INTO groups VALUES ({marks})", groups)  # noqa: S608
        groups.clear()

    def _person(self, text: str | None) -> int | None:
        if text is not None and text not in self._people:
            self._base += 1
            self._people[text] = self._base
            self.db.execute("INSERT INTO people VALUES (?, ?, ?, ?, ?)",
                            (self._people[text], text, *name_keys(text)))
        return self._people.get(text)

    def _group(self, record: int, shared: dict[int, Any]) -> tuple[int, tuple[Any, ...]]:
        """Return a new group's id and row."""
        values = tuple(map(shared.get, SHARED))
        number, self._next_group = self._next_group, self._next_group + 1
        return number, (number, record, *values, self._person(values[_NAME]),
                        self._person(values[_REFERRING]))

    def _object_rows(
        self, blocks: Iterable[tuple[bytes, list[Block]]], groups: list[tuple[Any, ...]]
    ) -> Iterator[Iterable[tuple[Any, ...]]]:
        """Yield rows for `objects`, many at once, and put their groups' rows into `groups`."""
        for key_id, frames in blocks:
            record = self._record(key_id)
            known: dict[tuple[Any, ...], int] = {}
            several = len(frames) > 1
            kept: dict[tuple[bytes, bytes | None, bytes], tuple[Any, ...] | None] = {}
            for block in frames:
                self._identities(record, block.identities)
                if not block.total:
                    continue
                columns = block.columns
                absent: list[Any] = [None] * block.total
                numbers: list[int] = []
                folders: list[bytes | None] = []
                for count, shared in block.groups:
                    place = tuple(shared.items())
                    if place not in known:
                        known[place], row = self._group(record, shared)
                        groups.append(row)
                    numbers += repeat(known[place], count)
                    folders += repeat(shared.get(2), count)
                uids = columns.get(32)
                if uids is None:
                    checks = absent
                elif None in uids:
                    checks = [None if uid is None else crc32(uid.encode()) for uid in uids]
                else:
                    checks = list(map(crc32, map(str.encode, uids)))
                made = zip(*(columns.get(key, absent) for key in _OWN), checks, numbers,
                           strict=True)
                ids, states = columns[0], columns[1]
                if not several and 1 not in states and len({*ids}) == block.total:
                    yield made
                    continue
                for place2, state, row in zip(zip(ids, folders, columns[2], strict=True), states,
                                              made, strict=True):
                    kept.pop(place2, None)
                    if state != REMOVED:
                        kept[place2] = row
            yield [row for row in kept.values() if row is not None]

    def add_all(self, blocks: Iterable[tuple[bytes, Block]]) -> None:
        """Take in frames whose records may be there already, in their order."""
        self.db.executescript(f"{_INDEXES}BEGIN;")
        self.need("id")
        for key_id, block in blocks:
            self._add(key_id, block)
        self.db.execute("COMMIT")

    def _add(self, key_id: bytes, block: Block) -> None:
        """Take in a frame whose record may be there already."""
        if self._all_new(block):
            groups: list[tuple[Any, ...]] = []
            for rows in self._object_rows([(key_id, [block])], groups):
                self.db.executemany(_INSERT, rows)
            self._add_groups(groups)
            return
        record = self._record(key_id)
        self._identities(record, block.identities)
        known: dict[tuple[Any, ...], int] = {}
        own = zip(block.columns.get(1, ()), *(
            block.columns.get(key) or [None] * block.total for key in _OWN), strict=True)
        for count, shared in block.groups:
            place = tuple(shared.items())
            for state, *row in islice(own, count):
                self._take_away(record, row[0], shared.get(2), row[1])
                if state == REMOVED:
                    continue
                if place not in known:
                    known[place], made = self._group(record, shared)
                    self._add_groups([made])
                uid = row[_UID]
                self.db.execute(_INSERT, (*row, None if uid is None else crc32(uid.encode()),
                                          known[place]))

    def _all_new(self, block: Block) -> bool:
        """Whether no object of these rows is there yet."""
        ids = block.columns.get(0, [])
        for at in range(0, len(ids), 500):
            part = ids[at : at + 500]
            marks = ", ".join("?" * len(part))
            if self.one(f"SELECT 1 FROM objects WHERE object_id IN ({marks}) LIMIT 1", part):  # noqa: S608
                return False
        return True

    def _take_away(self, record: int, object_id: bytes, folder: bytes | None, name: bytes) -> None:
        found = self.db.execute(
            "SELECT o.id, o.grp FROM objects o JOIN groups g ON g.id = o.grp WHERE o.object_id = ? "
            "AND g.record = ? AND g.folder IS ? AND o.name = ?",
            (object_id, record, folder, name)).fetchall()
        for number, group in found:
            self.db.execute("DELETE FROM objects WHERE id = ?", (number,))
            if not self.one("SELECT 1 FROM objects WHERE grp = ?", (group,)):
                self.db.execute("DELETE FROM groups WHERE id = ?", (group,))

    def forget(self, key_ids: Iterable[bytes]) -> None:
        """Remove records, and overwrite with zeros where they were."""
        self.db.executescript("PRAGMA secure_delete = ON;BEGIN;")
        for key_id in key_ids:
            record = self._records.get(key_id)
            if record is not None:
                self.db.execute("DELETE FROM objects WHERE grp IN "
                                "(SELECT id FROM groups WHERE record = ?)", (record,))
                self.db.execute("DELETE FROM groups WHERE record = ?", (record,))
                self.db.execute("DELETE FROM identities WHERE record = ?", (record,))
                self.db.execute("UPDATE records SET there = 0 WHERE id = ?", (record,))
        self.db.execute("DELETE FROM people WHERE id NOT IN (SELECT person FROM groups WHERE "
                        "person NOT NULL UNION SELECT doctor FROM groups WHERE doctor NOT NULL)")
        self._people = dict(self.db.execute("SELECT text, id FROM people"))
        self.db.executescript("PRAGMA secure_delete = OFF;")

    # ---- asking -------------------------------------------------------------

    def rows(self, where: str = "", values: Sequence[Any] = ()) -> Iterator[Keyed]:
        """Yield (record key id, row); where: SQL over objects `o`, groups `g`, records `r`."""
        sql = f"{_SELECT.format(f'r.key_id, {_ROW}')} {where}"
        for key_id, *found in self.db.execute(sql, values):
            folder = found.pop(len(_OWN_NAMES))
            row = Row()
            for name, value in zip(_FIELD_NAMES, found, strict=True):
                if value is not None:
                    setattr(row, name, value)
            if folder is not None:
                row.path = folder + row.path
            yield key_id, row

    def identities(self, key_id: bytes) -> list[Row]:
        found = self.db.execute(
            "SELECT issuer, patient, study, job FROM identities i JOIN records r ON r.id = i.record"
            " WHERE r.key_id = ?", (key_id,))
        return [Row(IssuerOfPatientID=issuer, PatientID=patient, StudyInstanceUID=study, job=job)
                for issuer, patient, study, job in found]

    def key_ids(self, where: str, values: Sequence[Any]) -> list[bytes]:
        """Return ids of record keys by their identities `i`, oldest first."""
        return [row[0] for row in self.db.execute(
            "SELECT r.key_id FROM identities i JOIN records r ON r.id = i.record "  # noqa: S608
            f"WHERE {where} GROUP BY r.id ORDER BY min(i.rowid)", values)]
