"""Segments of the catalogue: frames of rows, each sealed for its record, under one directory
(docs/spec/vault-v1.md section 4.1)."""

from __future__ import annotations

import copy
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import DamagedError, UsageError
from ..native._cbor import bounded, decode_map, encode_map
from .rows import FIELDS, PATH_LIMIT, REMOVED, SIZES, THERE, TYPES, Row, check_values

MAGIC = b"DCMXSEG1"
_HEAD = struct.Struct("<8s16s16sIIQ")
HEAD_SIZE = _HEAD.size
NONCE, TAG = 12, 16
#: Bytes of a frame as it is stored, and inflated; rows of a frame; frames of a segment.
FRAME_LIMIT, INFLATED_LIMIT, ROWS_LIMIT, FRAMES_LIMIT = 1 << 20, 1 << 24, 1 << 14, 1 << 20
#: Writers begin a new frame, and a new segment, at this size.
_FRAME_ROWS, SEGMENT_SIZE = 4096, 32 << 20
_LEVEL = 3  # of zlib: 6 takes three times as long and saves 4 % of a frame, most of it is random

#: Keys of a frame beside those of its columns.
_COUNT, _GROUPS, _IDENTITIES = 10, 11, 12
#: What each row has of its own; the rest is said once for rows that follow each other. Of the
#: path, the file's name is the row's own, the folder (with its last `/`) the group's.
OWN = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 32, 33)
_FOLDER = 2
SHARED = (_FOLDER, *sorted(key for key in FIELDS if key >= 16 and key not in OWN and key != 51))
_IDENTITY_KEYS = {(17,), (16, 17), (21,), (51,)}
_NAMING = (16, 17, 21, 51)
_ABSENT: list[Any] = []


class Keys(Protocol):
    """What the catalogue wants of a vault's keys: `vault.keys.VaultKeys` has it."""

    vault_id: bytes

    @property
    def generation(self) -> int: ...
    @property
    def state(self) -> int: ...
    @property
    def head_generation(self) -> int: ...
    def raise_state(self, n: int, g: int) -> None: ...
    def is_gone(self, key_id: bytes) -> bool: ...
    def derive(self, g: int, label: str) -> bytes: ...
    def row_key(self, key_id: bytes) -> bytes | None: ...
    def cache_key(self) -> bytes: ...


class RowKeys:
    """Row keys that were read of the key table once, for other processes."""

    def __init__(self, vault_id: bytes, keys: dict[bytes, bytes | None]) -> None:
        self.vault_id, self.row_key = vault_id, keys.get


class Block(NamedTuple):
    """A frame's rows by columns.

    total: number of rows of objects. groups: [(number of rows, {key: value})] of SHARED keys;
    columns: {key of OWN: a value for each row}, None for absent; identities: {key: value} of
    identity rows."""

    total: int
    groups: list[tuple[int, dict[int, Any]]]
    columns: dict[int, list[Any]]
    identities: list[dict[int, Any]]

    def rows(self) -> Iterator[Row]:
        """Yield the rows, identities first."""
        yield from map(Row.from_values, self.identities)
        names = [FIELDS[key] for key in self.columns]
        own = zip(*self.columns.values(), strict=True)
        for count, shared in self.groups:
            values = {FIELDS[key]: value for key, value in shared.items()}
            for _ in range(count):
                row = Row(**values)
                for name, value in zip(names, next(own), strict=True):
                    setattr(row, name, value)
                row.path = (shared.get(_FOLDER) or b"") + (row.path or b"")
                yield row


def _split(row: Row) -> tuple[tuple[Any, ...], dict[int, Any]]:
    """Return what a row shares with those beside it, and what is its own."""
    values = check_values(row.values(), UsageError)
    cut = (row.path or b"").rfind(b"/") + 1
    shared = tuple(values.get(key) if key != _FOLDER else values[2][:cut] or None
                   for key in SHARED)
    own = {key: values[key] for key in OWN if key in values}
    own[2] = values[2][cut:]
    return shared, own


def encode_frame(rows: Sequence[Row]) -> bytes:
    """Return rows of one record as a frame holds them before it is deflated, in their order."""
    identities, split = [], []
    for row in rows:
        if row.is_identity:
            values = {k: v for k, v in check_values(row.values(), UsageError).items() if k != 1}
            if tuple(sorted(values)) not in _IDENTITY_KEYS:
                raise UsageError("an identity row holds an identity only")
            identities.append([x for pair in sorted(values.items()) for x in pair])
        else:
            split.append(_split(row))
    groups = []
    for shared, members in groupby(split, key=lambda pair: pair[0]):
        pairs = [x for k, v in zip(SHARED, shared, strict=True) if v is not None for x in (k, v)]
        groups.append([sum(1 for _ in members), *pairs])
    frame: dict[int, Any] = {_COUNT: len(split), _GROUPS: groups, _IDENTITIES: identities}
    for key in OWN:
        column = [own.get(key) for _, own in split]
        if not column or all(value is None for value in column):
            continue
        same = column[0] is not None and column.count(column[0]) == len(column)
        frame[key] = column[0] if same else [_ABSENT if v is None else v for v in column]
    return encode_map(frame)


_OWN_TYPES = {key: TYPES[key] for key in OWN}


def _column(key: int, found: Any, count: int) -> list[Any]:
    """Return a column's values, checked."""
    kind = _OWN_TYPES[key]
    column: list[Any] = found if type(found) is list else [found] * count
    known = column
    if {*map(type, column)} != {kind}:
        column = [None if value == _ABSENT else value for value in column]
        known = [value for value in column if value is not None]
        if not {*map(type, known)} <= {kind}:
            raise ValueError
    if len(column) != count:
        raise ValueError
    if not known:
        return column
    if kind is int:
        if not -(1 << 63) <= min(known) <= max(known) < 1 << 63:
            raise ValueError
    elif key in SIZES:
        if {*map(len, known)} != {SIZES[key]}:
            raise ValueError
    elif max(map(len, known)) > PATH_LIMIT:
        raise ValueError
    if key == 1 and not {*known} <= {THERE, REMOVED}:
        raise ValueError
    return column


@lru_cache(256)
def _expected(keys: tuple[Any, ...], allowed: tuple[int, ...]) -> tuple[tuple[type, ...], int]:
    """Return the types of what stands under these keys, and how many come before the numbers."""
    if not {*map(type, keys)} <= {int} or not {*keys} <= {*allowed} or [*keys] != sorted({*keys}):
        raise ValueError
    types = tuple(TYPES[key] for key in keys)
    return types, types.index(int) if int in types else len(types)


def _pairs(flat: list[Any], allowed: tuple[int, ...]) -> dict[int, Any]:
    """Return {key: value} from an array of keys and values in turn, checked."""
    keys, values = tuple(flat[0::2]), flat[1::2]
    types, cut = _expected(keys, allowed)
    if types != (*map(type, values),):  # numbers have the highest keys
        raise ValueError
    if cut and max(map(len, values[:cut])) > PATH_LIMIT:
        raise ValueError
    if values[cut:] and not -(1 << 63) <= min(values[cut:]) <= max(values[cut:]) < 1 << 63:
        raise ValueError
    return dict(zip(keys, values, strict=True))


def decode_frame(data: bytes) -> Block:
    """Undo `encode_frame`; raises DamagedError. Bounded before anything is allocated."""
    try:
        if not bounded(data, ROWS_LIMIT * (len(OWN) + 1), ROWS_LIMIT * (len(FIELDS) * 2 + 2)):
            raise ValueError
        frame = decode_map(data)
        count, groups, identities = (frame.pop(key) for key in (_COUNT, _GROUPS, _IDENTITIES))
        if type(count) is not int or count > ROWS_LIMIT or not {*frame} <= {*OWN}:
            raise ValueError
        if count and not (0 in frame and 2 in frame):
            raise ValueError
        columns = {key: _column(key, column, count) for key, column in frame.items()}
        columns.setdefault(1, [0] * count)
        parted = []
        for group in groups:
            if type(group[0]) is not int or group[0] < 1:
                raise ValueError
            parted.append((group[0], _pairs(group[1:], SHARED)))
        if sum(number for number, _ in parted) != count or any(
                None in columns.get(key, ()) for key in (0, 1, 2)
            ):
            raise ValueError
        named = [_pairs(flat, _NAMING) for flat in identities]
        if any(tuple(values) not in _IDENTITY_KEYS for values in named):
            raise ValueError
    except (ValueError, KeyError, TypeError, IndexError):
        raise DamagedError("a frame of the catalogue is not well-formed") from None
    return Block(count, parted, columns, named)


def deflate(frame: bytes) -> bytes:
    return zlib.compress(frame, _LEVEL)


def inflate(payload: bytes) -> bytes:
    """Undo `deflate`; raises DamagedError, also for more than a frame may have."""
    try:
        engine = zlib.decompressobj()
        frame = engine.decompress(payload, INFLATED_LIMIT)
        if engine.eof and not engine.unused_data:
            return frame
    except zlib.error:
        pass
    raise DamagedError("a frame of the catalogue is damaged or too large")


def payloads(rows: Sequence[Row]) -> Iterator[tuple[bytes, int]]:
    """Yield (deflated frame, number of rows), as many as the rows of one record need."""
    pending = [rows[at : at + _FRAME_ROWS] for at in range(0, len(rows), _FRAME_ROWS)][::-1]
    while pending:
        part = pending.pop()
        frame = encode_frame(part)
        payload = deflate(frame)
        if len(frame) <= INFLATED_LIMIT and len(payload) <= FRAME_LIMIT - NONCE - TAG:
            yield payload, len(part)
        else:
            middle = len(part) // 2
            pending += [part[middle:], part[:middle]]


class Writer:
    """Gathers frames for segments, sealed under the vault key of the present generation."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._start()

    def _start(self) -> None:
        self.segment_id = os.urandom(16)
        self._ids: list[bytes] = []
        self._rows: list[int] = []
        self._frames: list[bytes] = []
        self.size = 0

    def add(self, record: bytes, payload: bytes, rows: int) -> None:
        """Add a frame; the record's key must be there. Raises DamagedError if it is not."""
        key = self._keys.row_key(record)
        if key is None:
            raise DamagedError("a record's key is gone: its rows cannot be written")
        nonce = os.urandom(NONCE)
        place = _frame_place(self._keys.vault_id, self.segment_id, len(self._ids))
        self._frames.append(nonce + AESGCM(key).encrypt(nonce, payload, place))
        self._ids.append(record)
        self._rows.append(rows)
        self.size += len(self._frames[-1])

    @property
    def full(self) -> bool:
        return self.size >= SEGMENT_SIZE or len(self._ids) >= FRAMES_LIMIT

    def take(self) -> tuple[bytes, bytes, int] | None:
        """Return (segment id, segment, number of rows) of what was added; None if nothing was."""
        if not self._ids:
            return None
        directory = encode_map({0: self._ids, 1: list(map(len, self._frames)), 2: self._rows})
        g = self._keys.generation
        head = _HEAD.pack(MAGIC, self._keys.vault_id, self.segment_id, g, 0,
                          len(directory) + TAG)
        nonce = os.urandom(NONCE)
        sealed = AESGCM(self._keys.derive(g, "catalogue")).encrypt(nonce, directory, head)
        made = self.segment_id, b"".join((head, nonce, sealed, *self._frames)), sum(self._rows)
        self._start()
        return made


def _frame_place(vault_id: bytes, segment_id: bytes, number: int) -> bytes:
    return b"dcmx/1 vault frame\0" + vault_id + segment_id + struct.pack("<I", number)


class FrameEntry(NamedTuple):
    """A line of a directory; offset within the segment."""

    number: int
    record: bytes
    offset: int
    length: int
    rows: int


class Directory:
    """What a segment says of its frames. Raises DamagedError."""

    def __init__(self, keys: Keys, segment_id: bytes, head: bytes, size: int) -> None:
        """head: the segment's first `directory_size` bytes; size: of the whole segment."""
        self.segment_id = segment_id
        self._keys: Keys | RowKeys = keys
        length = directory_size(head, keys.vault_id, segment_id, size)
        if len(head) < length:
            raise DamagedError("a segment of the catalogue is cut short")
        g = _HEAD.unpack_from(head)[3]
        nonce, sealed = head[HEAD_SIZE : HEAD_SIZE + NONCE], head[HEAD_SIZE + NONCE : length]
        try:
            data = AESGCM(keys.derive(g, "catalogue")).decrypt(nonce, sealed, head[:HEAD_SIZE])
            if not bounded(data, 3, 3 * FRAMES_LIMIT + 7):
                raise ValueError
            found = decode_map(data)
            ids, lengths, rows = found[0], found[1], found[2]
            if (
                {*found} != {0, 1, 2}
                or not len(ids) == len(lengths) == len(rows) <= FRAMES_LIMIT
                or not {*map(type, ids)} <= {bytes} or not {*map(len, ids)} <= {16}
                or not {*map(type, lengths), *map(type, rows)} <= {int}
                or sum(lengths) + length != size
                or not all(NONCE + TAG <= n <= FRAME_LIMIT for n in lengths)
                or not all(1 <= n <= ROWS_LIMIT for n in rows)
            ):  # fmt: skip
                raise ValueError
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise DamagedError("the directory of a segment of the catalogue is damaged or "
                               "forged") from None
        self.frames: list[FrameEntry] = []
        offset = length
        for number, (record, extent, count) in enumerate(zip(ids, lengths, rows, strict=True)):
            self.frames.append(FrameEntry(number, record, offset, extent, count))
            offset += extent

    def under(self, keys: RowKeys) -> Directory:
        """Return a directory that takes its row keys from elsewhere."""
        other = copy.copy(self)
        other._keys = keys
        return other

    def payload(self, frame: FrameEntry, sealed: bytes) -> bytes | None:
        """Return a frame's content, still deflated; None if its record's key is gone."""
        key = self._keys.row_key(frame.record)
        if key is None:
            return None
        place = _frame_place(self._keys.vault_id, self.segment_id, frame.number)
        try:
            return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], place)
        except (InvalidTag, ValueError):
            raise DamagedError("a frame of the catalogue is damaged or forged") from None

    def block(self, frame: FrameEntry, sealed: bytes) -> Block | None:
        """Return a frame's rows; None if its record's key is gone."""
        payload = self.payload(frame, sealed)
        if payload is None:
            return None
        block = decode_frame(inflate(payload))
        if block.total + len(block.identities) != frame.rows:
            raise DamagedError("a frame of the catalogue has another number of rows")
        return block


def directory_size(head: bytes, vault_id: bytes, segment_id: bytes, size: int) -> int:
    """Return how many bytes of a segment come before its frames, from its first HEAD_SIZE bytes."""
    if len(head) >= HEAD_SIZE:
        length: int
        magic, vault, segment, _, zero, length = _HEAD.unpack_from(head)
        fits = TAG <= length <= size - HEAD_SIZE - NONCE
        if magic == MAGIC and vault == vault_id and segment == segment_id and not zero and fits:
            return HEAD_SIZE + NONCE + length
    raise DamagedError("a segment of the catalogue is damaged, or of another vault")


def frames_of(records: Iterable[tuple[bytes, Sequence[Row]]]) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (record key id, deflated frame, number of rows)."""
    for record, rows in records:
        for payload, count in payloads(rows):
            yield record, payload, count


def tidy(rows: Iterable[Row]) -> list[Row]:
    """Return rows with the latest of each object id and path, those beside each other that share
    much."""
    latest: dict[Any, Row] = {}
    for row in rows:
        place = (row.object_id, row.path) if not row.is_identity else row.encode()
        latest.pop(place, None)
        latest[place] = row
    return sorted(latest.values(), key=lambda row: (
        row.StudyInstanceUID or "", row.SeriesInstanceUID or "",
        (row.path or b"").rpartition(b"/")[0]))
