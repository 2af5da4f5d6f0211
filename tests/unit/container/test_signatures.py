"""What a signature is worth against those who may read, and write, an object."""

import hashlib

import object_files as make
import pytest
import signers
from hypothesis import given, settings
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.container import signature
from dicomcrypt.container.reader import Container
from dicomcrypt.container.signature import MAX_CMS, PIECE, LeafSink
from dicomcrypt.container.streams import StreamSealer, put
from dicomcrypt.objects.buffers import GrowingSink, MemorySource
from dicomcrypt.objects.signing import unlock

ALICE, BOB, CAROL = (dc.X25519Identity.generate() for _ in range(3))
SIGNER, OTHER = signers.signer(), signers.signer("p384", "Dr. B")
SCOPES = {"tags_to": [BOB.recipient], "pixels_to": [CAROL.recipient]}
IMAGE = make.dicom(300, 400, make.noise(300 * 400 * 2 * 16), frames=16, bits=16)
PIXELS = 300 * 400 * 2


def sign(data, by=SIGNER, **options):
    return dc.encrypt(data, [ALICE.recipient], sign_with=by, **options)


SIGNED = sign(IMAGE, **SCOPES)
READERS = {"all": ALICE, "tags": BOB, "pixels": CAROL}
every_scope = pytest.mark.parametrize("part", READERS)


def keys_of(blob):
    return make.unlocked(blob, ALICE).keys


def sealed_of(blob):
    return unlock(Container(MemorySource(blob)), [ALICE]).sealed


def plain_of(blob):
    return sealed_of(blob).plain


def flip_frame_7(plain):
    at = 7 * PIXELS + 123450  # in the second piece of four
    return plain[:at] + bytes([plain[at] ^ 1]) + plain[at + 1 :]


# ---- content -------------------------------------------------------------------


def test_signed_objects_come_back_for_every_scope():
    assert dc.decrypt(SIGNED, [ALICE], require_signature=True) == IMAGE
    tags = dc.decrypt(SIGNED, [BOB], part="tags", signers=[SIGNER.certificate])
    pixels = dc.decrypt(SIGNED, [CAROL], part="pixels", signers=[SIGNER.public_key])
    assert len(tags) + len(pixels) == len(IMAGE)


def test_content_forged_under_the_same_stream_header_is_refused():
    forgery = signers.forged(SIGNED, 2, keys_of(SIGNED), flip_frame_7)
    assert len(forgery) == len(SIGNED)
    # Without the signature nothing tells it from the object that was sealed.
    unsigned = signers.stripped(forgery)
    assert dc.decrypt(unsigned, [ALICE]) != IMAGE
    for reader, part in ((ALICE, "all"), (ALICE, "pixels"), (CAROL, "pixels")):
        with pytest.raises(dc.DamagedError, match="not what was signed"):
            dc.decrypt(forgery, [reader], part=part)
    with dc.open(forgery, [ALICE]) as obj, dc.open(unsigned, [ALICE]) as plain:
        assert plain.frame_bytes(7) in dc.decrypt(unsigned, [ALICE])
        with pytest.raises(dc.DamagedError, match="not what was signed"):
            obj.frame_bytes(7)
        assert obj.frame_bytes(0) == plain.frame_bytes(0)  # in another piece
        assert obj.tags == plain.tags


def test_a_forged_piece_is_refused_even_if_only_its_other_bytes_are_read():
    forgery = signers.forged(SIGNED, 2, keys_of(SIGNED), flip_frame_7)
    with dc.open(forgery, [ALICE]) as obj:
        with pytest.raises(dc.DamagedError, match="not what was signed"):
            obj.frame_bytes(6)


def test_forged_tags_are_refused_by_the_reader_of_tags():
    forgery = signers.forged(SIGNED, 1, keys_of(SIGNED), lambda p: p[:200] + b"X" + p[201:])
    with pytest.raises(dc.DamagedError, match="not what was signed"):
        dc.decrypt(forgery, [BOB], part="tags")
    dc.decrypt(forgery, [CAROL], part="pixels")  # of which nothing was changed
    with dc.open(forgery, [ALICE]) as obj, pytest.raises(dc.DamagedError):
        _ = obj.tags


def test_a_stream_sealed_anew_under_another_header_is_refused():
    blob = sign(b"right")
    keys, (offset, length) = keys_of(blob), signers.trailer(blob).streams[4]
    sink = GrowingSink()
    sealer = StreamSealer(4, keys, sink)
    sealer.write(make.unlocked(signers.stripped(blob), ALICE).reader(4).whole())
    sealer.finish()
    with pytest.raises(dc.DamagedError, match="not what was signed"):
        dc.decrypt(blob[:offset] + sink.value() + blob[offset + length :], [ALICE])


# ---- the signatures --------------------------------------------------------------


def test_a_signature_that_was_taken_away_is_missed_where_one_is_required(tmp_path):
    blob = signers.stripped(SIGNED)
    assert dc.decrypt(blob, [ALICE]) == IMAGE
    path = tmp_path / "o.dcmx"
    path.write_bytes(blob)
    for demand in ({"require_signature": True}, {"signers": [SIGNER.certificate]}):
        with pytest.raises(dc.UnsignedError):
            dc.decrypt(blob, [ALICE], **demand)
        with pytest.raises(dc.UnsignedError):
            dc.decrypt_into(blob, bytearray(len(IMAGE)), [ALICE], **demand)
        with pytest.raises(dc.UnsignedError):
            dc.open(blob, [ALICE], **demand)
        with pytest.raises(dc.UnsignedError):
            dc.decrypt_file(path, tmp_path / "out", [ALICE], **demand)
    assert not (tmp_path / "out").exists()


@every_scope
def test_the_signatures_of_another_object_are_refused(part):
    twin = sign(IMAGE, **SCOPES)
    found = signers.trailer(twin).signatures
    moved = signers.with_signatures(SIGNED, twin[found[0] : sum(found)])
    with pytest.raises(dc.DamagedError):
        dc.decrypt(moved, [READERS[part]], part=part)


def test_a_signature_that_was_made_for_another_object_is_refused():
    other = sign(IMAGE)
    for plain in (
        plain_of(other),
        plain_of(SIGNED)[: -len(sealed_of(SIGNED).cms)] + sealed_of(other).cms,
    ):
        forgery = signers.with_signatures(SIGNED, signers.sealed_signatures(keys_of(SIGNED), plain))
        with pytest.raises(dc.DamagedError):
            dc.decrypt(forgery, [ALICE])


def test_another_signature_of_the_same_content_is_that_of_its_signer():
    sealed = sealed_of(SIGNED)
    plain = plain_of(SIGNED)[: -len(sealed.cms)] + OTHER.sign(sealed.manifest.data)
    blob = signers.with_signatures(SIGNED, signers.sealed_signatures(keys_of(SIGNED), plain))
    assert dc.decrypt(blob, [ALICE], require_signature=True) == IMAGE
    assert dc.decrypt(blob, [ALICE], signers=[SIGNER.public_key, OTHER.public_key]) == IMAGE
    with pytest.raises(dc.PolicyError, match="CN=Dr"):
        dc.decrypt(blob, [ALICE], signers=[SIGNER.certificate])
    with pytest.raises(dc.PolicyError):
        dc.open(blob, [ALICE], signers=[SIGNER.certificate])


@pytest.mark.parametrize("sid", [8, 9, 10])
def test_signatures_that_differ_between_the_scopes_are_refused(sid):
    sealed = sealed_of(SIGNED)
    fixed = plain_of(SIGNED)[: -len(sealed.cms)]
    second = b""
    while len(second) != len(sealed.cms):  # ECDSA signatures have different lengths
        second = SIGNER.sign(sealed.manifest.data)
    groups = [signers.sealed_signatures(keys_of(SIGNED), fixed + c) for c in (sealed.cms, second)]
    size = len(groups[0]) // 3
    mixed = b"".join(groups[n == sid][(n - 8) * size : (n - 7) * size] for n in (8, 9, 10))
    for group in groups:
        assert dc.decrypt(signers.with_signatures(SIGNED, group), [ALICE]) == IMAGE
    with pytest.raises(dc.DamagedError, match="differ"):
        dc.decrypt(signers.with_signatures(SIGNED, mixed), [ALICE])


@every_scope
def test_flipping_a_bit_of_the_signatures_is_damage(part):
    start, size = signers.trailer(SIGNED).signatures
    own = {"tags": 0, "pixels": 1}.get(part)
    blob = bytearray(SIGNED)
    for at in range(start, start + size, 13):
        blob[at] ^= 1 << at % 8
        if own is None or (at - start) * 3 // size == own:
            with pytest.raises(dc.DamagedError):
                dc.decrypt(blob, [READERS[part]], part=part)
        blob[at] ^= 1 << at % 8


@pytest.mark.parametrize("change", [-3, -1, 1, 3, -300, 3 * 16400])
def test_signatures_of_another_length_are_damage(change):
    start, size = signers.trailer(SIGNED).signatures
    group = SIGNED[start : start + size]
    group = group[:change] if change < 0 else group + bytes(change)
    with pytest.raises(dc.DamagedError):
        dc.decrypt(signers.with_signatures(SIGNED, group), [ALICE])


def test_the_length_of_a_signature_is_bounded_before_it_is_read():
    plain = plain_of(SIGNED)
    fixed = len(plain) - len(sealed_of(SIGNED).cms)
    for size, message in ((MAX_CMS + 1, "impossible length"), (MAX_CMS, "as it must be"),
                          (0, "impossible length")):
        made = signers.sealed_signatures(keys_of(SIGNED), plain[:fixed] + bytes(size))
        with pytest.raises(dc.DamagedError, match=message):
            dc.decrypt(signers.with_signatures(SIGNED, made), [ALICE])


def test_nothing_is_read_of_a_signed_object_before_its_signature_is_verified():
    opened = Container(MemorySource(SIGNED)).unlock([ALICE])
    for read in (lambda: opened.reader(1), lambda: opened.opener(2), lambda: opened.index(3),
                 opened.closing_index, lambda: opened.whole(1, bytearray())):
        with pytest.raises(dc.DamagedError, match="not verified"):
            read()


def test_unsigned_objects_have_no_trace_of_signatures():
    blob = dc.encrypt(IMAGE, [ALICE.recipient])
    found = signers.trailer(blob)
    assert found.signatures is None
    assert blob[-32:-16] == bytes(16)
    assert sum(n for _, n in found.streams.values()) + found.streams[1][0] + 96 == len(blob)


# ---- pieces ----------------------------------------------------------------------


@settings(database=None, deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 2 * PIECE), max_size=6))
def test_leaves_do_not_depend_on_how_a_stream_was_written(sizes):
    sink, data = GrowingSink(), b""
    leaves = LeafSink(sink)
    for n, size in enumerate(sizes):
        piece = bytes([n]) * size
        put(leaves, piece)
        data += piece
    assert sink.value() == data
    expected = [hashlib.sha256(data[at : at + PIECE]).digest() for at in range(0, len(data), PIECE)]
    assert leaves.leaves() == b"".join(expected)
    assert len(expected) == signature.leaf_count(len(data))


@pytest.mark.parametrize("size", [0, 1, 16384, PIECE - 1000, PIECE, 3 * PIECE + 5])
def test_objects_of_any_number_of_pieces_come_back(size):
    data = make.noise(size)
    blob = sign(data)
    assert dc.decrypt(blob, [ALICE], require_signature=True) == data
    with dc.open(blob, [ALICE]) as obj:
        for start, end in ((0, size), (size // 3, size // 2), (max(0, size - 10), size)):
            assert obj.read(4, start, end) == data[start:end]


def test_a_range_reads_the_pieces_that_hold_it():
    source = make.CountingSource(sign(make.dicom(512, 512, make.noise(512 * 512 * 20), frames=20)))
    with dc.open(source, [ALICE]) as obj:
        before = source.bytes_read
        obj.frame_bytes(10)
        assert source.bytes_read - before < 5 * PIECE
        before = source.bytes_read
        obj.frame_bytes(10)
        assert source.bytes_read == before  # the pieces are kept
