"""Reading all segments into a new database, on several processors if they are large."""

from __future__ import annotations

import contextlib
import gc
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ..errors import DamagedError, DicomcryptError, WorkerLostError
from .database import Database
from .head import Entry
from .segment import Block, Directory, Keys, RowKeys

#: Rows for which another process pays, and most processes.
_ROWS_EACH, _MOST = 100_000, 8
_LENGTH = struct.Struct("<Q")
Read = Callable[[Entry], bytes]


def load_all(segments: Sequence[Entry], directories: Sequence[Directory], keys: Keys,
             read: Read) -> Database:  # fmt: skip
    """Return a database of all rows, without those whose record key is gone. Raises DamagedError,
    MissingBlobError."""
    rows: Counter[bytes] = Counter()
    for directory in directories:
        for frame in directory.frames:
            rows[frame.record] += frame.rows
    row_keys = RowKeys(keys.vault_id, {record: keys.row_key(record) for record in rows})
    opened = [directory.under(row_keys) for directory in directories]
    shares = _shares(rows)
    database = Database()
    with contextlib.ExitStack() as stack:
        if gc.isenabled():  # millions of tuples, none in a cycle: looking for some costs a third
            gc.disable()
            stack.callback(gc.enable)
        stack.callback(lambda: database.close() if failed else None)
        failed = True
        workers = [stack.enter_context(_Worker(segments, opened, read, share, base))
                   for share, base in shares[1:]]
        database.load(_blocks(segments, opened, read, shares[0][0]))
        for worker in workers:
            database.merge(worker.image())
        database.index()
        database.skip(record for record in rows if row_keys.row_key(record) is None)
        failed = False
    return database


def _shares(rows: Counter[bytes]) -> list[tuple[set[bytes], int]]:
    """Return (records, number of rows before them) for each process."""
    total = sum(rows.values())
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    count = max(1, min(processors, _MOST, total // _ROWS_EACH))
    shares: list[tuple[set[bytes], int]] = [(set(), 0)]
    done = 0
    for record, number in rows.items():
        if done * count >= total * len(shares) and done:
            shares.append((set(), done))
        shares[-1][0].add(record)
        done += number
    return shares


def _blocks(segments: Sequence[Entry], directories: Sequence[Directory], read: Read,
            share: set[bytes]) -> Iterator[tuple[bytes, list[Block]]]:  # fmt: skip
    """Yield records with all of their frames, in their order."""
    left = Counter(frame.record for directory in directories for frame in directory.frames)
    waiting: dict[bytes, list[Block]] = {}
    for entry, directory in zip(segments, directories, strict=True):
        data = read(entry)
        for frame in directory.frames:
            if frame.record not in share:
                continue
            sealed = data[frame.offset : frame.offset + frame.length]
            block = directory.block(frame, sealed)
            left[frame.record] -= 1
            if block is not None:
                waiting.setdefault(frame.record, []).append(block)
            if not left[frame.record] and frame.record in waiting:
                yield frame.record, waiting.pop(frame.record)


class _Worker:
    """A process that loads a share, and gives the image back through a pipe: it is in clear."""

    def __init__(self, segments: Sequence[Entry], directories: Sequence[Directory], read: Read,
                 share: set[bytes], base: int) -> None:  # fmt: skip
        self._pipe, out = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(out)
            return
        status = 1
        try:
            os.close(self._pipe)
            with open(out, "wb") as file:
                try:
                    database = Database()
                    database.load(_blocks(segments, directories, read, share), base)
                    image = database.image()
                    file.write(b"\1" + _LENGTH.pack(len(image)))
                    file.write(image)
                except DicomcryptError as error:
                    file.write(b"\0" + str(error).encode())
            status = 0
        finally:
            os._exit(status)

    def __enter__(self) -> _Worker:
        return self

    def image(self) -> bytearray:
        with open(self._pipe, "rb", closefd=False) as file:
            if file.read(1) == b"\0":
                raise DamagedError(file.read().decode())
            size = file.read(_LENGTH.size)
            image = bytearray(_LENGTH.unpack(size)[0] if len(size) == _LENGTH.size else 0)
            if not image or file.readinto(image) != len(image):
                raise WorkerLostError("a process that reads the catalogue was killed")
        return image

    def __exit__(self, *exc: object) -> None:
        os.close(self._pipe)  # one that still writes ends of it
        os.waitpid(self._pid, 0)
