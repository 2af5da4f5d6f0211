"""What identifies does not stay behind in another spelling, place or encoding."""

import struct
import warnings

import pydicom
import pytest
from confidential import UIDS, file_of, protect_to, reveal_to, small
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomcrypt.standard.dicomfile import DicomFile
from dicomcrypt.standard.elements import Syntax, encode
from dicomcrypt.standard.profile import Profile


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def of(**values) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def protected(dataset, folder, **options) -> bytes:
    """The protected file, small letters alone, and again without zero bytes; it comes back."""
    (folder / "in").write_bytes(file_of(dataset, **options))
    protect_to(folder / "in", folder / "out")
    reveal_to(folder / "out", folder / "back")
    assert (folder / "back").read_bytes() == (folder / "in").read_bytes()
    data = (folder / "out").read_bytes().lower()
    return data + data.replace(b"\0", b"")


def long_element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value


LATIN, UTF8 = "ISO_IR 100", "ISO_IR 192"


@pytest.mark.parametrize(("name", "charset", "text"), [
    ("Mustermann^Erika", LATIN, "seen: MUSTERMANN"),
    ("Mustermann^Erika", LATIN, "mailto:erika"),
    ("Mustermann^Erika", LATIN, "born 1952-07-04"),
    ("Mustermann^Erika", LATIN, "geb. 04.07.1952"),
    ("Mustermann^Erika", LATIN, "4.7.1952"),
    ("Mustermann^Erika", LATIN, "7/4/1952"),
    ("Mustermann^Erika", LATIN, "was qq-7766"),
    ("Mustermann^Erika", LATIN, "the sankt josef spital"),
    ("Li^Na", LATIN, "Li Na"),
    ("Li^Na", LATIN, "NA LI"),
    ("\u738b^\u5c0f", UTF8, "\u60a3\u8005\u738b\u5c0f"),
    ("Wang=\u738b^\u5c0f\u4e1c", UTF8, "\u738b\u5c0f\u4e1c"),
    ("M\u00fcller^\u00c4nne", LATIN, "M\u00dcLLER"),
    ("M\u00fcller^\u00c4nne", UTF8, "M\u00dcLLER"),
    ("M\u00fcller^\u00c4nne", LATIN, "Mueller"),
    ("M\u00fcller^\u00c4nne", UTF8, "muller"),
])  # fmt: skip
def test_other_spellings_in_texts_that_the_profile_leaves_alone(name, charset, text, tmp_path):
    dataset = small(
        SpecificCharacterSet=charset, PatientName=name, PatientBirthDate="19520704",
        InstitutionName="Sankt Josef Spital", OtherPatientIDs=["ALT-9988", "QQ-7766"],
        SegmentDescription=text, LUTExplanation="harmless",
    )  # fmt: skip
    coding = "utf-8" if charset == UTF8 else "latin-1"
    found = protected(dataset, tmp_path)
    assert text.encode(coding).lower() not in found
    assert b"harmless" in found


def test_text_of_two_bytes_a_letter_in_bytes(tmp_path):
    dataset = small(ICCProfile=b"desc" + "Mustermann".encode("utf-16-be"))
    assert b"mustermann" not in protected(dataset, tmp_path)


def test_code_strings_are_whole_words(tmp_path):
    dataset = small(PatientName="ROME^ALDO", PhotometricInterpretation="MONOCHROME2",
                    ImageType=["DERIVED", "PRIMARY", "ALDO"])  # fmt: skip
    assert b"aldo" not in protected(dataset, tmp_path)
    assert pydicom.dcmread(tmp_path / "out").PhotometricInterpretation == "MONOCHROME2"


def test_code_strings_that_readers_need_stay(tmp_path):
    item = of(ValueType="TEXT", RelationshipType="CONTAINS", TextValue="seen")
    protected(small(PatientName="Text^Contains", ContentSequence=Sequence([item])), tmp_path)
    (made,) = pydicom.dcmread(tmp_path / "out").ContentSequence
    assert (made.ValueType, made.RelationshipType) == ("TEXT", "CONTAINS")


@pytest.mark.parametrize("keyword", [
    "MultiFrameSourceSOPInstanceUID", "SOPInstanceUIDOfConcatenationSource",
    "VolumeFrameOfReferenceUID", "EquipmentFrameOfReferenceUID", "HomeCommunityID",
])  # fmt: skip
def test_uids_that_the_table_lacks_are_replaced_too(keyword, tmp_path):
    assert b"1.2.3.44.55" not in protected(small(**{keyword: "1.2.3.44.55"}), tmp_path)
    new = UIDS.new(b"1.2.3.44.55").decode().strip("\0")
    assert pydicom.dcmread(tmp_path / "out")[keyword].value == new
    assert Profile(frozenset({"uids"})).action(pydicom.datadict.tag_for_keyword(keyword)) == ""


@pytest.mark.parametrize("keyword", ["SOPClassUID", "ReferencedSOPClassUID", "CodingSchemeUID",
                                     "AvailableTransferSyntaxUID", "ContextUID"])
def test_uids_of_kinds_stay(keyword):
    assert Profile().action(pydicom.datadict.tag_for_keyword(keyword)) == ""


def test_names_of_persons_that_the_table_lacks_go_too(tmp_path):
    assert b"weber" not in protected(small(EvaluatorName="Weber^Karl"), tmp_path)


@pytest.mark.parametrize("scheme", [{}, {"CodingSchemeDesignator": "HOUSE"},
                                    {"CodingSchemeDesignator": "99X"}])
def test_meanings_of_codes_of_no_public_scheme(scheme, tmp_path):
    coded = of(CodeValue="1", CodeMeaning="wife of the mayor", **scheme)
    known = of(CodeValue="121071", CodeMeaning="Finding", CodingSchemeDesignator="DCM")
    item = of(ValueType="CODE", ConceptCodeSequence=Sequence([coded]),
              ConceptNameCodeSequence=Sequence([known]))  # fmt: skip
    found = protected(small(ContentSequence=Sequence([item])), tmp_path)
    assert b"mayor" not in found
    assert b"finding" in found


def test_a_report_whose_texts_are_of_unknown_vr(tmp_path):
    """UN of defined length, in which a sequence is in Implicit VR (PS3.5 section 6.2.2)."""
    text = b"words of a report "
    item = struct.pack("<HHI", 0x0040, 0xA160, len(text)) + text
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    data = file_of(small()) + long_element(0x0040A730, b"UN", content)
    (tmp_path / "in").write_bytes(data)
    protect_to(tmp_path / "in", tmp_path / "out")
    assert b"words" not in (tmp_path / "out").read_bytes()
    reveal_to(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_a_report_whose_text_alone_is_of_unknown_vr(tmp_path):
    text = b"words of a report "
    item = long_element(0x0040A160, b"UN", text)
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    data = file_of(small()) + long_element(0x0040A730, b"SQ", content)
    (tmp_path / "in").write_bytes(data)
    protect_to(tmp_path / "in", tmp_path / "out")
    assert b"words" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("options", [{}, {"syntax": ImplicitVRLittleEndian}])
def test_documents_icons_curves_annotations_and_padding(options, tmp_path):
    dataset = small(IconImageSequence=Sequence([of(Rows=1, Columns=10)]))
    dataset.IconImageSequence[0].add_new(0x7FE00010, "OW", b"Mustermann")
    dataset.add_new(0x00420011, "OB", b"%PDF Mustermann ")
    dataset.add_new(0x50003000, "OW", b"Mustermann")
    dataset.add_new(0x60004000, "LT", "Mustermann")
    dataset.add_new(0x00091001, "UN", b"Mustermann")
    dataset.add_new(0xFFFCFFFC, "OB", b"Mustermann")
    dataset.WaveformAnnotationSequence = Sequence([of(UnformattedTextValue="Mustermann")])
    dataset.ReferencedPatientSequence = Sequence([of(ReferencedSOPInstanceUID="1.2.3.44.55")])
    found = protected(dataset, tmp_path, **options)
    assert b"mustermann" not in found
    assert b"1.2.3.44.55" not in found


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_elements_of_file_meta_commands_and_directories_in_the_data_set(first, big, tmp_path):
    """No standard allows them there; readers pass them by, with what they hold."""
    syntax = Syntax(big=big)
    hidden = b"".join(encode(tag, vr, b"SECRET", syntax) for tag, vr in (
        (0x00020016, b"AE"), (0x00020102, b"OB"), (0x00041130, b"CS"), (0x00000600, b"AE")))
    if first and not big:
        hidden = hidden[-14:]  # in Little Endian, file meta is what comes first of group 2
    whole = file_of(small(), *([ExplicitVRBigEndian] if big else []))
    (tmp_path / "whole").write_bytes(whole)
    with DicomFile(tmp_path / "whole") as file:
        at = file.dataset
    data = whole[:at] + hidden + whole[at:] if first else whole + hidden
    (tmp_path / "in").write_bytes(data)
    protect_to(tmp_path / "in", tmp_path / "out")
    assert b"SECRET" not in (tmp_path / "out").read_bytes()
    reveal_to(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
