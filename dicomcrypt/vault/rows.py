"""What the catalogue says of one object (docs/spec/vault-v1.md section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import DamagedError, UsageError
from ..native._cbor import bounded, decode_map, encode_map

THERE, REMOVED = 0, 1
#: Longest text and longest path of a row; longer text is cut.
TEXT_LIMIT, PATH_LIMIT = 1024, 1 << 16

#: Key -> field, of each type.
BYTES = {0: "object_id", 2: "path", 7: "core_digest", 8: "dedupe_digest", 51: "job"}
NUMBERS = {1: "state", 3: "size", 4: "object_size", 5: "mtime_ns", 6: "added_ns",
           9: "generation", 48: "frames", 49: "rows", 50: "columns"}  # fmt: skip
TEXT = dict(enumerate((
    "IssuerOfPatientID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "StudyID",
    "SeriesInstanceUID", "SeriesNumber", "Modality", "SeriesDescription", "BodyPartExamined",
    "SOPInstanceUID", "InstanceNumber", "SOPClassUID", "TransferSyntaxUID", "InstitutionName",
    "ReferringPhysicianName", "SeriesDate",
), 16))  # fmt: skip
FIELDS = {**BYTES, **NUMBERS, **TEXT}
TYPES: dict[int, type[Any]] = {
    **dict.fromkeys(BYTES, bytes), **dict.fromkeys(NUMBERS, int), **dict.fromkeys(TEXT, str),
}  # fmt: skip
SIZES = {0: 16, 7: 16, 8: 32}
COUNTED = {"NumberOfFrames": "frames", "Rows": "rows", "Columns": "columns"}
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate")


@dataclasses.dataclass(slots=True)
class Row:
    """One object, or whose record a record key is (`is_identity`). None: the file has it not.

    Digests as in the specification; sizes in bytes, times in ns since 1970; DICOM text trimmed."""

    object_id: bytes | None = None
    path: bytes | None = None
    size: int | None = None
    object_size: int | None = None
    mtime_ns: int | None = None
    added_ns: int | None = None
    core_digest: bytes | None = None
    dedupe_digest: bytes | None = None
    generation: int | None = None
    IssuerOfPatientID: str | None = None
    PatientID: str | None = None
    PatientName: str | None = None
    PatientBirthDate: str | None = None
    PatientSex: str | None = None
    StudyInstanceUID: str | None = None
    StudyDate: str | None = None
    StudyTime: str | None = None
    StudyDescription: str | None = None
    AccessionNumber: str | None = None
    StudyID: str | None = None
    SeriesInstanceUID: str | None = None
    SeriesNumber: str | None = None
    Modality: str | None = None
    SeriesDescription: str | None = None
    BodyPartExamined: str | None = None
    SOPInstanceUID: str | None = None
    InstanceNumber: str | None = None
    SOPClassUID: str | None = None
    TransferSyntaxUID: str | None = None
    InstitutionName: str | None = None
    ReferringPhysicianName: str | None = None
    SeriesDate: str | None = None
    frames: int | None = None
    rows: int | None = None
    columns: int | None = None
    job: bytes | None = None
    state: int = THERE

    @property
    def is_identity(self) -> bool:
        return self.object_id is None

    def values(self) -> dict[int, Any]:
        """Return {key of the specification: value} of what the row has."""
        found = {key: getattr(self, name) for key, name in FIELDS.items()}
        return {key: value for key, value in found.items() if value is not None}

    def encode(self) -> bytes:
        """Return the row as CBOR. Raises UsageError for what no row can hold."""
        return encode_map(check_values(self.values(), UsageError))

    @classmethod
    def decode(cls, data: bytes) -> Row:
        """Undo `encode`; raises DamagedError."""
        try:
            if not bounded(data, 0, 2 * len(FIELDS) + 1):
                raise ValueError
            values = decode_map(data)
        except ValueError:
            raise DamagedError("a catalogue row is not well-formed") from None
        return cls.from_values(check_values(values))

    @classmethod
    def from_values(cls, values: Mapping[int, Any]) -> Row:
        """Build a row from {key: value}; values are taken as they are."""
        return cls(**{FIELDS[key]: value for key, value in values.items()})

    def removed(self) -> Row:
        """Return the row that takes this one away."""
        return Row(object_id=self.object_id, path=self.path, state=REMOVED)


def check_values(
    values: dict[int, Any], error: type[Exception] = DamagedError
) -> dict[int, Any]:
    """Return {key: value} if a row can hold it."""
    for key, value in values.items():
        kind = TYPES.get(key)
        if (
            type(value) is not kind
            or (kind is int and not -(1 << 63) <= value < 1 << 63)
            or (kind is not int and len(value) > PATH_LIMIT)
            or (key in SIZES and len(value) != SIZES[key])
            or (key == 1 and value not in (THERE, REMOVED))
        ):
            raise error("a catalogue row holds what no row can")
    if 0 in values and 2 not in values:
        raise error("a catalogue row has no path")
    return values


def clean(text: str) -> str | None:
    """Return text as rows hold it: trimmed, without lone surrogates, bounded; None for nothing."""
    text = text.strip(" \0\t\r\n")[:TEXT_LIMIT].rstrip(" \0")
    return text.encode("utf-8", "replace").decode("utf-8") or None


def _number(text: str | None) -> int | None:
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 else None


def fields_of(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a row that come from the file's elements, those that it has.

    attributes: {keyword: text}, as `dicom.attributes.values` gives it. What a row has no place for
    is left out."""
    found: dict[str, Any] = {}
    for name in TEXT.values():
        text = attributes.get(name)
        if text and (text := clean(text)):
            found[name] = text
    if "SOPInstanceUID" not in found and (
        uid := clean(attributes.get("MediaStorageSOPInstanceUID", ""))
    ):
        found["SOPInstanceUID"] = uid
    for name in _DATES:  # the form that dates had before DICOM
        date = found.get(name)
        if date and len(date) == 10 and date[4] == date[7] == ".":
            found[name] = date.replace(".", "")
    for keyword, name in COUNTED.items():
        number = _number(attributes.get(keyword))
        if number is not None:
            found[name] = number
    return found


def identity_row(issuer: str | None = None, patient_id: str | None = None, *,
                 study: str | None = None, job: bytes | None = None) -> Row:  # fmt: skip
    """Build the row that says whose record a record key is: a patient's, else a study's, else an
    `add` job's. Raises UsageError if it is nobody's."""
    issuer, patient_id, study = (clean(text or "") for text in (issuer, patient_id, study))
    if patient_id is not None:
        return Row(IssuerOfPatientID=issuer, PatientID=patient_id)
    if study is not None:
        return Row(StudyInstanceUID=study)
    if job:
        return Row(job=job)
    raise UsageError("a record belongs to a patient, a study or a job")
