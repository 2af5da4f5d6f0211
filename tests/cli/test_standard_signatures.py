"""Digital signatures in DICOM files (PS3.15 C): what they are of, and the commands."""

import io
import json

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from signed_files import changed, make_world, sign, unsigned, verify

from dicomcrypt.errors import DamagedError, NotMeantError, PolicyError, UsageError
from dicomcrypt.standard import layout, mac, signatures, signing
from dicomcrypt.standard.layout import read_file


@pytest.fixture(scope="module")
def world(tmp_path_factory, corpus):
    return make_world(tmp_path_factory.mktemp("signatures"), corpus)


# ---- what a signature is of --------------------------------------------------------


@pytest.mark.parametrize("who", ["rsa", "ec"])
@pytest.mark.parametrize("algorithm", ["SHA256", "SHA384", "SHA512"])
def test_what_is_signed_is_verified_and_nothing_else_changes(world, who, algorithm):
    for path in world.kinds:
        data = path.read_bytes()
        made = sign(world, data, who, profile="base", algorithm=algorithm)
        (found,) = verify(made).signatures
        assert found.made.algorithm.endswith(algorithm.lower())

        def without(dataset):
            del dataset[0x4FFE0001], dataset[0xFFFAFFFA]

        if path.name == "CT_small.dcm":
            assert changed(made, without) == changed(data, lambda _: None)


def test_everything_but_the_new_elements_stays_byte_for_byte(world):
    data = world.ct.read_bytes()
    made = sign(world, data)
    layout = read_file(io.BytesIO(made))
    kept = layout.head + b"".join(
        made[e.start : e.end] for e in layout.elements
        if e.tag not in (mac.MAC_PARAMETERS, mac.SIGNATURES))
    assert kept == data


def test_changes_additions_and_removals_are_noticed(world):
    made = sign(world, world.ct.read_bytes())

    def pixel(dataset):
        dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]

    with pytest.raises(DamagedError, match="was changed, or it was forged"):
        verify(changed(made, pixel))

    def removed(dataset):
        del dataset.Rows

    with pytest.raises(DamagedError, match="Rows was signed and is not there"):
        verify(changed(made, removed))

    def added(dataset):
        dataset.add_new(0x60000010, "US", 7)

    before = unsigned(made)
    assert [name for name in unsigned(changed(made, added)) if name not in before] == \
        ["(6000,0010) OverlayRows"]
    assert "(0010,0010) PatientName" in before  # which archives correct


def test_additions_beside_signatures_are_seen(world):
    made = sign(world, world.ct.read_bytes(), profile="base")

    def beside(dataset):
        dataset[0x4FFE0001][0].add_new(0x00100010, "PN", "Somebody")
        dataset[0xFFFAFFFA][0].add_new(0x04000305, "CS", "CMS_TSP")

    assert "MACParametersSequence...PatientName" in unsigned(changed(made, beside))
    report = next(p for p in world.kinds if p.name == "reportsi.dcm").read_bytes()

    def inside(dataset):
        item = Dataset()
        item.PatientName = "Somebody"
        dataset.ContentSequence[0].add_new(0xFFFAFFFA, "SQ", Sequence([item]))

    made = sign(world, report, profile="base")
    with pytest.raises(DamagedError, match="signature 1 in ContentSequence"):
        verify(changed(made, inside))


def test_values_too_long_for_explicit_vr_are_not_covered(world):
    implicit = next(p for p in world.kinds if p.name == "MR_small_implicit.dcm").read_bytes()

    def longer(dataset):
        dataset.ImageComments = "x" * 70_000

    made = sign(world, changed(implicit, longer), profile="base")
    assert "(0020,4000) ImageComments" in unsigned(made)


def test_what_only_looks_like_signatures_is_not_covered(world):
    def added(dataset):
        dataset.add_new(0xFFFAFFFA, "OB", b"anything")

    assert "(FFFA,FFFA) DigitalSignaturesSequence" in unsigned(
        changed(world.ct.read_bytes(), added))


def test_a_change_of_the_signature_s_own_item_is_noticed(world):
    made = sign(world, world.ct.read_bytes())

    def later(dataset):
        dataset[0xFFFAFFFA][0].DigitalSignatureDateTime = "20300101000000.000000+0000"

    with pytest.raises(DamagedError, match="does not fit"):
        verify(changed(made, later))

    def narrower(dataset):
        item = dataset[0x4FFE0001][0]
        item.DataElementsSigned = list(item.DataElementsSigned)[1:]

    with pytest.raises(DamagedError, match="does not fit"):
        verify(changed(made, narrower))

    def gone(dataset):
        del dataset[0x4FFE0001]

    with pytest.raises(DamagedError, match="MAC parameters are missing"):
        verify(changed(made, gone))


def test_single_elements_can_be_signed_and_some_never(world):
    made = sign(world, world.ct.read_bytes(), profile="base", tags=[0x7FE00010, 0x00080018])
    (found,) = verify(made).signatures
    assert found.signed == (0x00080018, 0x7FE00010)
    for tag in (0xFFFCFFFC, 0x00120062):
        with pytest.raises(UsageError):
            sign(world, world.ct.read_bytes(), tags=[tag])


def test_mac_parameters_of_no_signature_are_not_covered(world):
    """Anything could stand in them."""
    def another(dataset):
        item = Dataset()
        item.MACIDNumber, item.MACAlgorithm = 77, "Somebody"
        item.MACCalculationTransferSyntaxUID, item.DataElementsSigned = "1.2", [0x00100010]
        dataset[0x4FFE0001].value.append(item)

    made = sign(world, world.ct.read_bytes(), profile="base")
    assert "MACParametersSequence of no signature" in unsigned(changed(made, another))

    def words(dataset):
        dataset[0x4FFE0001][0].MACCalculationTransferSyntaxUID = "Somebody"

    with pytest.raises(DamagedError, match="cannot be signed in"):
        verify(changed(made, words))


def test_nothing_hides_behind_a_signature_or_in_reserved_bytes(world):
    for who in ("rsa", "ec"):
        def longer(dataset):
            dataset[0xFFFAFFFA][0].Signature += b"Somebody"

        with pytest.raises(DamagedError, match="does not fit"):
            verify(changed(sign(world, world.ct.read_bytes(), who), longer))
    at = world.small.rindex(b"OW\0\0") + 2
    with pytest.raises(DamagedError, match="reserved bytes"):
        verify(world.small[:at] + b"!" + world.small[at + 1 :])


def test_there_is_an_end_to_signatures_and_to_items(world, monkeypatch):
    """Each may be of all of the file, so that a small one could take hours."""
    def many(dataset):
        item = dataset[0xFFFAFFFA][0]
        dataset[0xFFFAFFFA].value = Sequence([item] * 257)

    with pytest.raises(DamagedError, match="over 256 signatures"):
        verify(changed(world.small, many))
    head = read_file(io.BytesIO(world.small)).head
    monkeypatch.setattr(layout, "MAX_ELEMENTS", 1000)
    items = bytes.fromhex("feff00e0 00000000") * 1001
    with pytest.raises(DamagedError, match="too many"):
        verify(head + bytes.fromhex("08001111 5351 0000") + len(items).to_bytes(4, "little")
               + items)


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_flipped_bit_of_what_is_signed_goes_unnoticed(world, at, bit):
    """Outside of file meta information and padding, which nothing can sign."""
    made = bytearray(world.small)
    layout = read_file(io.BytesIO(world.small))
    covered = [e for e in layout.elements if e.tag in world.small_signed]
    places = [i for e in covered for i in range(e.start, e.end)]
    made[places[int(at * len(places))]] ^= 1 << bit
    with pytest.raises((DamagedError, PolicyError)):
        verify(bytes(made))


@pytest.fixture(autouse=True, scope="module")
def small(world):
    """A signed file of few bytes."""
    dataset = pydicom.dcmread(world.ct)
    dataset.PixelData = dataset.PixelData[:64]
    dataset.Rows, dataset.Columns = 4, 8
    out = io.BytesIO()
    dataset.save_as(out)
    world.small = sign(world, out.getvalue(), profile="base")
    world.small_signed = set(verify(world.small).signatures[0].signed)


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cut_files_are_damaged(world, cut):
    short = world.small[: int(cut * len(world.small))]
    try:
        found = verify(short)
    except (DamagedError, NotMeantError):
        return
    assert found.signatures == []  # cut between two elements, in front of the signature


def test_a_file_takes_little_memory_beside_its_headers(world, tmp_path):
    import tracemalloc

    dataset = pydicom.dcmread(world.ct)
    dataset.PixelData = bytes(24 << 20)
    dataset.save_as(tmp_path / "big.dcm")
    tracemalloc.start()
    with open(tmp_path / "big.dcm", "rb") as source, open(tmp_path / "s.dcm", "w+b") as target:
        signing.sign(source, target, world.signer["ec"])
        assert len(signatures.verify(target).signatures) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


# ---- the commands -----------------------------------------------------------------


@pytest.fixture
def signed(world, call, tmp_path):
    done = call("standard", "sign", world.ct, "--sign-with", world.file("ec.pem"), "-o",
                tmp_path / "signed.dcm")
    assert done.status == 0, done.err
    return tmp_path / "signed.dcm"


def test_verify_shows_signer_and_what_is_not_covered(world, call, signed):
    done = call("standard", "verify", signed, "--trust-root", world.file("root.pem"))
    assert done.status == 0
    assert "signature by CN=Doctor" in done.err
    assert "signer checked" in done.err
    assert "elements of patient, study and order" in done.err
    assert "not covered: (FFFC,FFFC) DataSetTrailingPadding" in done.err
    (row,) = json.loads(call("standard", "verify", signed, "--json").out)["files"]
    assert row["signatures"][0]["elements"] > 200
    assert "(0010,0010) PatientName" in row["not_covered"]


@pytest.mark.parametrize(("options", "status"), [
    ((), 0), (("--require-signature",), 0), (("--require-all",), 4),
    (("--signer", "ec.crt"), 0), (("--signer", "other.crt"), 5),
    (("--trust-root", "root.pem"), 0), (("--trust-root", "other.crt"), 5),
])  # fmt: skip
def test_what_is_demanded_of_a_signature(world, call, signed, options, status):
    options = [world.file(word) if "." in word else word for word in options]
    assert call("standard", "verify", signed, *options).status == status


def test_a_missing_signature_is_a_failure_where_one_is_required(world, call):
    assert call("standard", "verify", world.ct).status == 0
    done = call("standard", "verify", world.ct, "--require-signature")
    assert done.status == 4
    assert "not signed" in done.err


def test_a_stranger_s_signature_covers_nothing(world, call, signed, tmp_path):
    """Who adds something and signs it does not hide it from who trusts somebody else."""
    def added(dataset):
        dataset.add_new(0x60000010, "US", 7)

    forged = changed(signed.read_bytes(), added)
    (tmp_path / "twice.dcm").write_bytes(sign(world, forged, "other", profile="base"))
    done = call("standard", "verify", tmp_path / "twice.dcm", "--trust-root",
                world.file("root.pem"), "--json")
    (row,) = json.loads(done.out)["files"]
    assert "(6000,0010) OverlayRows" in row["not_covered"]
    assert row["signatures"][1]["trust"].startswith("refused")


def test_nothing_is_overwritten_and_nothing_half_made_is_left(world, call, signed, tmp_path):
    again = ["standard", "sign", world.ct, "--sign-with", world.file("ec.pem"), "-o"]
    assert call(*again, signed).status == 1
    (tmp_path / "text").write_text("no DICOM")
    assert call("standard", "sign", tmp_path / "text", *again[3:], tmp_path / "no.dcm").status == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["signed.dcm", "text"]
    assert call("standard", "sign", world.ct, "-o", tmp_path / "x").status == 2
    assert call(*again, tmp_path / "x", "--tag", "NoSuchElement").status == 2
