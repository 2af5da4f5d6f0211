"""Text of the identifying elements that the native scanner finds, without pydicom.

Element and VR names: DICOM PS3.6 section 6; character sets: PS3.3 C.12.1.1.2
and PS3.5 section 6.1.
"""

import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # in the standard library from Python 3.12
    from typing_extensions import Buffer

__all__ = ["KEYWORDS", "Scanned", "values"]


class Scanned(Protocol):
    """What ``values`` wants of a scan: ``dicomcrypt.native._scan.Scan`` has it."""

    @property
    def attributes(self) -> dict[int, tuple[bytes, int, int | None]]: ...
    @property
    def big_endian(self) -> bool: ...


# Tag -> keyword and VR. The VR is the standard's: implicit VR files name none.
_ELEMENTS = {
    0x00020003: ("MediaStorageSOPInstanceUID", "UI"),
    0x00020010: ("TransferSyntaxUID", "UI"),
    0x00080005: ("SpecificCharacterSet", "CS"),
    0x00080008: ("ImageType", "CS"),
    0x00080016: ("SOPClassUID", "UI"),
    0x00080018: ("SOPInstanceUID", "UI"),
    0x00080020: ("StudyDate", "DA"),
    0x00080021: ("SeriesDate", "DA"),
    0x00080022: ("AcquisitionDate", "DA"),
    0x00080023: ("ContentDate", "DA"),
    0x00080030: ("StudyTime", "TM"),
    0x00080031: ("SeriesTime", "TM"),
    0x00080050: ("AccessionNumber", "SH"),
    0x00080060: ("Modality", "CS"),
    0x00080070: ("Manufacturer", "LO"),
    0x00080080: ("InstitutionName", "LO"),
    0x00080090: ("ReferringPhysicianName", "PN"),
    0x00081010: ("StationName", "SH"),
    0x00081030: ("StudyDescription", "LO"),
    0x0008103E: ("SeriesDescription", "LO"),
    0x00100010: ("PatientName", "PN"),
    0x00100020: ("PatientID", "LO"),
    0x00100021: ("IssuerOfPatientID", "LO"),
    0x00100030: ("PatientBirthDate", "DA"),
    0x00100040: ("PatientSex", "CS"),
    0x00101010: ("PatientAge", "AS"),
    0x00180015: ("BodyPartExamined", "CS"),
    0x0020000D: ("StudyInstanceUID", "UI"),
    0x0020000E: ("SeriesInstanceUID", "UI"),
    0x00200010: ("StudyID", "SH"),
    0x00200011: ("SeriesNumber", "IS"),
    0x00200013: ("InstanceNumber", "IS"),
    0x00280002: ("SamplesPerPixel", "US"),
    0x00280004: ("PhotometricInterpretation", "CS"),
    0x00280006: ("PlanarConfiguration", "US"),
    0x00280008: ("NumberOfFrames", "IS"),
    0x00280010: ("Rows", "US"),
    0x00280011: ("Columns", "US"),
    0x00280100: ("BitsAllocated", "US"),
    0x00280101: ("BitsStored", "US"),
    0x00280102: ("HighBit", "US"),
    0x00280103: ("PixelRepresentation", "US"),
    # The scanner's table ends with the Extended Offset Table, which is
    # structure and can be long: it has no text.
}

KEYWORDS: dict[int, str] = {tag: keyword for tag, (keyword, _) in _ELEMENTS.items()}

_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i"}
_ANY_CHARACTER_SET = {"LO", "LT", "PN", "SH", "ST", "UC", "UT", "UN"}

_CODECS = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 58": "gb2312",
    "ISO_IR 87": "iso2022_jp_2",
    "ISO_IR 100": "iso8859_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 149": "euc_kr",
    "ISO_IR 159": "iso2022_jp_2",
    "ISO_IR 166": "tis_620",
    "ISO_IR 192": "utf_8",
    "ISO_IR 203": "iso8859_15",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
# Code extensions: escape sequence -> codec of what follows (PS3.3 tables
# C.12-3 and C.12-4). The Japanese codec wants to see the escape itself.
_ESCAPES = {
    b"\x1b(B": "ascii",
    b"\x1b(J": "shift_jis",
    b"\x1b)I": "shift_jis",
    b"\x1b-A": "iso8859_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620",
    b"\x1b-b": "iso8859_15",
    b"\x1b$)A": "gb2312",
    b"\x1b$)C": "euc_kr",
    b"\x1b$B": "iso2022_jp_2",
    b"\x1b$(D": "iso2022_jp_2",
}
_FALLBACK = "iso8859_1"


def _codec(character_set: str) -> str:
    """Return the codec for text before any escape: that of the first term, or Latin-1."""
    name = character_set.split("\\")[0].strip().upper()
    name = name.replace("ISO 2022 IR", "ISO_IR").replace("ISO-IR", "ISO_IR")
    return _CODECS.get(name, _FALLBACK)


def _piece(value: bytes, codec: str) -> str:
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        return value.decode(_FALLBACK)


def _decode(value: bytes, codec: str) -> str:
    """Decode text whose escape sequences switch the character set (PS3.5 6.1.2.5)."""
    first, *others = value.split(b"\x1b")
    text = [_piece(first, codec)]
    for other in others:
        piece = b"\x1b" + other
        for escape, codec_of_piece in _ESCAPES.items():
            if piece.startswith(escape):
                if codec_of_piece != "iso2022_jp_2":
                    piece = piece[len(escape) :]
                text.append(_piece(piece, codec_of_piece))
                break
        else:
            text.append(_piece(piece, codec))
    return "".join(text)


def trimmed(text: str) -> str:
    """Return an element's text without the padding of each of its values."""
    return "\\".join(part.strip(" \0\t\r\n") for part in text.split("\\"))


def values(scan: Scanned, data: "Buffer") -> dict[str, str]:
    """Return keyword -> text of the identifying elements of a scanned header.

    ``data`` is the file, or as much of its beginning as is at hand; an element
    that does not lie wholly inside is left out, and so is one of undefined
    length. Padding is trimmed, several values stay joined by backslashes,
    binary numbers come as decimal text in the byte order of the data set. An
    empty element gives an empty text. Text that its Specific Character Set
    cannot decode is taken as Latin-1, which takes any byte. Source: PS3.5 section 6,
    PS3.3 C.12.1.1.2.
    """
    view = memoryview(data).cast("B")
    order = ">" if scan.big_endian else "<"
    codec = _FALLBACK
    found: dict[str, str] = {}
    for tag, (vr_in_file, offset, length) in scan.attributes.items():
        if tag not in _ELEMENTS or length is None or offset + length > len(view):
            continue
        keyword, vr = _ELEMENTS[tag]
        if vr_in_file and vr_in_file != b"UN":
            vr = vr_in_file.decode("ascii", "replace")
        value = bytes(view[offset : offset + length])
        if vr in _NUMBERS:
            size = struct.calcsize("<" + _NUMBERS[vr])
            count = len(value) // size
            numbers = struct.unpack_from(f"{order}{count}{_NUMBERS[vr]}", value)
            found[keyword] = "\\".join(map(str, numbers))
            continue
        if vr in _ANY_CHARACTER_SET:
            text = trimmed(_decode(value, codec))
        else:
            text = trimmed(value.decode(_FALLBACK))
        if vr == "PN":  # empty component groups at the end say nothing (PS3.5 6.2.1)
            text = text.rstrip("=")
        if tag == 0x00080005:
            codec = _codec(text)
        found[keyword] = text
    return found
