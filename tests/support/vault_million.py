"""A vault of many small real objects: built, then timed.

python tests/support/vault_million.py FOLDER [OBJECTS]: builds it there, or uses what is there, and
prints times and memory. Each step runs in a process of its own, so its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import time
from typing import Any

EACH = 50  # objects a patient
BATCH = 20_000
_LONG = {b"OB", b"UN", b"SQ", b"OW"}


def element(group: int, number: int, vr: bytes, value: bytes | str) -> bytes:
    """Encode an element, explicit VR, little endian."""
    data = value.encode() if isinstance(value, str) else value
    if len(data) % 2:
        data += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHI", group, number, vr, 0, len(data)) + data
    return struct.pack("<HH2sH", group, number, vr, len(data)) + data


def dicom_file(patient: int, number: int, size: int = 600) -> bytes:
    """Return a small DICOM file: instance `number` of a patient, 25 a study and 5 a series."""
    noise = random.Random(patient * 1000 + number)
    study = f"1.2.826.2.{patient}.{number // 25 + 1}"
    series = f"{study}.{number // 5 + 1}"
    uid, kind = f"{series}.{number + 1}", "1.2.840.10008.5.1.4.1.1.7"
    meta = b"".join([
        element(2, 1, b"OB", b"\0\1"), element(2, 2, b"UI", kind), element(2, 3, b"UI", uid),
        element(2, 0x10, b"UI", "1.2.840.10008.1.2.1"),
    ])  # fmt: skip
    date = f"{2005 + patient % 20}{patient % 12 + 1:02}{number // 25 + 11:02}"
    return b"".join([
        bytes(128), b"DICM", element(2, 0, b"UL", struct.pack("<I", len(meta))), meta,
        element(8, 0x16, b"UI", kind), element(8, 0x18, b"UI", uid),
        element(8, 0x20, b"DA", date), element(8, 0x60, b"CS", ("CT", "MR", "US")[patient % 3]),
        element(0x10, 0x10, b"PN", f"Family{patient}^Given"),
        element(0x10, 0x20, b"LO", f"P{patient:07}"),
        element(0x20, 0xD, b"UI", study), element(0x20, 0xE, b"UI", series),
        element(0x20, 0x13, b"IS", str(number + 1)),
        element(0x42, 0x11, b"OB", noise.randbytes(size)),
    ])  # fmt: skip


def memory_mb(name: str = "VmHWM") -> int:
    """Return this process's memory, at its peak."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) // 1024


class Place:
    """The folder: the vault, its key, and what is added next."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = pathlib.Path(folder)
        self.vault, self.key = self.folder / "vault", self.folder / "who.key"
        self.tree = self.folder / "pacs"

    def identity(self):
        from dicomcrypt.keys.keyfile import parse_identities

        return parse_identities(self.key.read_text())

    def open(self, **how):
        from dicomcrypt.vault.vault import Vault

        return Vault.open(self.vault, identities=self.identity(), **how)


def build(folder: str, objects: int, jobs: int, report=print) -> None:
    """Make the vault; what is there already is not added again."""
    from dicomcrypt.keys import keyfile
    from dicomcrypt.vault.adding import AddOptions, add_tree
    from dicomcrypt.vault.vault import Vault

    place = Place(folder)
    if not place.key.exists():
        place.folder.mkdir(parents=True, exist_ok=True)
        identity = keyfile.ALGORITHMS["x25519"].generate()
        place.key.write_text(keyfile.identity_text(identity))
        Vault.create(place.vault, {"who": identity.recipient}).close()
    with place.open() as vault:
        there = vault.catalogue.stats()["objects"]
        begin = time.perf_counter()
        for start in range(there, objects, BATCH):
            shutil.rmtree(place.tree, ignore_errors=True)
            for number in range(start, min(start + BATCH, objects)):
                patient, instance = divmod(number, EACH)
                path = place.tree / f"{patient:06}"
                if number == start or not instance:
                    path.mkdir(parents=True, exist_ok=True)
                (path / f"{instance:03}.dcm").write_bytes(dicom_file(patient, instance))
            seconds, count = time.perf_counter(), 0
            for outcome in add_tree(vault, str(place.tree), AddOptions(sync=False), jobs):
                assert outcome.state == "done", outcome
                count += 1
            seconds = time.perf_counter() - seconds
            report(f"{start + count} objects, {count / seconds:.0f}/s, "
                   f"{time.perf_counter() - begin:.0f} s in all, {memory_mb()} MB", flush=True)
        shutil.rmtree(place.tree, ignore_errors=True)


# ---- what is timed -----------------------------------------------------------


def _processor() -> float:
    """Seconds of the processor that this process and those that it waited for have had."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _timed(action) -> dict[str, Any]:
    """cpu: seconds of the processor, which another load on the machine changes less."""
    begin, before = time.perf_counter(), _processor()
    more = action()
    return {"seconds": round(time.perf_counter() - begin, 3),
            "cpu": round(_processor() - before, 2), "MB": memory_mb(), **(more or {})}


def open_cold(place: Place) -> dict[str, Any]:
    (place.folder / "vault.cache").unlink(missing_ok=True)
    return _timed(lambda: place.open().close())


def open_cached(place: Place) -> dict[str, Any]:
    return _timed(lambda: place.open().close())


def find_patient(place: Place) -> dict[str, Any]:
    with place.open() as vault:
        return _timed(lambda: {
            "found": len(list(vault.catalogue.rows(query={"PatientID": "P0000039"})))})


def find_name(place: Place) -> dict[str, Any]:
    with place.open() as vault:
        return _timed(lambda: {"found": len(list(
            vault.catalogue.listing("study", {"PatientName": "family1*^g*", "Modality": "MR",
                                              "StudyDate": "20100101-20201231"})))})


def add_recipient(place: Place) -> dict[str, Any]:
    from dicomcrypt.keys import keyfile
    from dicomcrypt.vault.recipients import add

    other = keyfile.ALGORITHMS["x25519"].generate().recipient

    def action():
        with place.open(catalogue=False) as vault:
            add(vault.keys, "second", other, replace=True)

    return _timed(action)


def remove_recipient(place: Place) -> dict[str, Any]:
    def action():
        with place.open() as vault:
            vault.remove_recipients(["second"])

    return _timed(action)


def erase_patient(place: Place) -> dict[str, Any]:
    from dicomcrypt.vault.erasing import erase
    from dicomcrypt.vault.selecting import find_record

    def action():
        with place.open() as vault:
            row = next(row for _, row in vault.catalogue.rows() if row.PatientID)
            with vault.lease("erase"):
                done = erase(vault, find_record(vault, patient=row.PatientID))
            return {"erased": done.objects}

    return _timed(action)


def check_structure(place: Place) -> dict[str, Any]:
    from dicomcrypt.vault.checking import Check

    def action():
        with place.open(catalogue=False) as vault:
            check = Check(vault, jobs=2)
            findings = list(check.run())
            return {"checked": check.checked, "wrong": sum(f.wrong for f in findings)}

    return _timed(action)


STEPS = (open_cold, open_cached, find_patient, find_name, add_recipient, remove_recipient,
         open_cached, erase_patient, open_cached, check_structure)


def measure(folder: str, report=print, steps=STEPS) -> list[tuple[str, dict[str, Any]]]:
    """Run the steps, each in a process of its own; return what each says."""
    figures = []
    for step in steps:
        done = subprocess.run(
            [sys.executable, __file__, "--step", step.__name__, folder], check=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        figures.append((step.__name__, json.loads(done.stdout.splitlines()[-1])))
        report(step.__name__, figures[-1][1], flush=True)
    return figures


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        print(json.dumps(globals()[sys.argv[2]](Place(sys.argv[3]))))
    else:
        build(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000, 2)
        measure(sys.argv[1])
