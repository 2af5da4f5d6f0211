"""Whatever is done to an object's bytes, it is refused: every bit of the small parts, samples
of the streams, cuts, swaps, replays."""

import io
import pathlib
import struct

import pydicom
import pytest
from pydicom.data import get_testdata_file

import dicomcrypt as dc
from dicomcrypt.container.layout import (
    CORE_SIZE,
    PREFIX_SIZE,
    TRAILER_SIZE,
    pack_trailer,
    parse_prefix,
    parse_trailer,
)
from dicomcrypt.container.reader import Container
from dicomcrypt.container.streams import HEADER, SEALED_CHUNK
from dicomcrypt.objects.buffers import MemorySource

REFUSED = (dc.DamagedError, dc.NoIdentityError)
ALICE, BOB, CAROL = (dc.X25519Identity.generate() for _ in range(3))
READERS = {"alice": [ALICE], "bob": [BOB], "both": [ALICE, BOB]}
every_reader = pytest.mark.parametrize("readers", READERS.values(), ids=READERS)
every_stream = pytest.mark.parametrize("sid", [1, 2, 3], ids=("tags", "pixels", "tail"))


def tiny_dicom():
    """A DICOM file of a few hundred bytes with pixel data and something behind it."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.3", "1.2.3.4"
    dataset.PatientName, dataset.Rows, dataset.Columns = "Nobody", 4, 4
    dataset.BitsAllocated, dataset.SamplesPerPixel = 8, 1
    dataset.add_new(0x7FE00010, "OB", bytes(range(16)))
    dataset.add_new(0xFFFCFFFC, "OB", bytes(6))
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


CT = pathlib.Path(get_testdata_file("CT_small.dcm")).read_bytes()
OBJECT = dc.encrypt(CT, [ALICE.recipient, BOB.recipient])
TWIN = dc.encrypt(CT, [ALICE.recipient, BOB.recipient])


def layout(blob):
    """Return (slot capacity, {stream: (offset, length)})."""
    prefix = parse_prefix(blob[:PREFIX_SIZE])
    return prefix.capacity, parse_trailer(blob[-TRAILER_SIZE:], prefix, len(blob)).streams


CAPACITY, STREAMS = layout(OBJECT)
SLOT_A, SLOT_B = PREFIX_SIZE, PREFIX_SIZE + CAPACITY
TRAILER = len(OBJECT) - TRAILER_SIZE


def is_refused(blob, readers):
    """Whether an object is refused as it must be; other errors are not caught."""
    try:
        dc.decrypt(blob, readers)
    except REFUSED:
        return True
    return False


def flips(blob, bits):
    """Yield (bit, the object with this bit flipped)."""
    damaged = bytearray(blob)
    for bit in bits:
        damaged[bit >> 3] ^= 1 << (bit & 7)
        yield bit, damaged
        damaged[bit >> 3] ^= 1 << (bit & 7)


def accepted_flips(blob, bits, readers):
    return [bit for bit, damaged in flips(blob, bits) if not is_refused(damaged, readers)]


def bits_of(start, end):
    return range(8 * start, 8 * end)


def rebuilt(blob, parts):
    """The object with {stream: sealed bytes} in place of its streams and a trailer that fits."""
    head = blob[: PREFIX_SIZE + 2 * layout(blob)[0]]
    body, places = b"", {}
    for sid in (1, 2, 4, 3):
        if sid in parts:
            places[sid] = (len(head) + len(body), len(parts[sid]))
            body += parts[sid]
    return head + body + pack_trailer(places, len(head) + len(body) + TRAILER_SIZE)


def parts_of(blob):
    return {sid: blob[at : at + size] for sid, (at, size) in layout(blob)[1].items()}


# ---- single bits --------------------------------------------------------


@every_reader
@pytest.mark.parametrize(
    ("start", "end"),
    [(0, CORE_SIZE), (CORE_SIZE, PREFIX_SIZE), (SLOT_A, SLOT_B)],
    ids=("core", "capacity", "active slot"),
)
def test_flipping_any_header_bit_is_rejected(readers, start, end):
    assert accepted_flips(OBJECT, bits_of(start, end), readers) == []


def test_flipping_any_bit_of_the_empty_slot_changes_nothing():
    slots = Container(MemorySource(OBJECT)).slots
    for bit, damaged in flips(OBJECT, bits_of(SLOT_B, SLOT_B + CAPACITY)):
        assert Container(MemorySource(damaged)).slots == slots, bit
        if bit % 61 == 0:
            assert dc.decrypt(damaged, [ALICE]) == CT


def test_flipping_any_bit_of_either_of_two_live_slots_never_changes_the_plaintext(tmp_path):
    blob, _, newer = rewrapped(tmp_path)
    both = blob[:SLOT_B] + newer[SLOT_B:]  # as a crash between the two writes leaves it
    assert dc.decrypt(both, [CAROL]) == CT
    for bit, damaged in flips(both, range(8 * SLOT_A, 8 * (SLOT_B + CAPACITY), 11)):
        try:
            assert dc.decrypt(damaged, [ALICE]) == CT, bit
        except REFUSED:
            continue


def test_flipping_any_trailer_bit_is_damage():
    for _, damaged in flips(OBJECT, bits_of(TRAILER, len(OBJECT))):
        with pytest.raises(dc.DamagedError):
            dc.decrypt(damaged, [ALICE])


@every_stream
def test_flipping_any_bit_of_a_stream_header_is_damage(sid):
    offset, _ = STREAMS[sid]
    for _, damaged in flips(OBJECT, bits_of(offset, offset + HEADER)):
        with pytest.raises(dc.DamagedError):
            dc.decrypt(damaged, [BOB])


def sampled_bits(sid):
    """All bits of the chunks' tags and of the tail; one bit of every 17th byte elsewhere."""
    offset, length = STREAMS[sid]
    if sid == 3:
        return bits_of(offset + HEADER, offset + length)
    bits = set()
    for at in range(offset + HEADER, offset + length, SEALED_CHUNK):
        end = min(at + SEALED_CHUNK, offset + length)
        bits |= set(bits_of(end - 16, end)) | {8 * at, 8 * end - 129}
    bits |= {8 * at + at % 8 for at in range(offset + HEADER, offset + length, 17)}
    return sorted(bits)


@every_stream
def test_flipping_a_bit_of_a_stream_is_damage(sid):
    for _, damaged in flips(OBJECT, sampled_bits(sid)):
        with pytest.raises(dc.DamagedError):
            dc.decrypt(damaged, [ALICE])


@pytest.mark.parametrize(("scope", "number"), [("tags", 1), ("pixels", 2)])
def test_a_scope_holder_checks_the_mac_of_that_scope(scope, number):
    blob = dc.encrypt(CT, [ALICE.recipient], **{f"{scope}_to": [BOB.recipient]})
    end = PREFIX_SIZE + layout(blob)[0]
    own = dc.decrypt(blob, [BOB], part=scope)
    for bit, damaged in flips(blob, bits_of(end - 96, end)):
        if bit // 8 - (end - 96) in range(32 * number, 32 * number + 32):
            with pytest.raises(dc.DamagedError):
                dc.decrypt(damaged, [BOB], part=scope)
        elif bit % 8 == 0:
            assert dc.decrypt(damaged, [BOB], part=scope) == own


# ---- lengths ------------------------------------------------------------


def borders():
    found = {0, 8, CORE_SIZE, PREFIX_SIZE, SLOT_B - 96, SLOT_B, SLOT_B + CAPACITY, TRAILER}
    found |= {TRAILER + 8 * n for n in range(13)}
    for offset, length in STREAMS.values():
        found |= {offset, offset + 24, offset + HEADER, offset + length}
        found |= set(range(offset + HEADER, offset + length, SEALED_CHUNK))
    return sorted({n + d for n in found for d in (-1, 0, 1)} & set(range(len(OBJECT))))


@pytest.mark.parametrize("cut", borders())
def test_an_object_cut_at_a_border_is_damage(cut):
    with pytest.raises(dc.DamagedError):
        dc.decrypt(OBJECT[:cut], [ALICE])


@pytest.mark.parametrize("plain", [b"x", tiny_dicom()], ids=("opaque", "dicom"))
def test_a_small_object_of_any_other_length_is_damage(plain):
    blob = dc.encrypt(plain, [ALICE.recipient])
    for size in range(len(blob)):
        with pytest.raises(dc.DamagedError):
            dc.decrypt(blob[:size], [ALICE])
    assert dc.decrypt(blob, [ALICE]) == plain


def longer_total(blob, extra):
    """The object with `extra` before its trailer, which tells the new length."""
    total = struct.pack("<Q", len(blob) + len(extra))
    return blob[:-TRAILER_SIZE] + extra + blob[-TRAILER_SIZE:-16] + total + blob[-8:]


@pytest.mark.parametrize(
    "blob",
    [
        OBJECT + b"\0",
        OBJECT + OBJECT[-TRAILER_SIZE:],
        OBJECT + TWIN,
        longer_total(OBJECT, b"\0"),
        longer_total(OBJECT, bytes(SEALED_CHUNK)),
        b"\0" + OBJECT,
    ],
    ids=("byte", "trailer", "object", "byte inside", "chunk inside", "byte before"),
)
def test_added_bytes_are_damage(blob):
    with pytest.raises(dc.DamagedError):
        dc.decrypt(blob, [ALICE])


@every_stream
@pytest.mark.parametrize("change", [-16384, -16, -1, 1, 16, SEALED_CHUNK])
def test_a_stream_of_another_length_is_damage_even_if_the_trailer_agrees(sid, change):
    parts = parts_of(OBJECT)
    size = len(parts[sid]) + change
    parts[sid] = parts[sid][: max(size, 0)] + bytes(max(change, 0))
    with pytest.raises(dc.DamagedError):
        dc.decrypt(rebuilt(OBJECT, parts), [ALICE])


def test_dropping_whole_chunks_at_the_end_of_a_stream_is_damage():
    for keep in (0, 1, 2):
        parts = parts_of(OBJECT)
        parts[2] = parts[2][: HEADER + keep * SEALED_CHUNK]
        with pytest.raises(dc.DamagedError):
            dc.decrypt(rebuilt(OBJECT, parts), [ALICE])


# ---- parts in wrong places ----------------------------------------------


def test_rebuilding_an_object_from_its_own_parts_gives_it_again():
    assert rebuilt(OBJECT, parts_of(OBJECT)) == OBJECT


@every_stream
def test_a_stream_of_another_object_is_damage(sid):
    parts = parts_of(OBJECT) | {sid: parts_of(TWIN)[sid]}
    assert len(rebuilt(OBJECT, parts)) == len(OBJECT)
    with pytest.raises(dc.DamagedError):
        dc.decrypt(rebuilt(OBJECT, parts), [ALICE])


@pytest.mark.parametrize(("first", "second"), [(1, 2), (1, 3), (2, 3)])
def test_streams_swapped_within_an_object_are_damage(first, second):
    parts = parts_of(OBJECT)
    parts[first], parts[second] = parts[second], parts[first]
    with pytest.raises(dc.DamagedError):
        dc.decrypt(rebuilt(OBJECT, parts), [ALICE])


def test_chunks_in_another_order_are_damage():
    offset, _ = STREAMS[2]
    first, second = offset + HEADER, offset + HEADER + SEALED_CHUNK
    blob = bytearray(OBJECT)
    blob[first:second] = OBJECT[second : second + SEALED_CHUNK]
    blob[second : second + SEALED_CHUNK] = OBJECT[first:second]
    with pytest.raises(dc.DamagedError):
        dc.decrypt(blob, [ALICE])


@pytest.mark.parametrize("number", [0, 1])
def test_a_chunk_of_another_object_is_damage(number):
    at = STREAMS[2][0] + HEADER + number * SEALED_CHUNK
    blob = bytearray(OBJECT)
    blob[at : at + SEALED_CHUNK] = TWIN[at : at + SEALED_CHUNK]
    assert blob != OBJECT
    with pytest.raises(dc.DamagedError):
        dc.decrypt(blob, [ALICE])


@pytest.mark.parametrize("gone", [{1}, {2}, {3}, {1, 2}, {1, 3}, {2, 3}, {1, 2, 3}], ids=str)
@pytest.mark.parametrize("as_opaque", [False, True], ids=("absent", "as opaque"))
def test_an_object_without_one_of_its_streams_is_damage(gone, as_opaque):
    parts = {sid: data for sid, data in parts_of(OBJECT).items() if sid not in gone}
    if as_opaque:
        parts[4] = parts_of(OBJECT)[min(gone)]
    with pytest.raises(dc.DamagedError):
        dc.decrypt(rebuilt(OBJECT, parts), [ALICE])


def test_the_tags_reader_notices_that_the_pixels_were_taken_away():
    blob = dc.encrypt(CT, [ALICE.recipient], tags_to=[BOB.recipient])
    parts = parts_of(blob)
    del parts[2]
    with pytest.raises(dc.DamagedError):
        dc.decrypt(rebuilt(blob, parts), [BOB], part="tags")


# ---- slots in wrong places ----------------------------------------------


@pytest.mark.parametrize("to", [SLOT_A, SLOT_B], ids="AB")
def test_a_slot_of_another_object_opens_nothing(to):
    assert layout(TWIN)[0] == CAPACITY
    slot = TWIN[SLOT_A:SLOT_B]
    blob = OBJECT[:to] + slot + OBJECT[to + CAPACITY :]
    if to == SLOT_A:
        assert is_refused(blob, [ALICE])
    else:  # an even generation does not belong into slot B
        assert dc.decrypt(blob, [ALICE]) == CT


def test_a_newer_slot_of_another_object_opens_nothing(tmp_path):
    _, _, other = rewrapped(tmp_path)
    blob = OBJECT[:SLOT_B] + other[SLOT_B : SLOT_B + CAPACITY] + OBJECT[SLOT_B + CAPACITY :]
    assert is_refused(blob, [CAROL])
    assert dc.decrypt(blob, [ALICE]) == CT  # the object's own slot still stands


def rewrapped(tmp_path, **changes):
    """An object before and after Carol was added: (before, path, after)."""
    path = tmp_path / "object.dcmx"
    before = dc.encrypt(CT, [ALICE.recipient, BOB.recipient])
    path.write_bytes(before)
    changes = changes or {"add": [CAROL.recipient]}
    dc.rewrap(path, [ALICE], **changes)
    return before, path, path.read_bytes()


def test_an_older_slot_beside_the_newer_one_does_not_win(tmp_path):
    before, _, after = rewrapped(tmp_path, remove=[BOB.recipient], keep_key=True)
    replayed = after[:SLOT_A] + before[SLOT_A:SLOT_B] + after[SLOT_B:]
    assert Container(MemorySource(replayed)).unlock([ALICE]).unlocked.slot.generation == 3


def test_a_whole_older_header_opens_again_as_the_specification_says(tmp_path):
    before, _, after = rewrapped(tmp_path, remove=[BOB.recipient], keep_key=True)
    assert is_refused(after, [BOB])
    replayed = before[: SLOT_B + CAPACITY] + after[SLOT_B + CAPACITY :]
    assert replayed == before  # the fast form leaves the streams alone: nothing to tell it by
    assert dc.decrypt(replayed, [BOB]) == CT


def test_an_older_header_does_not_open_an_object_that_was_encrypted_anew(tmp_path):
    before, _, after = rewrapped(tmp_path, remove=[BOB.recipient])
    assert dc.decrypt(after, [ALICE]) == CT
    capacity = layout(after)[0]
    if capacity == CAPACITY:
        replayed = after[:SLOT_A] + before[SLOT_A:SLOT_B] + after[SLOT_B:]
        assert is_refused(replayed, [BOB])
    assert is_refused(before[: SLOT_B + CAPACITY] + after[PREFIX_SIZE + 2 * capacity :], [BOB])
    assert is_refused(rebuilt(before, parts_of(after)), [BOB])
