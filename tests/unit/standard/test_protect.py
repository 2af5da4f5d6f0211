"""Attribute confidentiality: what was protected says nothing, and comes back as it was."""

import contextlib
import pathlib
import struct
import warnings

import pydicom
import pytest
from confidential import (
    INSTANCE,
    UIDS,
    changed,
    file_of,
    holder,
    opening,
    protect_to,
    protector,
    reveal_to,
    small,
    sound_files,
    telling,
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomcrypt.errors import (
    DamagedError,
    NoIdentityError,
    NotMeantError,
    PolicyError,
    UsageError,
)
from dicomcrypt.standard import cms_envelope as cms
from dicomcrypt.standard import dicomfile
from dicomcrypt.standard.dicomfile import DicomFile
from dicomcrypt.standard.profile import Profile
from dicomcrypt.standard.reveal import reveal

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian]  # fmt: skip
#: What is broken in the corpus, or is meant otherwise: refused, and why.
REFUSED = {
    "SC_rgb_jpeg.dcm": DamagedError,  # implicit VR under the name of explicit VR
    "rtplan_truncated.dcm": DamagedError, "MR_truncated.dcm": DamagedError,
    "meta_missing_tsyntax.dcm": DamagedError,
    "emri_small_jpeg_2k_lossless_too_short.dcm": DamagedError,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_sound_file_comes_back_byte_for_byte(corpus, tmp_path):
    shared, back = tmp_path / "shared", tmp_path / "back"
    done, refused = 0, {}
    for path in sound_files(corpus):
        name = pathlib.Path(path).name
        try:
            protect_to(path, shared)
        except (DamagedError, NotMeantError) as error:
            refused[name] = type(error)
            continue
        reveal_to(shared, back)
        original, revealed = pathlib.Path(path).read_bytes(), back.read_bytes()
        if name == "image_dfl.dcm":  # deflated again: other bytes of the same data set
            with DicomFile(path) as one, DicomFile(back) as other:
                assert one.head == other.head
        else:
            assert revealed == original, name
        done += 1
    assert done > 230
    directories = {name for name in refused if name.startswith("DICOMDIR")}
    assert {n: k for n, k in refused.items() if n not in directories and not issubclass(
        k, REFUSED.get(n, ()))} == {}


def texts_of(dataset, tags=None):
    """Values of a data set at every depth, as (tag, bytes)."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from texts_of(item)
        elif isinstance(element.value, pydicom.multival.MultiValue):
            yield from ((element.tag, str(v).encode("utf-8", "replace")) for v in element.value)
        elif isinstance(element.value, bytes):
            yield element.tag, element.value[:64]
        else:
            yield element.tag, str(element.value).encode("utf-8", "replace")


def test_no_identifying_value_of_a_real_file_is_in_the_protected_one(corpus, tmp_path):
    """Names, numbers, institutions, UIDs and private values, wherever they stood."""
    shared, looked = tmp_path / "shared", 0
    for path in sound_files(corpus)[::2]:
        try:
            protect_to(path, shared)
            original = pydicom.dcmread(path, stop_before_pixels=True)
            values = list(texts_of(original))
        except Exception:  # noqa: S112 - what pydicom cannot read, or what is refused
            continue
        with DicomFile(shared) as file:
            # Ciphertext may hold anything, and pixels are not what this is about.
            sealed = next(e for e in file.before if e.tag == 0x04000500)
            clear = file.head[: sealed.begin] + file.head[sealed.end :] + file.tail
        profile = Profile()
        kept = b"|".join(v for t, v in values if profile.action(t) in ("", "K"))
        for tag, value in values:
            value = value.strip(b"\0 ")
            identifying = tag.is_private or tag.group == 0x0010 or tag in (
                0x00080018, 0x0020000D, 0x0020000E, 0x00080050, 0x00080080, 0x00080090, 0x00081155,
                0x00200052)  # fmt: skip
            if value.startswith(b"1.2.840.10008."):
                continue  # the standard's own, which some color palettes have
            if identifying and len(value) >= 6 and value not in kept and value.strip(b"\0 0"):
                assert value not in clear, (path, tag)
                looked += 1
    assert looked > 1000


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_nothing_that_identifies_is_left_anywhere(syntax, tmp_path):
    dataset, values = telling()
    data = file_of(
        dataset, syntax, preamble=b"SECRETPREAMBLE".ljust(128, b"."),
        SourceApplicationEntityTitle="SECRETSOURCEAE", SendingApplicationEntityTitle="SECRETSENDER",
        PrivateInformationCreatorUID="1.2.826.0.1.777.88888",
        PrivateInformation=b"SECRETPRIVATE!",
    )  # fmt: skip
    values += [b"SECRET", b"secret", b"1.2.826.0.1.777", b"1.2.826.0.1.99"]
    (tmp_path / "in").write_bytes(data)
    protect_to(tmp_path / "in", tmp_path / "out")
    with DicomFile(tmp_path / "out") as file:
        shown = file.head
    assert [v for v in values if v in shown or v in (tmp_path / "out").read_bytes()] == []
    reveal_to(tmp_path / "out", tmp_path / "back")
    with DicomFile(tmp_path / "in") as one, DicomFile(tmp_path / "back") as other:
        assert one.head == other.head


def test_a_name_in_an_element_that_the_profile_leaves_alone_goes_too(tmp_path):
    dataset = small(ContrastBolusVolume="1", BodyPartExamined="CHEST")
    dataset.add_new(0x00181210, "SH", "for Mustermann")  # Convolution Kernel
    (tmp_path / "in").write_bytes(file_of(dataset))
    protect_to(tmp_path / "in", tmp_path / "out")
    assert b"Mustermann" not in (tmp_path / "out").read_bytes()
    reveal_to(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "in").read_bytes()


def test_empty_values_identify_nobody(tmp_path):
    dataset = small(PatientName="", PatientID="", PatientBirthDate="", BodyPartExamined="CHEST")
    (tmp_path / "in").write_bytes(file_of(dataset))
    protect_to(tmp_path / "in", tmp_path / "out")
    assert pydicom.dcmread(tmp_path / "out").BodyPartExamined == "CHEST"


def test_zero_bytes_behind_the_data_set_come_back(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small(), behind=bytes(10)))
    protect_to(tmp_path / "in", tmp_path / "out")
    reveal_to(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "in").read_bytes()


@pytest.mark.parametrize("behind", [b"SECRET-TRAILER..", b"x", b"\0\0\0\0\0\0\0\0secret"])
def test_other_bytes_behind_the_data_set_are_refused(behind, tmp_path):
    (tmp_path / "in").write_bytes(file_of(small(), behind=behind))
    with pytest.raises(DamagedError):
        protect_to(tmp_path / "in", tmp_path / "out")


def test_references_still_fit_over_a_study(tmp_path):
    """New UIDs are the same in data sets, nested references, file meta and other files."""
    first = small()
    second = small(SOPInstanceUID=INSTANCE + ".2")
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = first.SOPClassUID, INSTANCE
    second.ReferencedStudySequence = [item]
    for name, dataset in (("a", first), ("b", second)):
        (tmp_path / name).write_bytes(file_of(dataset))
        protect_to(tmp_path / name, tmp_path / f"{name}.out")
    a, b = (pydicom.dcmread(tmp_path / f"{name}.out") for name in "ab")
    new = UIDS.new(INSTANCE.encode()).rstrip(b"\0").decode()
    assert a.SOPInstanceUID == a.file_meta.MediaStorageSOPInstanceUID == new
    assert a.StudyInstanceUID == b.StudyInstanceUID != first.StudyInstanceUID
    assert a.PatientID == b.PatientID
    assert a.SOPClassUID == first.SOPClassUID
    assert new.startswith("2.25.")
    assert len(new) <= 64


def test_marks_name_the_profile_and_its_options(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small(StudyDate="20200102")))
    protect_to(tmp_path / "in", tmp_path / "out", retain=["dates", "devices"],
               clean=["descriptors"])
    made = pydicom.dcmread(tmp_path / "out")
    assert made.PatientIdentityRemoved == "YES"
    assert made.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert made.StudyDate == "20200102"
    codes = {c.CodeValue: c.CodingSchemeDesignator for c in
             made.DeidentificationMethodCodeSequence}
    assert codes == dict.fromkeys(("113100", "113106", "113109", "113105"), "DCM")


def test_retained_uids_stay(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small()))
    protect_to(tmp_path / "in", tmp_path / "out", retain=["uids"])
    made = pydicom.dcmread(tmp_path / "out")
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID == INSTANCE


def test_cleaned_descriptions_keep_words_of_the_vocabulary_alone(tmp_path):
    text = "Chest Mustermann 4711 left lung, Dr. Xyzzyq, bone OF HEAD"
    dataset = small(StudyDescription=text, ReferringPhysicianName="Bone^Head")
    (tmp_path / "in").write_bytes(file_of(dataset))
    protect_to(tmp_path / "in", tmp_path / "out", clean=["descriptors"])
    assert pydicom.dcmread(tmp_path / "out").StudyDescription == "Chest left lung"


def test_texts_keep_their_character_set(tmp_path):
    dataset = small(SpecificCharacterSet=["", "ISO 2022 IR 87"])
    dataset.PatientName = "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"
    (tmp_path / "in").write_bytes(file_of(dataset))
    protect_to(tmp_path / "in", tmp_path / "out")
    plain = inner(tmp_path / "out")
    assert plain.SpecificCharacterSet == ["", "ISO 2022 IR 87"]
    assert plain.PatientName == dataset.PatientName
    reveal_to(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "in").read_bytes()


def inner(path, number=0):
    """The modified attributes of an item, as pydicom reads them."""
    made = pydicom.dcmread(path)
    item = made.EncryptedAttributesSequence[number]
    assert item.EncryptedContentTransferSyntaxUID == ExplicitVRLittleEndian
    plain = cms.open_sealed(item.EncryptedContent, opening(holder()))
    found = pydicom.dcmread(pydicom.filebase.DicomBytesIO(
        file_of(small())[:132] + _meta() + plain))
    (modified,) = found.ModifiedAttributesSequence
    return modified


def _meta() -> bytes:
    uid = b"1.2.840.10008.1.2.1\0"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element


def test_a_changed_data_set_gets_its_attributes_back(tmp_path):
    """What an archive does: other file meta, other elements; the attributes come back still."""
    dataset = small(StudyDescription="text", Rows=1)
    # With a preamble the record of the bytes is needed; it does not fit any more then.
    (tmp_path / "in").write_bytes(file_of(dataset, preamble=b"x" * 128))
    protect_to(tmp_path / "in", tmp_path / "out")
    stored = pydicom.dcmread(tmp_path / "out")
    assert len(stored.EncryptedAttributesSequence) == 2
    stored.Columns = 7
    stored.save_as(tmp_path / "out")
    reveal_to(tmp_path / "out", tmp_path / "back")
    back = pydicom.dcmread(tmp_path / "back")
    assert (back.PatientName, back.SOPInstanceUID, back.Columns) == (
        dataset.PatientName, INSTANCE, 7)
    assert back.file_meta.MediaStorageSOPInstanceUID == INSTANCE
    assert "EncryptedAttributesSequence" not in back
    assert "PatientIdentityRemoved" not in back


# ---- refusals ------------------------------------------------------------------


def test_a_file_is_protected_once(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small()))
    protect_to(tmp_path / "in", tmp_path / "out")
    with pytest.raises(NotMeantError, match="protected already"):
        protect_to(tmp_path / "out", tmp_path / "again")


def test_text_in_pixels_is_refused_unless_it_is_said(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small(BurnedInAnnotation="YES")))
    with pytest.raises(PolicyError, match="--burned-in"):
        changed(tmp_path / "in", tmp_path / "out", protector().protect)
    protect_to(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_file_with_much_beside_its_pixels_is_to_be_encrypted_whole(syntax, tmp_path, monkeypatch):
    (tmp_path / "in").write_bytes(file_of(small(EncapsulatedDocument=bytes(1 << 20)), syntax))
    monkeypatch.setattr(dicomfile, "MAX_HEAD", 1 << 19)
    with pytest.raises(UsageError, match="encrypt the whole file instead"):
        protect_to(tmp_path / "in", tmp_path / "out")


def test_nobody_else_reveals(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small()))
    protect_to(tmp_path / "in", tmp_path / "out")
    with pytest.raises(NoIdentityError):
        reveal_to(tmp_path / "out", tmp_path / "back", holder(number=1))
    with pytest.raises(NoIdentityError):
        reveal_to(tmp_path / "out", tmp_path / "back", passwords=[b"secret"])
    with pytest.raises(NotMeantError):
        reveal_to(tmp_path / "in", tmp_path / "back")


def test_every_flipped_bit_of_what_is_encrypted_is_noticed(tmp_path):
    (tmp_path / "in").write_bytes(file_of(small()))
    protect_to(tmp_path / "in", tmp_path / "out")
    data = bytearray((tmp_path / "out").read_bytes())
    with DicomFile(tmp_path / "out") as file:
        sealed = next(e for e in file.before if e.tag == 0x04000500)
    passed = 0
    for at in range(sealed.start, sealed.stop, 7):
        data[at] ^= 0x40
        (tmp_path / "bad").write_bytes(data)
        with contextlib.suppress(DamagedError, NoIdentityError, PolicyError, NotMeantError):
            changed(tmp_path / "bad", tmp_path / "back",
                    lambda file: reveal(file, opening(holder())))
            # Versions and the like are read by nobody: nothing else may be got past.
            assert (tmp_path / "back").read_bytes() == (tmp_path / "in").read_bytes()
            passed += 1
        data[at] ^= 0x40
    assert passed < 10


def test_whatever_is_cut_off_is_refused_and_never_half_protected(tmp_path):
    dataset, _ = telling(0)
    dataset.PixelData, dataset["PixelData"].VR = bytes(64), "OW"
    data = file_of(dataset)
    for size in range(132, len(data), 97):
        (tmp_path / "in").write_bytes(data[:size])
        with DicomOrDamaged() as found:
            protect_to(tmp_path / "in", tmp_path / "out")
        if not found.refused:  # the cut fell between two elements: a shorter data set
            assert b"SECRET" not in (tmp_path / "out").read_bytes()


class DicomOrDamaged:
    """Whether what is inside raises DamagedError; anything else is raised on."""

    refused = False

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        self.refused = kind is not None and issubclass(kind, DamagedError)
        return self.refused


@pytest.mark.parametrize("depth", [10, 31, 40, 5000])
def test_nesting_is_bounded(depth, tmp_path):
    begin = struct.pack("<HH2sHIHHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000,
                        0xFFFFFFFF)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    (tmp_path / "in").write_bytes(file_of(small()))
    with DicomFile(tmp_path / "in") as file:
        at = next(e.begin for e in file.before if e.tag > 0x00081115)
        data = file.head[:at] + begin * depth + end * depth + file.head[at:]
    (tmp_path / "in").write_bytes(data)
    if depth < 32:
        protect_to(tmp_path / "in", tmp_path / "out")
        reveal_to(tmp_path / "out", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
    else:
        with pytest.raises(DamagedError, match="nested"):
            protect_to(tmp_path / "in", tmp_path / "out")
