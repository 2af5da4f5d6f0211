"""Sealed streams: the sealer, the opener and random access agree with each other and with the
library's own chunked encryption."""

import os
import random

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

import dicomcrypt as dc
from dicomcrypt.container.layout import STREAM_NAMES, new_core
from dicomcrypt.container.schedule import KeySchedule
from dicomcrypt.container.streams import (
    CHUNK,
    HEADER,
    PIECE,
    SEALED_CHUNK,
    ChunkReader,
    StreamOpener,
    StreamSealer,
    plain_size,
    sealed_size,
)
from dicomcrypt.objects.buffers import GrowingSink, MemorySource

KEYS = KeySchedule.from_object_key(os.urandom(32), new_core())
BORDERS = sorted({0, 1, 2, 3} | {k * CHUNK + d for k in (1, 2, 8, 9) for d in (-16, -1, 0, 1, 16)})
every_size = pytest.mark.parametrize("size", BORDERS)


def plain(size):
    return random.Random(size).randbytes(size)


def seal(data, sid=1, seed=0, prefix=b""):
    """Seal in random pieces; return the stream, checked to lie behind `prefix`."""
    choose, sink = random.Random(seed), GrowingSink()
    sink.reserve(len(prefix))[:] = prefix
    sink.commit(len(prefix))
    sealer, at = StreamSealer(sid, KEYS, sink), 0
    while at < len(data):
        size = choose.choice((0, 1, 15, choose.randrange(1 + CHUNK), choose.randrange(5 * CHUNK)))
        sealer.write(memoryview(data)[at : at + size])
        at += size
    offset, length = sealer.finish()
    assert (offset, length) == (len(prefix), sink.position - len(prefix))
    return sink.value()[offset:]


def reader(sealed, sid=1, keys=KEYS):
    return ChunkReader(MemorySource(sealed), sid, 0, len(sealed), keys)


def open_whole(sealed, sid=1, keys=KEYS):
    opener = StreamOpener(MemorySource(sealed), sid, 0, len(sealed), keys)
    room, pieces = memoryview(bytearray(PIECE)), []
    while made := opener.read_into(room):
        pieces.append(bytes(room[:made]))
    assert opener.read_into(room) == 0
    return b"".join(pieces)


def by_library(sealed, sid=1):
    decryptor = Cobblestone256Decryptor(KEYS.input_key(sid), KEYS.context(sid))
    return decryptor.update(sealed) + decryptor.finalize()


@every_size
def test_sealed_and_plain_size_are_inverse(size):
    assert plain_size(sealed_size(size)) == size
    assert len(seal(plain(size))) == sealed_size(size)


@pytest.mark.parametrize("rest", range(16))
def test_a_length_that_no_stream_has_is_damage(rest):
    for chunks in (0, 1, 2):
        with pytest.raises(dc.DamagedError):
            plain_size(HEADER + chunks * SEALED_CHUNK + rest)
    for short in (0, 1, HEADER - 1):
        with pytest.raises(dc.DamagedError):
            plain_size(short)


@every_size
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_sealed_in_pieces_opens_in_three_ways(size, seed):
    data, prefix = plain(size), bytes(seed * 37)
    sealed = seal(data, 2, seed, prefix)
    assert open_whole(sealed, 2) == data
    assert by_library(sealed, 2) == data
    assert reader(sealed, 2).read(0, size) == data
    assert reader(sealed, 2).size == size


@every_size
def test_what_the_library_seals_opens_here(size):
    encryptor = Cobblestone256Encryptor(KEYS.input_key(1), KEYS.context(1))
    sealed = encryptor.update(plain(size)) + encryptor.finalize()
    assert open_whole(sealed) == plain(size)
    assert reader(sealed).read(0, size) == plain(size)
    assert reader(sealed).read_end(0) == plain(size)[size // CHUNK * CHUNK :]


@every_size
def test_any_range_is_a_slice(size):
    data, choose = plain(size), random.Random(size)
    chunks = reader(seal(data))
    for _ in range(20):
        start, end = sorted((choose.randint(0, size), choose.randint(0, size)))
        assert chunks.read(start, end) == data[start:end]
    assert chunks.read(size, 0) == b""


@every_size
@pytest.mark.parametrize("wanted", [0, 1, 4, CHUNK, 3 * CHUNK])
def test_the_end_is_at_least_what_was_asked_for(size, wanted):
    end = reader(seal(plain(size))).read_end(wanted)
    assert len(end) >= min(wanted, size)
    assert plain(size).endswith(end)


@every_size
def test_reading_the_end_notices_that_chunks_are_missing_or_added(size):
    sealed = seal(plain(size))
    changed = sealed[:-1] + bytes((sealed[-1] ^ 1,))
    for other in (sealed[:-SEALED_CHUNK], sealed + bytes(SEALED_CHUNK), changed):
        with pytest.raises(dc.DamagedError):
            reader(other).read_end(4)
        with pytest.raises(dc.DamagedError):
            open_whole(other)


@pytest.mark.parametrize("sid", STREAM_NAMES)
def test_a_stream_opens_only_as_itself_and_under_its_keys(sid):
    sealed = seal(plain(100), sid)
    assert open_whole(sealed, sid) == plain(100)
    others = [(other, KEYS) for other in STREAM_NAMES if other != sid]
    others.append((sid, KeySchedule.from_object_key(os.urandom(32), KEYS.core)))
    for other, keys in others:
        with pytest.raises(dc.DamagedError):
            reader(sealed, other, keys)
        with pytest.raises(dc.DamagedError):
            open_whole(sealed, other, keys)


@pytest.mark.parametrize("at", [0, 23, 24, 55])
def test_a_changed_stream_header_is_damage_before_anything_is_read(at):
    sealed = bytearray(seal(plain(100)))
    sealed[at] ^= 0x80
    with pytest.raises(dc.DamagedError):
        reader(sealed)


@pytest.mark.parametrize("chunk", [0, 7, 8, 15, 16])
def test_a_failed_opener_wipes_the_buffer_and_gives_nothing_behind_the_damage(chunk):
    data = plain(16 * CHUNK + 100)
    sealed = bytearray(seal(data))
    sealed[HEADER + chunk * SEALED_CHUNK + 5] ^= 1
    opener = StreamOpener(MemorySource(sealed), 1, 0, len(sealed), KEYS)
    room = memoryview(bytearray(b"\xee" * PIECE))
    for piece in range(chunk // 8):  # an opener takes eight chunks at a time
        made = opener.read_into(room)
        assert room[:made] == data[piece * 8 * CHUNK :][:made]
    with pytest.raises(dc.DamagedError):
        opener.read_into(room)
    assert not any(room)


@pytest.mark.parametrize("chunk", [0, 1, 2, 3])
def test_a_damaged_chunk_is_never_read_and_the_others_are(chunk):
    data = plain(3 * CHUNK + 100)
    sealed = bytearray(seal(data))
    sealed[HEADER + chunk * SEALED_CHUNK] ^= 1
    chunks = reader(sealed)
    for number in range(4):
        start, end = number * CHUNK, min((number + 1) * CHUNK, len(data))
        if number == chunk:
            with pytest.raises(dc.DamagedError):
                chunks.read(start, end)
        else:
            assert chunks.read(start, end) == data[start:end]


def test_the_same_plaintext_is_never_sealed_to_the_same_bytes():
    assert len({seal(b"same") for _ in range(50)}) == 50
