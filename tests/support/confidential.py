"""For tests of attribute confidentiality: keys, protecting in one call, and data sets in which
every element that identifies has a value of its own."""

from __future__ import annotations

import functools
import io
import os

import pydicom
from certificates import Maker, key
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from dicomcrypt.standard import cms_envelope as cms
from dicomcrypt.standard.dicomfile import DicomFile
from dicomcrypt.standard.profile import Profile, table
from dicomcrypt.standard.protect import Protector, write
from dicomcrypt.standard.reveal import reveal
from dicomcrypt.standard.uids import UidMap

UIDS = UidMap(bytes(range(32)))
STUDY, INSTANCE, CT = "1.2.826.0.1.99.1", "1.2.826.0.1.99.1.1", "1.2.840.10008.5.1.4.1.1.2"


@functools.cache
def root() -> Maker:
    return Maker.root("Test CA")


def holder(kind: str = "rsa-2048", number: int = 0) -> Maker:
    """Somebody with a certificate to encrypt to, the same one each time."""
    return _holder(kind, number)


@functools.cache
def _holder(kind: str, number: int) -> Maker:
    return root().leaf(f"Holder {kind} {number}", uses=["encryption"], key=key(kind, number))


def opening(*holders: Maker, passwords=()) -> cms.Opening:
    return cms.opening_of([h.key for h in holders], [h.certificate for h in holders], passwords)


def protector(*recipients, retain=(), clean=(), cipher=cms.GCM, **options) -> Protector:
    return Protector(
        Profile(frozenset(retain), frozenset(clean)), UIDS,
        recipients or [cms.CertificateRecipient(holder().certificate)], cipher, **options,
    )  # fmt: skip


def changed(source, target, change) -> None:
    """Write what a change makes of a file."""
    with DicomFile(source) as file:
        made = change(file)
        with open(target, "wb") as out:
            write(file, made, out.fileno())


def protect_to(source, target, *recipients, **options) -> None:
    changed(source, target, protector(*recipients, **{"burned_in": True, **options}).protect)


def reveal_to(source, target, *holders, passwords=()) -> None:
    who = opening(*(holders or (holder(),)), passwords=passwords) if not passwords else (
        opening(*holders, passwords=passwords))
    changed(source, target, lambda file: reveal(file, who))


# ---- data sets -----------------------------------------------------------------


def file_of(dataset: Dataset, syntax=pydicom.uid.ExplicitVRLittleEndian, *, preamble=bytes(128),
            behind=b"", **meta) -> bytes:
    """The bytes of a file with this data set."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", INSTANCE)
    for keyword, value in meta.items():
        setattr(dataset.file_meta, keyword, value)
    dataset.preamble = preamble
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue() + behind


def small(**values) -> Dataset:
    """A data set of few elements."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID, found.StudyInstanceUID = CT, INSTANCE, STUDY
    found.PatientName, found.PatientID, found.Modality = "Mustermann^Erika", "PID-4711", "CT"
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


_TEXTS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR"))


def telling(depth: int = 2) -> tuple[Dataset, list[bytes]]:
    """A data set with a value of its own in every element of the profile's table that has text,
    UIDs or bytes, in nested sequences too, in private elements and those that nobody knows; and
    the values."""
    values: list[bytes] = []

    def sentinel(vr: str):
        number = len(values) + 1
        if vr == "UI":
            value = f"1.2.826.0.1.777.{10000 + number}.3"
        elif vr in _TEXTS:
            value = f"SECRET{number:05}X"
        elif vr in ("OB", "UN"):
            value = f"secret{number:05}x".encode()
        else:
            return None
        values.append(value if isinstance(value, bytes) else value.encode())
        return value

    def level(depth: int) -> Dataset:
        found = Dataset()
        for digits in table()["elements"]:
            if "x" in digits:
                continue
            tag = int(digits, 16)
            if tag >> 16 in (0, 2, 4) or tag in (0x04000500, 0x00120063, 0x00120064):
                continue
            if not pydicom.datadict.dictionary_has_tag(tag):
                continue  # newer than pydicom
            vr = pydicom.datadict.dictionary_VR(tag).split()[0]
            if vr == "SQ":
                found.add_new(tag, vr, Sequence([small_level()]))
            elif (value := sentinel(vr)) is not None:
                found.add_new(tag, vr, value)
        found.add_new(0x00090010, "LO", sentinel("LO"))
        found.add_new(0x00091001, "UN", sentinel("UN"))
        found.add_new(0x00091002, "SQ", Sequence([small_level()]))
        found.add_new(0x00100BAD, "LO", sentinel("LO"))  # PS3.6 has no such element
        found.add_new(0x60000010, "US", 1)
        found.add_new(0x60004000, "LT", sentinel("LT"))
        if depth:
            # A sequence that the profile leaves alone, around all this.
            found.add_new(0x00081115, "SQ", Sequence([level(depth - 1)]))
        return found

    def small_level() -> Dataset:
        found = Dataset()
        found.PatientName, found.CodeMeaning = sentinel("PN"), "meaning"
        found.ReferencedSOPInstanceUID = sentinel("UI")
        return found

    dataset = level(depth)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, INSTANCE
    values += [INSTANCE.encode() + b"\0"]
    return dataset, values


def sound_files(corpus) -> list[str]:
    """Those of the corpus that are DICOM files."""
    found = []
    for path in corpus:
        if path.stat().st_size > 132:
            with open(path, "rb") as file:
                if file.read(132)[128:] == b"DICM":
                    found.append(os.fspath(path))
    return found
