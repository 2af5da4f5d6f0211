"""`standard protect` and `reveal` on files and trees."""

import json
import os
import stat
import warnings

import pydicom
import pytest
from confidential import INSTANCE, file_of, holder, small


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates and keys by name, a password, and a tree of a study with other things in it."""
    folder = tmp_path_factory.mktemp("standard")
    for name, maker in (("doctor", holder()), ("other", holder("rsa-2048", 1)),
                        ("ec", holder("p256"))):
        (folder / f"{name}.pem").write_bytes(maker.pem())
        (folder / f"{name}.key").write_bytes(maker.key_pem())
        (folder / f"{name}.key").chmod(0o600)
    (folder / "secret").write_text("pa\u00dfword\n", encoding="utf-8")
    tree = folder / "tree" / "series"
    tree.mkdir(parents=True)
    for number in range(12):
        dataset = small(SOPInstanceUID=f"{INSTANCE}.{number}", StudyDescription="of Mustermann")
        dataset.PixelData, dataset["PixelData"].VR = bytes(100_000), "OW"
        (tree / f"{number}.dcm").write_bytes(file_of(dataset))
    (folder / "tree" / "notes.txt").write_text("Mustermann was here")
    return folder


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_file_and_back(files, call, tmp_path):
    source = files / "tree" / "series" / "0.dcm"
    done = call("standard", "protect", source, "-r", files / "doctor.pem", "-r", files / "ec.pem",
                "-o", tmp_path / "out.dcm")
    assert done.status == 0, done.err
    assert b"Mustermann" not in (tmp_path / "out.dcm").read_bytes()
    for name in ("doctor", "ec"):
        done = call("standard", "reveal", tmp_path / "out.dcm", "-i", files / f"{name}.key", "-o",
                    tmp_path / name)
        assert done.status == 0, done.err
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    assert call("standard", "reveal", tmp_path / "out.dcm", "-i", files / "other.key", "-o",
                tmp_path / "x").status == 3
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_tree_and_back(jobs, files, call, tmp_path):
    done = call("standard", "protect", files / "tree", "-r", files / "doctor.pem", "-o",
                tmp_path / "out", "-j", jobs, "--json")
    assert done.status == 0, done.err
    summary = json.loads(done.out)["summary"]
    assert (summary["done"], summary["skipped"], summary["failed"]) == (12, 1, 0)
    assert not (tmp_path / "out" / "notes.txt").exists()
    assert not (tmp_path / "out.uid-key").exists()
    studies = {pydicom.dcmread(p).StudyInstanceUID for p in (tmp_path / "out").rglob("*.dcm")}
    assert len(studies) == 1
    done = call("standard", "reveal", tmp_path / "out", "-i", files / "doctor.key", "-o",
                tmp_path / "back", "-j", jobs)
    assert done.status == 0, done.err
    for path in (files / "tree").rglob("*.dcm"):
        back = tmp_path / "back" / path.relative_to(files / "tree")
        assert back.read_bytes() == path.read_bytes()


def test_names_of_files_can_be_new_too(files, call, tmp_path):
    done = call("standard", "protect", files / "tree", "-r", files / "doctor.pem", "-o",
                tmp_path / "out", "--names", "uid", "-j", "1")
    assert done.status == 0, done.err
    (study,) = (tmp_path / "out").iterdir()
    made = sorted(study.iterdir())
    assert len(made) == 12
    assert {p.stem for p in made} == {str(pydicom.dcmread(p).SOPInstanceUID) for p in made}


def test_a_uid_key_makes_several_runs_agree(files, call, tmp_path):
    source = files / "tree" / "series" / "0.dcm"
    for name in "ab":
        assert call("standard", "protect", source, "-r", files / "doctor.pem", "--uid-key",
                    tmp_path / "uid.key", "-o", tmp_path / name).status == 0
    assert call("standard", "protect", source, "-r", files / "doctor.pem", "-o",
                tmp_path / "c").status == 0
    a, b, c = (pydicom.dcmread(tmp_path / name).SOPInstanceUID for name in "abc")
    assert a == b != c
    assert stat.S_IMODE(os.stat(tmp_path / "uid.key").st_mode) == 0o600


def test_a_job_that_failed_keeps_its_uid_key(files, call, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes((files / "tree/series/0.dcm").read_bytes())
    (tmp_path / "in" / "b.dcm").write_bytes((files / "tree/series/1.dcm").read_bytes()[:-1])
    words = ["standard", "protect", tmp_path / "in", "-r", files / "doctor.pem", "-o",
             tmp_path / "out", "-j", "1"]  # fmt: skip
    done = call(*words)
    assert done.status == 4
    assert "cut short" in done.err
    assert os.listdir(tmp_path / "out") == ["a.dcm"]
    assert (tmp_path / "out.uid-key").exists()
    (tmp_path / "in" / "b.dcm").write_bytes((files / "tree/series/1.dcm").read_bytes())
    done = call(*words)
    assert done.status == 0, done.err
    assert "1 done, 1 skipped" in done.err
    a, b = (pydicom.dcmread(tmp_path / "out" / f"{name}.dcm") for name in "ab")
    assert a.StudyInstanceUID == b.StudyInstanceUID
    assert not (tmp_path / "out.uid-key").exists()


def test_passwords(files, call, tmp_path):
    source = files / "tree" / "series" / "0.dcm"
    assert call("standard", "protect", source, "--passphrase-file", files / "secret", "-o",
                tmp_path / "out").status == 0
    done = call("standard", "reveal", tmp_path / "out", "--passphrase-file", files / "secret", "-o",
                tmp_path / "back")
    assert done.status == 0, done.err
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("words", "status", "says"), [
    ([], 2, "no recipient"),
    (["-r", "doctor.pem", "--passphrase-file", "missing"], 2, "cannot read"),
    (["-r", "doctor.key"], 2, "secret key"),
    (["-r", "doctor.pem", "--uid-key", "doctor.key"], 2, "no UID key"),
])  # fmt: skip
def test_wrong_usage(words, status, says, files, call, tmp_path):
    words = [files / word if (files / word).is_file() else word for word in words]
    done = call("standard", "protect", files / "tree/series/0.dcm", "-o", tmp_path / "x", *words)
    assert (done.status, (tmp_path / "x").exists()) == (status, False), done.err
    assert says in done.err


def test_nothing_is_overwritten(files, call, tmp_path):
    (tmp_path / "out").write_text("mine")
    words = ["standard", "protect", files / "tree/series/0.dcm", "-r", files / "doctor.pem", "-o",
             tmp_path / "out"]  # fmt: skip
    assert call(*words).status == 1
    assert (tmp_path / "out").read_text() == "mine"
    assert call(*words, "--force").status == 0


def test_what_is_none_of_it_is_refused_alone(files, call, tmp_path):
    done = call("standard", "protect", files / "tree/notes.txt", "-r", files / "doctor.pem", "-o",
                tmp_path / "out")
    assert (done.status, "not a DICOM file" in done.err) == (2, True)
    done = call("standard", "reveal", files / "tree/series/0.dcm", "-i", files / "doctor.key", "-o",
                tmp_path / "out")
    assert (done.status, "no encrypted attributes" in done.err) == (2, True)


def test_what_was_forged_is_damaged(files, call, tmp_path):
    source = files / "tree" / "series" / "0.dcm"
    assert call("standard", "protect", source, "-r", files / "doctor.pem", "-o",
                tmp_path / "out").status == 0
    data = bytearray((tmp_path / "out").read_bytes())
    sealed = pydicom.dcmread(tmp_path / "out").EncryptedAttributesSequence[0].EncryptedContent
    data[data.index(sealed) + len(sealed) - 20] ^= 1
    (tmp_path / "out").write_bytes(data)
    done = call("standard", "reveal", tmp_path / "out", "-i", files / "doctor.key", "-o",
                tmp_path / "back")
    assert (done.status, (tmp_path / "back").exists()) == (4, False), done.err


def test_recipients_are_judged(files, call, tmp_path):
    done = call("standard", "protect", files / "tree/series/0.dcm", "-r", files / "doctor.pem",
                "-o", tmp_path / "out", "--trust-root", files / "other.pem")
    assert done.status == 5, done.err
    assert not (tmp_path / "out").exists()
