"""Streams, header and index."""

import os

import pytest

from dicomcrypt.cli.measure import MIB
from dicomcrypt.container.header import default_capacity, pack_header, parse_slots, unlock
from dicomcrypt.container.index import Geometry, Index, parse_index
from dicomcrypt.container.layout import PREFIX_SIZE, new_core, parse_prefix
from dicomcrypt.container.schedule import KeySchedule
from dicomcrypt.container.streams import PIECE, StreamOpener, StreamSealer, sealed_size
from dicomcrypt.keys.batch import Envelope
from dicomcrypt.keys.hybrid import HybridIdentity
from dicomcrypt.objects.buffers import MemorySink, MemorySource

SIZES = {"16 KiB": 16384, "128 KiB": 131072, "1 MiB": MIB, "16 MiB": 16 * MIB}
SID = 4


@pytest.fixture(scope="module")
def keys():
    return KeySchedule.from_object_key(os.urandom(32), new_core())


def seal(keys, data, out):
    sealer = StreamSealer(SID, keys, MemorySink(out))
    view = memoryview(data)
    for at in range(0, len(data), 131072):
        sealer.write(view[at : at + 131072])
    return sealer.finish()[1]


@pytest.mark.parametrize("name", SIZES)
def test_seal(measure, keys, name):
    data = os.urandom(SIZES[name])
    out = bytearray(sealed_size(len(data)))
    measure(f"seal {name}", lambda: seal(keys, data, out), len(data),
            rounds=max(30, min(1000, (256 << 20) // len(data))))
    room = memoryview(bytearray(PIECE))
    opener = StreamOpener(MemorySource(out), SID, 0, len(out), keys)
    back = bytearray()
    while made := opener.read_into(room):
        back += room[:made]
    assert back == data


@pytest.mark.parametrize("name", SIZES)
def test_open(measure, keys, name):
    data = os.urandom(SIZES[name])
    out = bytearray(sealed_size(len(data)))
    seal(keys, data, out)
    room = memoryview(bytearray(PIECE))
    source, total = MemorySource(out), 0

    def work():
        nonlocal total
        opener, total = StreamOpener(source, SID, 0, len(out), keys), 0
        while made := opener.read_into(room):
            total += made

    measure(f"open {name}", work, len(data),
            rounds=max(30, min(1000, (256 << 20) // len(data))))
    assert total == len(data)


@pytest.mark.parametrize("count", [1, 10])
def test_header_wrap(measure, count):
    """Public-key work of one object without a batch, and the header's bytes."""
    identities = [HybridIdentity.generate() for _ in range(count)]
    envelope = Envelope({1: [identity.recipient for identity in identities]})
    made = []

    def work():
        made[:] = [envelope.material().header]

    measure(f"header, wrap, {count} recipients", work, rounds=200)
    prefix = parse_prefix(made[0][:PREFIX_SIZE])
    slots = parse_slots(made[0][PREFIX_SIZE:], prefix)
    for identity in identities:
        assert unlock(prefix, slots, [identity]).keys.opens(SID)


@pytest.mark.parametrize("count", [1, 10])
def test_header_unlock(measure, count):
    """The last of so many recipients opens the header."""
    identities = [HybridIdentity.generate() for _ in range(count)]
    envelope = Envelope({1: [identity.recipient for identity in identities]})
    schedule, stanzas, _ = envelope.new()
    header = pack_header(schedule.core, default_capacity(stanzas), stanzas, schedule)
    found = []

    def work():
        prefix = parse_prefix(header[:PREFIX_SIZE])
        slots = parse_slots(header[PREFIX_SIZE:], prefix)
        found[:] = [unlock(prefix, slots, [identities[-1]])]

    measure(f"header, unlock, {count} recipients", work, rounds=200)
    assert found[0].keys.input_key(SID) == schedule.input_key(SID)


def test_header_of_a_batch(measure):
    envelope = Envelope({1: [HybridIdentity.generate().recipient]}, batch=True)

    def work():
        return envelope.material()

    measure("header, wrap, in a batch", work, rounds=1000)
    assert len(work().header) > PREFIX_SIZE


def pixels_index():
    geometry = Geometry(512, 512, 1, 16, 12, 11, 0, 0, 1, "MONOCHROME2", 0x7FE00010, 0)
    return Index(2, {2: 524288}, [[0, 524288, 512, 1024, 512]], b"\x12",
                 syntax="1.2.840.10008.1.2.1", geometry=geometry, frame_bits=4194304)


def test_index_encode(measure):
    index = pixels_index()
    measure("index, encode", index.encode, rounds=5000)
    assert parse_index(index.encode()[:-4], 2, 524288) == index


def test_index_parse(measure):
    data = pixels_index().encode()[:-4]
    measure("index, parse", lambda: parse_index(data, 2, 524288), rounds=5000)
    assert parse_index(data, 2, 524288).encode()[:-4] == data
