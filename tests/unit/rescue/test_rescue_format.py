"""The second implementation of the format, tools/dcmx_rescue.py, over all vectors."""

import hashlib
import io
import os
import stat

import cbor2
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st
from rescue_tool import (
    CASES,
    DOCUMENT,
    ENTRIES,
    VECTORS,
    entry_id,
    make_vectors,
    options,
    rescue,
    vector_bytes,
)

FAST = settings(database=None, deadline=None, max_examples=80)


# ---- Vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=entry_id)
def test_object(entry, keys, tmp_path, capsys):
    out = tmp_path / "out" / "file"
    out.parent.mkdir()
    arguments = [str(VECTORS / entry["file"]), "-o", str(out), *options(entry, keys)]
    status = rescue.main(arguments)
    error = capsys.readouterr().err
    assert status == (0 if entry.get("cms") else entry["exit"]), error  # it leaves the CMS alone
    if entry.get("cms") or "signed" in entry:
        assert error.count("\n") == 1
        assert "signed, and the signature itself was not verified" in error
        assert out.exists()
        error = ""
    if status:
        assert list(out.parent.iterdir()) == []
        assert error.count("\n") == 1
        assert f"{entry['file']}: {entry['failure']}: " in error
    elif "cms" in entry:
        assert entry["failure"] == "damaged"
    elif "link" in entry:
        assert os.readlink(out) == entry["link"]
    else:
        data = out.read_bytes()
        assert len(data) == entry["size"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert error == ""


def test_vectors_are_complete():
    listed = {entry["file"] for entry in ENTRIES}
    stored = {f"objects/{path.name}" for path in (VECTORS / "objects").iterdir()}
    assert listed == stored
    size = sum(path.stat().st_size for path in VECTORS.rglob("*") if path.suffix != ".pyc")
    assert size < 3_000_000
    assert {entry["failure"] for entry in ENTRIES if entry["exit"]} == {
        "damaged",
        "no-identity",
        "refused-header",
        "refused-version",
    }


def test_vectors_are_reproducible(tmp_path):
    """All but the slots of public keys, which the library randomises."""
    out = make_vectors.Collection(tmp_path)
    make_vectors.good_objects(out)
    make_vectors.good_frame_run_limits(out)
    make_vectors.key_files(out)
    make_vectors.bad_objects(out)
    make_vectors.other_keys(out)
    make_vectors.signed_objects(out)
    assert out.entries == ENTRIES
    for path in (tmp_path / "objects").iterdir():
        new, old = path.read_bytes(), (VECTORS / "objects" / path.name).read_bytes()
        assert len(new) == len(old)
        try:
            obj = rescue.DcmxObject(io.BytesIO(new))
        except rescue.Failure:
            continue
        streams = 72 + 2 * obj.capacity
        assert new[:72] == old[:72]
        assert new[streams:] == old[streams:]
        kinds = {s[0] for slot in obj.slots for s in slot[1]}
        if obj.slots and not kinds - {5, 6, 7, 200}:
            assert new == old


def plaintext(case):
    recipe = case["plaintext"]
    if "period" in recipe:
        return bytes(i % recipe["period"] for i in range(case["size"]))
    return hashlib.shake_256(recipe["shake256"].encode()).digest(case["size"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_block_layer(case):
    plain, key = plaintext(case), bytes.fromhex(case["key"])
    if case["transformed"] is not None:
        data = bytes.fromhex(case["transformed"])
    else:
        methods = bytes.fromhex(case["methods"])
        named = {name: i for i, name in enumerate(make_vectors.METHOD_NAMES)}
        forced = None if case["method"] == "randomized" else named[case["method"]]
        data, chosen = make_vectors.transform(
            key, plain, case["runs"], forced, case["sample_bytes"]
        )
        assert chosen == methods
    assert hashlib.sha256(data).hexdigest() == case["sha256"]
    layer = rescue.BlockLayer(key)
    out = bytearray(data)
    units = rescue.read_runs(case["runs"], bytes.fromhex(case["methods"]), len(data))
    for number, (offset, length, *shape) in enumerate(units):
        end = offset + length
        out[offset:end] = layer.decrypt_unit(number, data[offset:end], *shape)
    assert bytes(out) == plain


def test_number_of_units_is_bounded():
    """No vector could be large enough for this one."""
    for runs in ([[0, 2**26 + 1, 1, 1, 1]], [[0, 2**62]]):
        with pytest.raises(rescue.Failure, match="too many units"):
            next(rescue.read_runs(runs, b"", 2**63))


# ---- Chunks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 32768, 50000])
def test_chunks_of_cryptography_open(size):
    key, context, plain = os.urandom(32), os.urandom(77), os.urandom(size)
    encryptor = Cobblestone256Encryptor(key, context)
    sealed = encryptor.update(plain) + encryptor.finalize()
    assert len(sealed) == 56 + size + 16 * (size // 16384 + 1)
    stream = rescue.Stream(io.BytesIO(b"before" + sealed + b"behind"), 6, len(sealed), key, context)
    assert stream.size == size
    assert stream.read(0, size) == plain
    stream.verify_end()
    for at, length in ((0, 1), (16380, 10), (16384, 1), (20000, 20000)):
        if at + length <= size:
            assert stream.read(at, length) == plain[at : at + length]


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 50000])
def test_cryptography_opens_chunks_of_the_encoder(size):
    writer = make_vectors.Writer("cobblestone", {})
    key, plain = os.urandom(32), os.urandom(size)
    sealed = writer.chunked(4, key, plain)
    decryptor = Cobblestone256Decryptor(key, rescue.label(b"stream", 4, writer.core))
    assert decryptor.update(sealed) + decryptor.finalize() == plain


def test_chunk_of_another_key_or_context():
    key = os.urandom(32)
    encryptor = Cobblestone256Encryptor(key, b"context")
    sealed = encryptor.update(b"text") + encryptor.finalize()
    for wrong in ((os.urandom(32), b"context"), (key, b"context2")):
        with pytest.raises(rescue.Failure, match="commitment"):
            rescue.Stream(io.BytesIO(sealed), 0, len(sealed), *wrong)


@pytest.mark.parametrize("length", [*range(72), 72 + 16384, 87 + 16384])
def test_impossible_stream_length(length):
    with pytest.raises(rescue.Failure, match="length"):
        rescue.Stream(io.BytesIO(bytes(length)), 0, length, bytes(32), b"")


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_hpke_of_cryptography_opens(name):
    person = make_vectors.PEOPLE[name]
    (identity,) = rescue.parse_identities(person.identity, "key")
    assert identity.public == person.public
    sealed = person.suite.encrypt(b"secret", person.sealing_key, info=b"info")
    enc, ciphertext = sealed[: identity.enc_size], sealed[identity.enc_size :]
    assert identity.open(enc, ciphertext, b"info") == b"secret"
    with pytest.raises(InvalidTag):
        identity.open(enc, ciphertext, b"other")


# ---- CBOR ------------------------------------------------------------------------------------

scalars = (
    st.integers(-(2**64), 2**64 - 1) | st.integers(-300, 300) | st.binary(max_size=300) | st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=15)
maps = st.dictionaries(st.integers(0, 2**64 - 1) | st.integers(0, 30), values, max_size=30)


@FAST
@given(maps)
def test_cbor_round_trip(value):
    raw = vector_bytes.cbor_encode(value)
    assert raw == cbor2.dumps(value, canonical=True)
    assert rescue.cbor_decode(raw) == value
    assert list(rescue.cbor_decode(raw)) == sorted(value)


def decodes_only_canonical(raw):
    try:
        value = rescue.cbor_decode(raw)
    except rescue.Failure:
        return
    assert vector_bytes.cbor_encode(value) == raw


@FAST
@given(st.binary(max_size=200))
def test_cbor_any_bytes(raw):
    decodes_only_canonical(raw)
    decodes_only_canonical(b"\xa1\x00" + raw)


@FAST
@given(maps, st.data())
def test_cbor_changed_bytes(value, data):
    raw = bytearray(vector_bytes.cbor_encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    decodes_only_canonical(bytes(raw))
    decodes_only_canonical(bytes(raw[:at]))


def test_cbor_depth_and_counts():
    for raw in (
        b"\xa1\x00" + b"\x81" * 100_000 + b"\x00",
        b"\xa1\x00\x9b" + b"\xff" * 8,
        b"\xbb" + b"\xff" * 8,
        b"\xa1\x00\x5b" + b"\xff" * 8,
        b"\xa1\x00\x1c",
        b"\xa1\x20\x00",
    ):
        with pytest.raises(rescue.Failure):
            rescue.cbor_decode(raw)


# ---- Damage anywhere -------------------------------------------------------------------------


def opened(data, keyring):
    obj = rescue.DcmxObject(io.BytesIO(data))
    obj.open(keyring)
    parts = []
    obj.write_streams(rescue.streams_wanted(obj, None), parts.append)
    return b"".join(parts)


def test_no_changed_byte_changes_the_file():
    """A changed byte is noticed, or lies in the slot that is not used."""
    writer = make_vectors.Writer("flips", make_vectors.native("flips", 5, 3), capacity=512)
    data = writer.to("alice").build()
    (identity,) = rescue.parse_identities(DOCUMENT["identities"]["alice"], "key")
    keyring = rescue.Keyring([identity])
    assert opened(data, keyring) == writer.original()
    unused = range(72 + 512, 72 + 1024)
    for at in range(len(data)):
        if at in unused and at % 50:
            continue
        changed = make_vectors.flip(data, at)
        if at in unused:
            assert opened(changed, keyring) == writer.original()
        else:
            with pytest.raises(rescue.Failure):
                opened(changed, keyring)
    for size in range(0, len(data), 7):
        with pytest.raises(rescue.Failure):
            opened(data[:size], keyring)
