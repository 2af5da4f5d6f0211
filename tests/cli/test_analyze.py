"""`analyze` and `inspect --plot` at the command line, and what the documentation shows of them."""

import json
import pathlib
import re
import shutil
import struct
import sys

import object_files as make
import pytest

import dicomcrypt as dc

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def named(corpus):
    places = {path.name: path for path in corpus}
    return lambda name: places[name]


@pytest.fixture
def sealed(tmp_path, named, doctor):
    """Encrypt a file of the corpus; return the object's path."""

    def encrypt(name, **options):
        target = tmp_path / f"{name}.dcmx"
        dc.encrypt_file(named(name), target, [doctor.recipient], **options)
        return target

    return encrypt


def png_size(path):
    """Width and height of a PNG (its IHDR comes first)."""
    start = path.read_bytes()[:24]
    assert start[:8] == b"\x89PNG\r\n\x1a\n"
    assert start[12:16] == b"IHDR"
    return struct.unpack(">II", start[16:24])


@pytest.fixture
def figures(need_module):
    need_module("matplotlib", "plot")


@pytest.fixture
def no_matplotlib(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


# ---- analyze ------------------------------------------------------------------


def test_json_holds_protocol_bands_and_verdicts(call, dicom):
    done = call("analyze", dicom, "--json", "--trials", "3", "--alpha", "0.05", "--seed", "9")
    assert (done.status, done.err) == (0, "")
    facts = json.loads(done.out)
    assert facts["protocol"]["significance_level"] == 0.05
    assert (facts["protocol"]["trials"], facts["protocol"]["seed"]) == (3, 9)
    assert facts["measured"].startswith("native pixel data, 1 frame of 128 rows")
    (result,) = facts["results"]
    assert (result["method"], result["of"], result["frame"]) == ("randomized", "layer", None)
    for row in result["measures"]:
        assert row["inside"] == (row["low"] <= row["value"] <= row["high"])
        assert row["low"] <= row["expected"] <= row["high"]
    npcr = [row for row in result["measures"] if row["measure"].startswith("NPCR")]
    assert {row["samples"] for row in npcr} == {3 * 32768, 3 * 16384}
    assert call("analyze", dicom, "--json", "--trials", "3", "--alpha", "0.05", "--seed",
                "9").out == done.out


def test_the_table_says_which_measures_are_outside_and_why(call, dicom):
    done = call("analyze", dicom, "--seed", "1")
    assert done.status == 0
    rows = {line[:51].strip(): line for line in done.out.splitlines()}
    assert "OUTSIDE" in next(line for name, line in rows.items()
                             if name.startswith("NPCR, one bit of the image"))
    assert "outside by construction: NPCR, one bit of the image; UACI" in done.out
    assert "rests on the sealing" in done.out


def test_all_methods_stand_beside_each_other(call, dicom):
    done = call("analyze", dicom, "--method", "all", "--trials", "1", "--seed", "1")
    heads = done.out.splitlines()[1].split()
    assert heads == ["measure", "by", "band", "randomized", "aes-transposition", "vigenere",
                     "multilevel", "none"]
    assert "none: the layer leaves the image as it is" in done.out
    results = json.loads(call("analyze", dicom, "--method", "all", "--trials", "1", "--json").out)
    assert [r["method"] for r in results["results"]] == heads[3:]


def test_every_frame_alone(call, named):
    done = call("analyze", named("emri_small.dcm"), "--per-frame", "--trials", "1", "--json")
    assert [r["frame"] for r in json.loads(done.out)["results"]] == list(range(10))
    done = call("analyze", named("emri_small.dcm"), "--per-frame", "--trials", "1")
    assert [line.split()[0] for line in done.out.splitlines()[1:12]] == [
        "frame", *map(str, range(10))]


def test_a_byte_stream_and_sealed_bytes_say_what_they_are(call, named, dicom):
    done = call("analyze", named("examples_ybr_color.dcm"), "-n", "3", "--trials", "1")
    assert "byte stream of a compressed frame" in done.out
    assert "vertical" not in done.out
    done = call("analyze", dicom, "--of", "sealed", "--trials", "1")
    assert ": sealed, native pixel data" in done.out
    assert "each sealing draws a fresh salt" in done.out
    assert "block key" not in done.out


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(("words", "message", "status"), [
    (["-n", "1"], "there is no frame 1", 1),
    (["-n", "0", "--per-frame"], "give one of them", 2),
    (["--plot", "x.pdf"], "must end in .png", 2),
    (["--plot", "/nowhere/x.png"], "there is no folder '/nowhere': make it first", 1),
])
def test_what_cannot_be_done_is_said(call, dicom, words, message, status):
    done = call("analyze", dicom, *words)
    assert (done.status, done.out) == (status, "")
    assert message in done.err


def test_streams_have_no_frames_to_measure_alone(call, named):
    done = call("analyze", named("MR_small_RLE.dcm"), "--per-frame")
    assert done.status == 2
    assert "give --decoded" in done.err


def test_an_object_is_not_a_file_to_measure(call, sealed):
    done = call("analyze", sealed("CT_small.dcm"))
    assert done.status == 2
    assert "decrypt it first" in done.err


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(("name", "of"), [
    ("CT_small.dcm", "layer"), ("examples_rgb_color.dcm", "sealed"), ("MR_small_RLE.dcm", "layer"),
])  # fmt: skip
def test_the_figure_is_a_png_of_its_size(call, named, tmp_path, name, of):
    words = ["analyze", named(name), "--plot", tmp_path / "x.png", "--trials", "1", "--of", of]
    done = call(*words)
    assert (done.status, done.err) == (0, "")
    assert png_size(tmp_path / "x.png") == (1200, 720)


@pytest.mark.usefixtures("figures")
def test_a_figure_is_overwritten_with_force_only(call, dicom, tmp_path):
    target = tmp_path / "x.png"
    target.write_bytes(b"kept")
    words = ["analyze", dicom, "--plot", target, "--trials", "1"]
    assert call(*words).status == 1
    assert target.read_bytes() == b"kept"
    assert call(*words, "-f").status == 0
    assert png_size(target) == (1200, 720)


@pytest.mark.usefixtures("figures")
def test_a_file_without_pictures_has_a_figure_of_its_bytes(call, tmp_path):
    (tmp_path / "any").write_bytes(make.noise(3))
    assert call("analyze", tmp_path / "any", "--plot", tmp_path / "x.png").status == 0
    assert png_size(tmp_path / "x.png") == (1200, 720)


def test_without_matplotlib_the_extra_is_named_and_tables_work(
    call, dicom, tmp_path, no_matplotlib, sealed, keys
):
    target = tmp_path / "x.png"
    for words in (["analyze", dicom, "--plot", target],
                  ["inspect", sealed("CT_small.dcm"), "-i", keys / "doctor.key", "--plot", target]):
        done = call(*words)
        assert (done.status, done.out) == (2, "")
        assert "pip install 'dicomcrypt[plot]'" in done.err
        assert not target.exists()
    assert call("analyze", dicom, "--trials", "1").status == 0


def test_a_file_that_cannot_be_followed_is_called_what_it_is(call, tmp_path, named):
    whole = named("examples_ybr_color.dcm").read_bytes()
    no_items = make.element(0x00081140, b"SQ", b"no item, surely.", make.UNDEFINED)
    lost = make.dicom(20, 20, bytes(400), before=no_items)
    for data, what in (
        (whole[:3000], "a DICOM file that ends within its tags"),
        (whole[:300], "a DICOM file that ends within its tags"),
        (lost, "a DICOM file whose tags cannot be followed"),
        (named("image_dfl.dcm").read_bytes(), "a deflated DICOM file"),
        (b"some text" * 40, "a file that is not DICOM"),
    ):
        (tmp_path / "file").write_bytes(data)
        done = call("analyze", tmp_path / "file", "--trials", "1", "--json")
        assert (done.status, done.err) == (0, "")
        assert json.loads(done.out)["measured"] == f"bytes of {what}"


# ---- inspect --plot ------------------------------------------------------------


@pytest.mark.usefixtures("figures")
def test_the_map_is_what_the_first_pixels_choose(call, keys, tmp_path, sealed, named):
    """Computed anew from the decoded image: the first pixel of each quarter, modulo 3."""
    import pydicom

    names = ("aes-transposition", "vigenere", "multilevel")
    for name, number in (("CT_small.dcm", 0), ("emri_small.dcm", 7)):
        target = tmp_path / f"{name}.png"
        done = call("inspect", sealed(name), "-i", keys / "doctor.key", "--plot", target,
                    "-n", str(number), "--json")
        assert (done.status, done.err) == (0, "")
        drawn = json.loads(done.out)["opened"]["plot"]
        pixels = pydicom.dcmread(named(name)).pixel_array
        pixels = (pixels if pixels.ndim == 3 else pixels[None])[number].astype("<u2")
        rows, columns = (side // 2 for side in pixels.shape)
        firsts = [pixels[y, x] for y in (0, rows) for x in (0, columns)]
        assert drawn["blocks"] == [names[int(first) % 3] for first in firsts]
        assert drawn["frame"] == number
        assert png_size(target) == (800, 600)


@pytest.mark.usefixtures("figures")
def test_colour_by_plane_and_bits_have_maps_too(call, keys, tmp_path, sealed):
    for name in ("color-pl.dcm", "examples_rgb_color.dcm", "liver_1frame.dcm"):
        target = tmp_path / f"{name}.png"
        done = call("inspect", sealed(name), "-i", keys / "doctor.key", "--plot", target)
        assert (done.status, done.err) == (0, "")
        assert png_size(target) == (800, 600)


@pytest.mark.usefixtures("figures")
def test_of_compressed_frames_the_byte_stream_is_mapped(call, keys, tmp_path, sealed):
    path = sealed("examples_ybr_color.dcm")
    done = call("inspect", path, "-i", keys / "doctor.key", "--plot", tmp_path / "m.png", "-n", "3",
                "--json")
    opened = json.loads(done.out)["opened"]
    (unit,) = opened["plot"]["units"]
    names = ("aes-transposition", "vigenere", "multilevel")
    assert unit["blocks"] == [names[n] for n in opened["methods"]["pixels"]["map"][3]]
    assert png_size(tmp_path / "m.png") == (800, 600)


@pytest.mark.usefixtures("figures")
def test_a_map_of_nothing_is_refused(call, keys, tmp_path, sealed):
    key, target = keys / "doctor.key", tmp_path / "x.png"
    plain = sealed("CT_small.dcm", method="none")
    done = call("inspect", plain, "-i", key, "--plot", target)
    assert (done.status, done.out) == (1, "")
    assert "method none" in done.err
    path = sealed("emri_small.dcm")
    for words, message, status in (
        (["-i", key, "--plot", target, "-n", "10"], "there is no frame 10", 1),
        (["-i", key, "-n", "1"], "--plot only", 2),
        (["--plot", target], "needs an identity", 2),
        (["-i", key, "--plot", tmp_path / "x.jpg"], "must end in .png", 2),
    ):
        done = call("inspect", path, *words)
        assert (done.status, done.out) == (status, "")
        assert message in done.err
    assert not target.exists()


# ---- values that the standard does not allow -------------------------------------


def odd(photometric):
    """A file whose elements hold what their VRs do not allow."""
    values = ((0x00080018, b"UI", "1.2.Hans"), (0x00100030, b"DA", "Hans2020"),
              (0x00281050, b"DS", "Hans"), (0x00281051, b"DS", "12"))
    before = b"".join(make.text(*value) for value in values)
    return make.dicom(16, 16, make.noise(256), photometric=photometric, before=before)


@pytest.mark.usefixtures("figures")
def test_nothing_of_the_values_of_odd_files_is_on_standard_error(command, keys, doctor, tmp_path):
    for name, photometric in (("odd", "hans-s"), ("odd2", "MONOCHROME2")):
        (tmp_path / f"{name}.dcm").write_bytes(odd(photometric))
        dc.encrypt_file(tmp_path / f"{name}.dcm", tmp_path / f"{name}.dcmx", [doctor.recipient])
    environment = {**command.environment(), "PYTHONWARNINGS": "error::UserWarning"}
    key = ("-i", keys / "doctor.key")
    said = ("dicomcrypt: frame 0 (Explicit VR Little Endian) cannot be decoded: "
            "PhotometricInterpretation is of a kind that cannot be shown\n")
    for words, status, message in (
        (["analyze", "odd.dcm", "--trials", "1", "--plot", "a.png"], 0, ""),
        (["analyze", "odd.dcm", "--trials", "1", "--decoded"], 1, said),
        (["frame", "odd.dcmx", *key, "-o", "c.png"], 1, said),
        (["inspect", "odd2.dcmx", *key, "--tags", "--plot", "d.png"], 0, ""),
    ):
        done = command(*words, cwd=tmp_path, env=environment)
        assert (done.returncode, done.stderr.decode()) == (status, message), words


def test_an_unknown_transfer_syntax_is_not_quoted(doctor):
    frames = make.encapsulated([b"no frame", b"at all.."])
    blob = dc.encrypt(make.dicom(2, 2, frames, frames=2, syntax=b"1.2.Hans"), [doctor.recipient])
    with dc.open(blob, [doctor]) as obj, pytest.warns(UserWarning, match="Hans"), pytest.raises(
        dc.FrameError, match=r"^frame 1 cannot be decoded: its TransferSyntaxUID is none"
    ):
        obj.frame_array(1)


def test_infinite_pixels_are_shown_without_a_warning(doctor):
    import numpy as np

    from dicomcrypt.objects.frames import as_picture

    data = make.dicom(2, 2, b"", bits=64, behind=b"")
    start = data[: -len(make.element(0x7FE00010, b"OW", b""))]
    pixels = make.element(0x7FE00009, b"OD", np.array([np.inf, 1, np.nan, -np.inf]).tobytes())
    with dc.open(dc.encrypt(start + pixels, [doctor.recipient]), [doctor]) as obj:
        shown = as_picture(obj.frame_array(0), obj)
    assert shown.tolist() == [[255, 0], [0, 0]]


# ---- documentation --------------------------------------------------------------


@pytest.mark.usefixtures("figures")
def test_the_readme_s_pictures_come_from_the_commands_beside_them(
    call, named, tmp_path, monkeypatch, keys
):
    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"`dicomcrypt ((?:inspect|analyze) .*--plot .*)`:", text)
    assert len(lines) == 2
    shutil.copy(named("examples_overlay.dcm"), tmp_path)
    shutil.copy(keys / "doctor.key", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call("encrypt", "examples_overlay.dcm", "-r", keys / "doctor.pub").status == 0
    for line in lines:
        words = line.split()
        assert call(*words).status == 0
        picture = pathlib.Path("docs/images", words[-1])
        assert png_size(tmp_path / words[-1]) == png_size(ROOT / picture)
        assert (ROOT / picture).stat().st_size < 200_000
        assert str(picture) in text.split(line)[1].split("\n\n")[1]
