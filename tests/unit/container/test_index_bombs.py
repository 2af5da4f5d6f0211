"""Indexes that are well-formed and made to exhaust memory are refused before decoding."""

import struct
import tracemalloc

import pytest

import dicomcrypt as dc
from dicomcrypt.container.index import decode_map, encode_map
from dicomcrypt.native._cbor import bounded

SIZE = 8 << 20


def array_of(element, size=SIZE):
    count = size // len(element)
    return b"\xa1\x17\x9a" + struct.pack(">I", count) + element * count


@pytest.mark.parametrize(
    "data",
    [array_of(b"\x80"), array_of(b"\xa0"), array_of(b"\x82\x00\x01"), array_of(b"\x00")],
    ids=["arrays", "maps", "runs", "numbers"],
)
def test_a_bomb_is_refused_before_it_is_decoded(data):
    tracemalloc.start()
    try:
        with pytest.raises(dc.DamagedError):
            decode_map(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_largest_index_that_a_writer_makes_is_accepted():
    runs = [[n, 1, 1, 1, 1] for n in range(262144)]
    assert bounded(encode_map({0: 2, 1: [2, 262144], 2: runs, 3: bytes(262144)}),
                   262144 + 256, 6 * 262144 + 4096)
