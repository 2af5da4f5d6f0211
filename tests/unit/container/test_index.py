"""The index: one encoding for one meaning, everything else refused."""

import struct
import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.container import index as ix
from dicomcrypt.native._block import LINEAR_UNIT

NUMBERS = st.integers(-(2**64), 2**64 - 1) | st.sampled_from(
    [n + d for n in (0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**63) for d in (-1, 0, 1)]
)
LEAVES = NUMBERS | st.binary(max_size=300) | st.text(max_size=40)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=6), max_leaves=20)
MAPS = st.dictionaries(st.integers(0, 2**64 - 1) | st.integers(0, 30), VALUES, max_size=12)
few = settings(max_examples=100, deadline=None)


@few
@given(MAPS)
def test_encoding_is_the_library_s_canonical_one(entries):
    data = ix.encode_map(entries)
    assert data == cbor2.dumps(dict(sorted(entries.items())), canonical=True)
    assert ix.decode_map(data) == entries


@few
@given(st.binary(max_size=60) | MAPS.map(ix.encode_map).flatmap(
    lambda data: st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)).map(
        lambda at: data[: at[0]] + bytes([data[at[0]] ^ at[1]]) + data[at[0] + 1 :])))  # fmt: skip
def test_decoding_gives_back_what_encodes_the_same_or_refuses(data):
    try:
        entries = ix.decode_map(data)
    except dc.DamagedError:
        return
    assert ix.encode_map(entries) == data


def by_the_library(data):
    """What the library decodes, if our encoding of it gives the same bytes; None otherwise."""
    try:
        value = cbor2.loads(data)
        if type(value) is dict and all(type(key) is int and key >= 0 for key in value):
            return value if ix.encode_map(value) == data else None
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError,
            MemoryError):
        pass
    return None


def ours(data):
    try:
        return ix.decode_map(data)
    except dc.DamagedError:
        return None


HEADS = st.builds(
    lambda major, info, more: bytes([major << 5 | info]) + more,
    st.integers(0, 7), st.integers(0, 31), st.binary(max_size=9),
)  # fmt: skip


INPUTS = (
    st.lists(HEADS, max_size=6).map(lambda heads: b"\xa1\x00" + b"".join(heads))
    | MAPS.map(ix.encode_map)
    | MAPS.map(lambda entries: cbor2.dumps(entries))
)


@settings(max_examples=300, deadline=None)
@given(INPUTS)
def test_the_decoder_takes_what_the_library_takes_and_we_encode_the_same(data):
    assert ours(data) == by_the_library(data)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None)
@given(INPUTS)
def test_many_more_of_them(data):
    assert ours(data) == by_the_library(data)


@pytest.mark.parametrize("start", ["", "a1", "a100", "a10081"])
def test_the_decoder_agrees_with_the_library_on_all_short_inputs(start):
    for size in range(3):
        for number in range(256**size):
            data = bytes.fromhex(start) + number.to_bytes(size, "big")
            assert ours(data) == by_the_library(data), data.hex()


REFUSED = {
    "empty": "",
    "no map": "80",
    "number": "05",
    "text keys": "a1616100",
    "negative key": "a12000",
    "byte key": "a1410000",
    "array key": "a1810000",
    "keys descending": "a201000000",
    "key twice": "a200000000",
    "long key": "a1180000",
    "long number": "a1001805",
    "long length": "a100580161",
    "long map head": "b8010000",
    "indefinite map": "bf0000ff",
    "indefinite array": "a1009f00ff",
    "indefinite bytes": "a1005f4161ff",
    "indefinite text": "a1007f6161ff",
    "tag": "a100c000",
    "bignum": "a100c24101",
    "date": "a100c11a00000000",
    "shared reference": "a100d81c8100",
    "half": "a100f90000",
    "single": "a100fa00000000",
    "double": "a100fb0000000000000000",
    "true": "a100f5",
    "null": "a100f6",
    "undefined": "a100f7",
    "simple": "a100e0",
    "map inside": "a100a10000",
    "broken text": "a10061ff",
    "trailing byte": "a1000000",
    "two maps": "a0a0",
    "cut": "a100",
    "cut text": "a1006261",
    "reserved head": "a1001c",
    "stop": "a100ff",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_another_encoding_or_type_is_damage(data):
    with pytest.raises(dc.DamagedError):
        ix.decode_map(bytes.fromhex(data))


@pytest.mark.parametrize(("depth", "taken"), [(1, True), (16, True), (17, False), (5000, False),
                                              (500_000, False)])  # fmt: skip
def test_nesting_is_bounded(depth, taken):
    data = b"\xa1\x00" + b"\x81" * (depth - 1) + b"\x80"
    if taken:
        assert ix.encode_map(ix.decode_map(data)) == data
    else:
        with pytest.raises(dc.DamagedError):
            ix.decode_map(data)


@pytest.mark.parametrize("head", ["5a", "7a", "9a", "ba", "5b", "7b", "9b", "bb"])
@pytest.mark.parametrize("size", [2**31, 2**32 - 1, 2**62, 2**64 - 1])
def test_a_huge_declared_length_is_damage_and_allocates_nothing(head, size):
    wide = head[1] == "b"
    length = struct.pack(">Q" if wide else ">I", size if wide else min(size, 2**32 - 1))
    data = b"\xa1\x00" + bytes.fromhex(head) + length + b"\0" * 20
    tracemalloc.start()
    try:
        with pytest.raises(dc.DamagedError):
            ix.decode_map(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# ---- meanings -----------------------------------------------------------

GOOD = {
    0: 3, 1: [1, 100, 2, 50, 3, 10], 2: [[0, 10]], 3: b"\x24", 5: "1.2.3", 7: 160, 8: b"name",
    9: 0o644, 10: -5, 12: [[0, 40], [50, 50, 2, 10, 5]], 13: b"\0\1\2\4", 14: 8, 4: bytes(32),
    6: [1, 2, 1, 8, 8, 7, 0, 0, 1, "MONOCHROME2", 0x7FE00010, 0], 11: b"", 99: ["unknown", -1, b""],
}  # fmt: skip


def parse(changes, stream=3, payload=10):
    entries = {k: v for k, v in (GOOD | changes).items() if v is not None}
    return ix.parse_index(ix.encode_map(entries), stream, payload)


def test_a_good_index_is_read():
    index = parse({})
    assert index.lengths == {1: 100, 2: 50, 3: 10}
    assert index.runs == [[0, 10]]
    assert index.tags_methods == b"\0\1\2\4"
    assert index.meta == ix.Meta(b"name", 0o644, -5, b"")
    assert index.geometry.photometric == "MONOCHROME2"


def test_an_index_is_read_as_it_was_written():
    index = parse({99: None})
    again = ix.parse_index(index.encode()[:-4], 3, 10)
    assert again == index
    assert struct.unpack("<I", index.encode()[-4:]) == (len(index.encode()) - 4,)


WRONG = {
    "another stream": {0: 2},
    "no stream": {0: None},
    "stream as text": {0: "3"},
    "no lengths": {1: None},
    "odd lengths": {1: [1, 100, 3]},
    "lengths out of order": {1: [3, 10, 1, 100]},
    "length twice": {1: [1, 100, 3, 10, 3, 10]},
    "unknown stream": {1: [1, 100, 3, 10, 5, 1]},
    "another length": {1: [1, 100, 3, 11]},
    "negative length": {1: [1, -100, 3, 10]},
    "length as text": {1: [1, "100", 3, 10]},
    "no tags": {1: [3, 10]},
    "runs alone": {3: None},
    "methods alone": {2: None},
    "no runs": {2: [], 3: b""},
    "tags runs alone": {13: None},
    "tags methods alone": {12: None},
    "tags runs too long": {12: [[0, 101]], 13: b"\0"},
    "frames odd": {4: bytes(17)},
    "size as text": {7: "160"},
    "mode too large": {9: 0o10000},
    "mode negative": {9: -1},
    "no bits": {14: 0},
    "geometry short": {6: GOOD[6][:-1]},
    "geometry long": {6: [*GOOD[6], 0]},
    "geometry negative": {6: [-1, *GOOD[6][1:]]},
    "geometry without text": {6: [*GOOD[6][:9], 0, *GOOD[6][10:]]},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_an_index_that_contradicts_itself_is_damage(changes):
    with pytest.raises(dc.DamagedError):
        parse(changes)


@pytest.mark.parametrize("key", sorted(set(GOOD) - {99}))
@pytest.mark.parametrize("value", [0, -1, b"", "", [], [[]], [[0]], ["x"]], ids=repr)
def test_a_value_of_another_type_is_damage(key, value):
    right = type(value) is type(GOOD[key])
    if right or (key == 4 and value == b""):
        return
    with pytest.raises(dc.DamagedError):
        parse({key: value})


# ---- runs ---------------------------------------------------------------

U = LINEAR_UNIT
RUNS_TAKEN = {
    "none": (None, None, 0),
    "one": ([[0, 1]], b"\0", 1),
    "two that touch": ([[0, 5], [5, 5]], b"\0\0", 10),
    "unit": ([[0, U]], b"\0", U),
    "unit and a byte": ([[3, U + 1]], b"\0\xaa", U + 9),
    "frames": ([[0, 60, 3, 10, 5]], b"\0\1", 60),
    "cut frame": ([[0, 31, 3, 10, 5]], b"\0\1", 40),
    "undivided": ([[0, 30, 3, 10, 10]], b"\0", 30),
    "two thirds": ([[0, 9, 1, 9, 6]], b"\0", 9),
    "widest": ([[0, 5, 1, 1 << 20, 1 << 19]], b"\0", 5),
    "largest": ([[0, 5, (1 << 28) - 1, 1 << 20, 1 << 19]], b"\0", 5),
    "most rows": ([[0, 5, (1 << 32) - 1, 1, 1]], b"\0", 5),
}
RUNS_REFUSED = {
    "empty": ([], b"", 10),
    "runs alone": ([[0, 1]], None, 10),
    "methods alone": (None, b"", 10),
    "no list": ([0, 1], b"\0", 10),
    "three numbers": ([[0, 1, 1]], b"\0", 10),
    "text": ([[0, "1"]], b"\0", 10),
    "truth": ([[0, True]], b"\0", 10),
    "negative": ([[-1, 2]], b"\0", 10),
    "zero length": ([[0, 0]], b"", 10),
    "outside": ([[0, 11]], b"\0", 10),
    "far outside": ([[1 << 63, 1 << 63]], b"\0", 10),
    "overlap": ([[0, 5], [4, 2]], b"\0\0", 10),
    "descending": ([[5, 5], [0, 5]], b"\0\0", 10),
    "too few methods": ([[0, U + 1]], b"\0", U + 1),
    "too many methods": ([[0, 10]], b"\0\0", 10),
    "method 3": ([[0, 10]], b"\x0c", 10),
    "last method 3": ([[0, 10]], b"\xc0", 10),
    "no rows": ([[0, 10, 0, 5, 5]], b"\0", 10),
    "no width": ([[0, 10, 2, 0, 0]], b"\0", 10),
    "too many rows": ([[0, 10, 1 << 32, 1, 1]], b"\0", 10),
    "too wide": ([[0, 10, 1, (1 << 20) + 1, (1 << 19) + 1]], b"\0", 10),
    "too large": ([[0, 10, 1 << 28, 1 << 20, 1 << 19]], b"\0", 10),
    "split left": ([[0, 10, 1, 10, 4]], b"\0", 10),
    "split far right": ([[0, 10, 1, 10, 7]], b"\0", 10),
    "split outside": ([[0, 10, 1, 10, 11]], b"\0", 10),
    "too many units": ([[0, (1 << 26) + 1, 1, 1, 1]], b"\0", (1 << 26) + 1),
}


@pytest.mark.parametrize(("runs", "methods", "payload"), RUNS_TAKEN.values(), ids=RUNS_TAKEN)
def test_runs_within_the_rules_are_taken(runs, methods, payload):
    assert ix.check_runs(runs, methods, payload) == (runs or [], methods or b"")


@pytest.mark.parametrize(("runs", "methods", "payload"), RUNS_REFUSED.values(), ids=RUNS_REFUSED)
def test_runs_that_break_a_rule_are_damage(runs, methods, payload):
    with pytest.raises(dc.DamagedError):
        ix.check_runs(runs, methods, payload)
