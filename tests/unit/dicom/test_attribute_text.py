"""The text of identifying elements is that of pydicom."""

import pydicom
import scan_corpus as make
from pydicom.valuerep import PersonName
from scan_results import every_file, pydicom_reads, scanned

from dicomcrypt.dicom.attributes import KEYWORDS, values
from dicomcrypt.native import _scan


def text_in_pydicom(dataset, tag):
    element = dataset.file_meta[tag] if tag >> 16 == 2 else dataset[tag]
    value = element.value
    if value is None:
        return ""
    parts = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    text = [
        str(part if isinstance(part, PersonName) else getattr(part, "original_string", part))
        for part in parts
        if part is not None
    ]
    return "\\".join(part.strip(" \0") for part in text)


@every_file
def test_the_text_of_the_attributes_is_that_of_pydicom(path):
    data = path.read_bytes()
    scan = scanned(data)
    if scan.status == _scan.FOREIGN:
        return
    found = values(scan, data)
    different = {}
    dataset = pydicom_reads(path, stop_before_pixels=True)
    with make.quiet_pydicom():
        for tag in scan.attributes:
            if tag in KEYWORDS:
                expected = text_in_pydicom(dataset, tag)
                if found[KEYWORDS[tag]] != expected:
                    different[KEYWORDS[tag]] = (found[KEYWORDS[tag]], expected)
    assert different == {}


def test_the_keywords_are_those_of_the_standard():
    for tag, keyword in KEYWORDS.items():
        assert pydicom.datadict.keyword_for_tag(tag) == keyword


def test_values_outside_the_data_at_hand_are_left_out():
    data = make.part10(
        make.explicit(0x00080060, b"CS", b"CT")
        + make.explicit(0x00100010, b"PN", b"A^B ")
        + make.image(1, 1, b"ab")
    )
    scan = scanned(data)
    place = scan.attribute(0x00100010)
    assert values(scan, data)["PatientName"] == "A^B"
    short = values(scan, data[: place[1] + 3])
    assert "PatientName" not in short
    assert short["Modality"] == "CT"


def test_big_endian_numbers_become_decimal_text():
    data = make.part10(make.image(258, 3, b"ab", ">"), make.BIG_ENDIAN)
    assert values(scanned(data), data)["Rows"] == "258"


def test_text_that_the_character_set_cannot_decode_is_latin_1():
    data = make.part10(
        make.explicit(0x00080005, b"CS", b"ISO_IR 192")
        + make.explicit(0x00100010, b"PN", b"M\xfcller")
        + make.image(1, 1, b"ab")
    )
    assert values(scanned(data), data)["PatientName"] == "Müller"
