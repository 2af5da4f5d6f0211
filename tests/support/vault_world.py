"""A small vault, and what it was made of."""

from __future__ import annotations

import os
import pathlib
import shutil

import pydicom
from pydicom.dataset import FileMetaDataset

from dicomcrypt.keys import keyfile
from dicomcrypt.vault.adding import AddOptions, add_tree
from dicomcrypt.vault.vault import Vault


def write_dicom(path, patient, study, number, *, issuer="", size=600, uid=None, **more) -> None:
    """Write a small DICOM file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = uid or f"1.2.826.1.{study}.{number}".replace(" ", "")
    found = pydicom.Dataset()
    found.file_meta = meta
    found.SOPClassUID = meta.MediaStorageSOPClassUID
    found.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    if patient is not None:
        found.PatientID = patient
        found.PatientName = f"Name^{patient}"
    if issuer:
        found.IssuerOfPatientID = issuer
    found.StudyInstanceUID = f"1.2.826.2.{study}"
    found.SeriesInstanceUID = f"1.2.826.3.{study}"
    found.Modality = "OT"
    for keyword, value in more.items():
        setattr(found, keyword, value)
    found.add_new(0x00420011, "OB", os.urandom(size + size % 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, found, enforce_file_format=True)


class World:
    """A vault `vault` of a tree `tree` in a folder: patients P0, P1, P2 with `each` files, a file
    of a study without a patient, one that is no DICOM, and a copy of another one."""

    def __init__(self, folder, *, each=3, size=600) -> None:
        self.folder, self.each = pathlib.Path(folder), each
        self.identity = keyfile.ALGORITHMS["x25519"].generate()
        self.tree, self.path = self.folder / "tree", self.folder / "vault"
        self.keys_path = f"{self.path}.keys"
        for patient in range(3):
            for number in range(each):
                write_dicom(self.tree / f"p{patient}-{number}.dcm", f"P{patient}", patient + 1,
                            number, size=size)
        write_dicom(self.tree / "nobody.dcm", None, 9, 0)
        (self.tree / "notes.txt").write_text("not DICOM")
        shutil.copy(self.tree / "p0-0.dcm", self.tree / "copy.dcm")
        Vault.create(self.path, {"who": self.identity.recipient}).close()

    def open(self, **how) -> Vault:
        return Vault.open(self.path, identities=[self.identity], **how)

    def plant(self, name, count, patient="P1", study=2) -> None:
        for number in range(count):
            write_dicom(self.tree / f"{name}-{number}.dcm", patient, study, 100 + number)

    def add(self, vault, **options) -> list:
        outcomes = list(add_tree(vault, str(self.tree), AddOptions(**options)))
        assert all(outcome.state != "failed" for outcome in outcomes), outcomes
        return outcomes

    def files(self) -> dict[pathlib.Path, bytes]:
        return {p.relative_to(self.tree): p.read_bytes() for p in self.tree.rglob("*")
                if p.is_file() and not p.is_symlink()}

    def backup(self, name="before") -> pathlib.Path:
        """Copy the vault's folder, as a backup does."""
        target = self.folder / name
        shutil.copytree(self.path, target)
        return target
