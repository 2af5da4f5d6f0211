"""What is measured is what the block layer makes, and what comes out is known."""

import object_files as make
import pytest

import dicomcrypt as dc
from dicomcrypt.analysis import study as protocol
from dicomcrypt.analysis import subject as subjects
from dicomcrypt.ciphers import transform_into
from dicomcrypt.container.layout import PIXELS
from dicomcrypt.errors import AlreadyEncryptedError, FrameError, UsageError
from dicomcrypt.objects.decoder import stream_runs

METHODS = ("aes-transposition", "vigenere", "multilevel", "randomized")
TABLE_KEY = "one bit of the block key, table half"


@pytest.fixture(scope="module")
def named(corpus):
    places = {path.name: path for path in corpus}
    return lambda name: places[name]


@pytest.fixture(scope="module")
def ct(named):
    return subjects.load(named("CT_small.dcm"))[0]


def by_name(result, by="byte"):
    return {row["measure"]: row for row in result["measures"] if row["by"] == by}


@pytest.mark.parametrize(("name", "shape", "sample", "big"), [
    ("CT_small.dcm", (1, 128, 128, 2), 2, False),
    ("MR_small_bigendian.dcm", (1, 64, 64, 2), 2, True),
    ("examples_rgb_color.dcm", (1, 240, 320, 3), 1, False),
    ("emri_small.dcm", (10, 64, 64, 2), 2, False),
    ("color-pl.dcm", (1, 360, 256, 1), 1, False),  # colour by plane: its planes, one below another
])  # fmt: skip
def test_native_frames_are_images(named, name, shape, sample, big):
    found, _ = subjects.load(named(name))
    assert (found.shape, found.sample, found.big_endian) == (shape, sample, big)
    assert len(found.data) == shape[0] * shape[1] * shape[2] * shape[3]
    assert found.what.startswith("native")


def test_samples_are_the_pixels_that_pydicom_reads(named):
    import pydicom

    for name in ("CT_small.dcm", "MR_small_bigendian.dcm", "examples_rgb_color.dcm"):
        found, _ = subjects.load(named(name))
        pixels = found.array(found.data, "sample", signed=True)[0]
        assert (pixels.squeeze() == pydicom.dcmread(named(name)).pixel_array).all()


def test_what_is_measured_is_what_an_object_holds(named, identity, ct):
    """The same bytes and runs, and under its key the same output."""
    blob = dc.encrypt(named("CT_small.dcm").read_bytes(), [identity.recipient])
    with dc.open(blob, [identity]) as obj:
        runs, _ = stream_runs(obj.container, PIXELS)
        assert [tuple(run) for run in runs] == ct.runs
        out = bytearray(len(ct.data))
        transform_into(out, ct.data, obj.container.keys.block_key(PIXELS), ct.runs,
                       sample_bytes=ct.sample)
        assert obj.container.reader(PIXELS).read(0, len(ct.data)) == out


def test_compressed_frames_are_byte_streams_or_decoded(named):
    stream, obj = subjects.load(named("MR_small_RLE.dcm"))
    assert stream.data == obj.frame_bytes(0)
    assert stream.shape == (1, 1, len(stream.data), 1)
    assert "compressed" in stream.what
    plain, _ = subjects.load(named("MR_small.dcm"))
    decoded, _ = subjects.load(named("MR_small_RLE.dcm"), decoded=True)
    assert (decoded.data, decoded.shape) == (plain.data, plain.shape)
    assert decoded.runs == plain.runs
    third, _ = subjects.load(named("examples_ybr_color.dcm"), frame=3)
    whole, obj = subjects.load(named("examples_ybr_color.dcm"))
    assert third.data == obj.frame_bytes(3)
    assert third.data.rstrip(b"\0") in whole.data


def test_one_frame_is_that_frame(named):
    _, obj = subjects.load(named("emri_small.dcm"))
    one, _ = subjects.load(named("emri_small.dcm"), frame=4)
    assert (one.data, one.shape, one.frame) == (obj.frame_bytes(4), (1, 64, 64, 2), 4)
    with pytest.raises(FrameError, match="no frame 10"):
        subjects.load(named("emri_small.dcm"), frame=10)


def test_other_files_are_measured_as_bytes(tmp_path, identity):
    path = tmp_path / "any"
    path.write_bytes(make.noise(1000))
    assert subjects.load(path)[0].data == make.noise(1000)
    path.write_bytes(make.dicom(0, 0, b""))
    assert "data elements" in subjects.load(path)[0].what
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="empty"):
        subjects.load(path)
    path.write_bytes(dc.encrypt(b"x", [identity.recipient]))
    with pytest.raises(AlreadyEncryptedError, match="decrypt it first"):
        subjects.load(path)


def test_sealing_alone_makes_noise(ct):
    """What the layer adds is not what protects."""
    result = protocol.study(ct, "none", of="sealed", protocol=protocol.Protocol(alpha=1e-6))
    assert all(row["inside"] for row in result["measures"])
    assert protocol.remarks([result], 1e-6)[0].startswith("none, sealed: 0 of 18")


@pytest.mark.parametrize("method", METHODS)
def test_noise_comes_out_and_one_bit_changes_one_byte(ct, method):
    result = protocol.study(ct, method, protocol=protocol.Protocol(alpha=1e-6, seed=4))
    for by in ("byte", "sample"):
        rows = by_name(result, by)
        outside = {name for name, row in rows.items() if not row["inside"]}
        assert outside == {f"{measure}, {what}" for measure in ("NPCR", "UACI")
                           for what in ("one bit of the image", TABLE_KEY)}
    rows = by_name(result)
    assert rows["NPCR, one bit of the image"]["value"] == 1 / len(ct.data)
    if method == "vigenere":
        assert rows[f"NPCR, {TABLE_KEY}"]["value"] == 0


def test_without_the_layer_everything_is_outside(ct):
    result = protocol.study(ct, "none")
    assert not any(row["inside"] for row in result["measures"])
    assert all(row["before"] in (None, row["value"]) for row in result["measures"])


def test_sealed_bytes_are_noise_in_every_measure(ct):
    result = protocol.study(ct, "randomized", of="sealed", protocol=protocol.Protocol(alpha=1e-6))
    assert len(result["measures"]) == 18
    assert all(row["inside"] for row in result["measures"])


def test_a_seed_gives_the_same_figures_again(ct):
    runs = [protocol.study(ct, "multilevel", protocol=protocol.Protocol(seed=s, trials=1))
            for s in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_few_samples_are_shown_and_not_judged(tmp_path):
    path = tmp_path / "small.dcm"
    path.write_bytes(make.dicom(20, 20, make.noise(800), bits=16))
    found, _ = subjects.load(path)
    rows = by_name(protocol.study(found, "vigenere"), "sample")
    assert rows["entropy"]["inside"] is rows["chi-square"]["inside"] is None
    assert rows["entropy"]["value"] > 8
    assert rows["correlation diagonal"]["samples"] == 19 * 19


def test_the_remarks_count_and_name_what_is_outside(ct):
    results = [protocol.study(ct, method, protocol=protocol.Protocol(alpha=1e-6))
               for method in ("vigenere", "none")]
    said = protocol.remarks(results, 1e-6)
    names = "NPCR, one bit of the image; UACI, one bit of the image; "
    assert said[0] == ("vigenere: 0 of 18 measures outside, 0.0 expected of ideal noise; outside "
                       f"by construction: {names}NPCR, {TABLE_KEY}; UACI, {TABLE_KEY}")
    assert said[1] == "none: the layer leaves the image as it is"
    assert any("rests on the sealing" in sentence for sentence in said)
    results[0]["measures"][0]["inside"] = False
    assert protocol.remarks(results, 0.01)[0].startswith(
        "vigenere: 1 of 18 measures outside (entropy), 0.2 expected")
