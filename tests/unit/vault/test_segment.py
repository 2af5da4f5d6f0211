"""Segments, frames and heads, and what is refused of them."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vault_rows import patient_rows
from vault_stand_ins import MemoryStore, PlainKeys

from dicomcrypt.errors import DamagedError, UsageError
from dicomcrypt.native._cbor import decode_map, encode_map
from dicomcrypt.vault import segment as seg
from dicomcrypt.vault.head import NAME, Entry, open_head, read_head, seal_head, write_head
from dicomcrypt.vault.rows import REMOVED, Row, identity_row

RECORDS = [bytes([n]) * 16 for n in range(3)]
TEXTS = st.none() | st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)


def made(keys, count=4):
    writer = seg.Writer(keys)
    for n, record in enumerate(RECORDS):
        for payload, rows in seg.payloads(patient_rows(n, count)):
            writer.add(record, payload, rows)
    segment_id, data, rows = writer.take()
    assert rows == 3 * (count + 1)
    return segment_id, data


def read(keys, segment_id, data):
    directory = seg.Directory(keys, segment_id, data, len(data))
    return [directory.block(f, data[f.offset : f.offset + f.length]) for f in directory.frames]


def test_a_segment_gives_back_its_rows_and_skips_those_whose_key_is_gone():
    keys = PlainKeys()
    segment_id, data = made(keys)
    assert [list(b.rows()) for b in read(keys, segment_id, data)] == [
        patient_rows(n, 4) for n in range(3)
    ]
    keys.erase(RECORDS[1])
    assert [b is None for b in read(keys, segment_id, data)] == [False, True, False]
    for text in (b"P0000001", "P0000001", "HOSPITAL"):
        assert (text if isinstance(text, bytes) else text.encode()) not in data


def test_flipping_any_bit_of_a_segment_is_refused():
    keys = PlainKeys()
    writer = seg.Writer(keys)
    for payload, rows in seg.payloads(patient_rows(1, 2)):
        writer.add(RECORDS[0], payload, rows)
    segment_id, data, _ = writer.take()
    read(keys, segment_id, data)
    for bit in range(8 * len(data)):
        forged = bytearray(data)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            read(keys, segment_id, bytes(forged))


def test_a_segment_cut_short_or_longer_or_elsewhere_is_refused():
    keys = PlainKeys()
    segment_id, data = made(keys, 1)
    for size in (*range(0, len(data), 7), len(data) - 1):
        with pytest.raises(DamagedError):
            read(keys, segment_id, data[:size])
    for change in ((segment_id, data + b"x"), (bytes(16), data)):
        with pytest.raises(DamagedError):
            read(keys, *change)
    with pytest.raises(DamagedError):
        read(PlainKeys(), segment_id, data)


def test_frames_cannot_change_places():
    keys = PlainKeys()
    writer = seg.Writer(keys)
    payload = next(seg.payloads(patient_rows(1, 2)))[0]
    for _ in range(2):
        writer.add(RECORDS[0], payload, 3)
    segment_id, data, _ = writer.take()
    first, second = seg.Directory(keys, segment_id, data, len(data)).frames
    assert first.length == second.length
    swapped = (data[: first.offset] + data[second.offset :]
               + data[first.offset : second.offset])  # fmt: skip
    with pytest.raises(DamagedError):
        read(keys, segment_id, swapped)


def test_a_frame_that_inflates_without_end_is_refused():
    with pytest.raises(DamagedError):
        seg.inflate(zlib.compress(bytes(seg.INFLATED_LIMIT + 1)))
    for payload in (b"", b"noise", zlib.compress(b"a")[:-1], zlib.compress(b"a") + b"b"):
        with pytest.raises(DamagedError):
            seg.inflate(payload)


def test_large_records_have_several_frames_in_order():
    rows = [Row(object_id=n.to_bytes(16, "big"), path=random.Random(n).randbytes(600))
            for n in range(5000)]  # fmt: skip
    parts = list(seg.payloads(rows))
    assert len(parts) > 2
    assert all(len(payload) <= seg.FRAME_LIMIT for payload, _ in parts)
    found = [row for payload, _ in parts for row in seg.decode_frame(seg.inflate(payload)).rows()]
    assert found == [Row(**{**{f: getattr(r, f) for f in ("object_id", "path")}}) for r in rows]


@given(st.lists(st.builds(
    Row, object_id=st.binary(min_size=16, max_size=16), path=st.binary(max_size=5),
    size=st.none() | st.integers(0, 1 << 62), mtime_ns=st.integers(-(1 << 63), (1 << 63) - 1),
    PatientID=TEXTS, SOPInstanceUID=TEXTS, InstanceNumber=TEXTS, Modality=TEXTS,
    dedupe_digest=st.none() | st.binary(min_size=32, max_size=32),
    frames=st.none() | st.integers(0, 9), state=st.sampled_from([0, REMOVED]),
), max_size=8))  # fmt: skip
def test_any_rows_come_back_from_a_frame(rows):
    frame = seg.encode_frame([identity_row("A", "1"), *rows])
    assert list(seg.decode_frame(frame).rows()) == [identity_row("A", "1"), *rows]


@settings(max_examples=300)
@given(st.data())
def test_forged_frames_are_refused_or_whole(data):
    frame = decode_map(seg.encode_frame(patient_rows(2, 3)))
    key = data.draw(st.sampled_from([*frame, 13, 40]))
    frame[key] = data.draw(st.sampled_from(
        [0, 1, 3, -1, 1 << 63, b"", b"x" * 16, "a", [], [0], [[]], [[], [], []], [1, 2, 3],
         [[3]], [[1], [2]], [[3, 17]], [[3, 17, 5]], [[3, 18, "a", 17, "b"]], [[-3]], [[3, 0, 1]],
         ["a", "b", "c"], [b"x" * 16] * 3]))  # fmt: skip
    try:
        block = seg.decode_frame(encode_map(frame))
    except DamagedError:
        return
    rows = list(block.rows())
    assert len(rows) == block.total + len(block.identities)
    seg.encode_frame(rows)


def test_rows_that_cannot_be_written_are_refused():
    for row in (Row(object_id=b"x", path=b""), Row(object_id=b"o" * 16),
                Row(PatientID="1", PatientName="A"), Row(IssuerOfPatientID="A"),
                Row(object_id=b"o" * 16, path=b"", size="1")):  # fmt: skip
        with pytest.raises(UsageError):
            seg.encode_frame([row])


def test_flipping_any_bit_of_a_head_is_refused_and_so_is_cutting():
    keys = PlainKeys()
    data = seal_head(keys, 1, (Entry(bytes(16), bytes(32), 5, 6),))
    assert open_head(keys, data).segments[0].rows == 6
    for bit in range(8 * len(data)):
        forged = bytearray(data)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            open_head(keys, bytes(forged))
    for size in range(len(data)):
        with pytest.raises(DamagedError):
            open_head(keys, data[:size])


def test_an_old_head_is_refused_and_one_newer_by_one_counts():
    store, keys = MemoryStore(), PlainKeys()
    first = write_head(store, keys, read_head(store, keys), ())
    old = store.blobs[NAME]
    second = write_head(store, keys, first, ())
    assert read_head(store, keys) == second
    keys.state = 1  # cut short before the last step
    assert read_head(store, keys) == second
    keys.state = 0
    with pytest.raises(DamagedError, match="newer"):
        read_head(store, keys)
    keys.state = 2
    store.blobs[NAME] = old
    with pytest.raises(DamagedError, match="old copy"):
        read_head(store, keys)
    del store.blobs[NAME]
    with pytest.raises(DamagedError, match="gone"):
        read_head(store, keys)


def test_a_head_under_an_older_vault_key_does_not_count_once_a_newer_one_was_used():
    store, keys = MemoryStore(), PlainKeys()
    head = write_head(store, keys, read_head(store, keys), ())
    forged = seal_head(keys, 3, ())  # by one who had the vault key then
    keys.generation = 2
    assert read_head(store, keys) == head
    write_head(store, keys, head, ())
    store.blobs[NAME] = forged
    with pytest.raises(DamagedError):
        read_head(store, keys)
