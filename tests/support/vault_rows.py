"""Synthetic catalogue rows: patients with studies, series and instances, the same ones each time.

python tests/support/vault_rows.py [PATIENTS]: times and memory of a catalogue of 50 rows a patient.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import tempfile
import time
from typing import Any

from dicomcrypt.vault.rows import Row, fields_of, identity_row

_FAMILY = ["Müller", "Schmidt", "García", "Nguyễn", "O'Brien", "Yamada", "Kowalski", "Åberg",
           "Dupont", "Rossi", "Ivanova", "Haddad", "Okafor", "Silva", "Kim"]  # fmt: skip
_GIVEN = ["Anna", "Hans", "José", "Linh", "Sean", "Tarou", "Ewa", "Nils", "Marie", "Luca", "Olga",
          "Samir", "Chidi", "João", "Ji-woo"]  # fmt: skip
_MODALITIES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4",
               "US": "1.2.840.10008.5.1.4.1.1.6.1", "CR": "1.2.840.10008.5.1.4.1.1.1"}
ROWS_PER_PATIENT = 50


def patient_rows(number: int, count: int = ROWS_PER_PATIENT) -> list[Row]:
    """Return the identity row and the rows of a patient."""
    rng = random.Random(number)
    issuer = "HOSPITAL A" if number % 2 else "HOSPITAL B"
    patient = {
        "IssuerOfPatientID": issuer, "PatientID": f"P{number:07}",
        "PatientName": f"{rng.choice(_FAMILY)}{number % 997}^{rng.choice(_GIVEN)}",
        "PatientBirthDate": f"{rng.randint(1930, 2015)}{rng.randint(1, 12):02}15",
        "PatientSex": rng.choice("MF"), "InstitutionName": "General Hospital",
        "ReferringPhysicianName": f"{rng.choice(_FAMILY)}^{rng.choice(_GIVEN)}",
    }  # fmt: skip
    rows = [identity_row(issuer, patient["PatientID"])]
    added = 1_760_000_000_000_000_000 + number * 10**9
    done = 0
    while done < count:
        study = f"1.2.826.0.1.3680043.8.498.{rng.getrandbits(100)}"
        date = f"{rng.randint(2005, 2025)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
        clock = f"{rng.randint(7, 19):02}{rng.randint(0, 59):02}{rng.randint(0, 59):02}"
        accession = f"A{rng.getrandbits(32)}"
        for series_number in range(1, 4):
            modality = rng.choice(list(_MODALITIES))
            series = f"{study}.{series_number}"
            shared = {
                **patient, "StudyInstanceUID": study, "StudyDate": date, "StudyTime": clock,
                "StudyDescription": "Follow-up", "AccessionNumber": accession,
                "StudyID": accession[-4:], "SeriesInstanceUID": series,
                "SeriesNumber": str(series_number), "Modality": modality,
                "SeriesDescription": f"{modality} axial", "BodyPartExamined": "CHEST",
                "SeriesDate": date, "SOPClassUID": _MODALITIES[modality],
                "TransferSyntaxUID": "1.2.840.10008.1.2.4.90", "Rows": "512", "Columns": "512",
            }  # fmt: skip
            for instance in range(1, 11):
                if done == count:
                    return rows
                size = 525_000 + rng.randint(0, 4000)
                rows.append(Row(
                    **fields_of({**shared, "InstanceNumber": str(instance),
                                 "SOPInstanceUID": f"{series}.{rng.getrandbits(40)}"}),
                    object_id=rng.randbytes(16),
                    path=f"pacs/{date}/{patient['PatientID']}/S{series_number}/IM{instance:04}"
                    .encode(),
                    size=size, object_size=size // 2 + 900, mtime_ns=added - rng.getrandbits(50),
                    added_ns=added + done, core_digest=rng.randbytes(16),
                    dedupe_digest=rng.randbytes(32), generation=1,
                ))  # fmt: skip
                done += 1
    return rows


def memory_mb(peak: bool = False) -> int:
    """Return this process's resident memory."""
    name = "VmHWM" if peak else "VmRSS"
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) // 1024


def measure(folder: str, patients: int, report=print) -> dict[str, Any]:
    """Build a catalogue, and time what is done with it. Returns seconds and megabytes by name."""
    from dicomcrypt.keys import HybridIdentity
    from dicomcrypt.keytable import KeyTable
    from dicomcrypt.vault.catalogue import Catalogue
    from dicomcrypt.vault.keys import VaultKeys
    from dicomcrypt.vault.store import FolderStore

    figures: dict[str, Any] = {}
    store, cache = FolderStore(f"{folder}/vault"), f"{folder}/vault.cache"
    identity = HybridIdentity.generate()
    table = KeyTable.create(f"{folder}/vault.keys", {"me": identity.recipient})
    keys = VaultKeys.create(table)

    def timed(name, function):
        gc.collect()
        start = time.perf_counter()
        result = function()
        figures[name] = time.perf_counter() - start
        report(f"{name:28} {figures[name]:9.3f} s   {memory_mb():5} MB now, {memory_mb(True)} peak")
        return result

    with keys.transaction():
        ids = [keys.new_record_key()[0] for _ in range(patients)]
    catalogue = Catalogue(store, keys, cache)
    timed("rows made (the generator)", lambda: [patient_rows(n) for n in range(min(patients, 400))])
    timed("rebuild", lambda: catalogue.rebuild((ids[n], patient_rows(n)) for n in range(patients)))
    catalogue.close()

    keys.close()
    source, sink = os.pipe()
    pid = os.fork()  # memory of its own
    if not pid:
        status = 1
        try:
            keys = VaultKeys(KeyTable(f"{folder}/vault.keys").unlock(identities=[identity]))
            _measure_open(Catalogue, store, keys, cache, ids, patients, timed, figures)
            os.write(sink, json.dumps(figures).encode())
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(sink)
    with open(source) as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(text)


def _measure_open(Catalogue, store, keys, cache, ids, patients, timed, figures):
    if os.path.exists(cache):
        os.unlink(cache)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    cold = Catalogue(store, keys)
    timed("cold open, no cache", cold.open)
    cold.close()
    cold = Catalogue(store, keys, cache)
    timed("cold open, cache written", cold.open)
    cold.close()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    catalogue = Catalogue(store, keys, cache)
    timed("cached open", catalogue.open)
    some = patients // 2
    for name, query in {
        "find patient id": {"PatientID": f"P{some:07}"},
        "find name": {"PatientName": "muller*^jo*"},
        "find name and date": {"PatientName": "kowalski*", "StudyDate": "2020-01-01-2020-01-31"},
        "find modality, study date": {"Modality": "MR", "StudyDate": "20200115"},
        "find accession, none there": {"AccessionNumber": "A?"},
        "find path": {"path": "pacs/20200115"},
    }.items():
        for level in ("patient", "instance"):
            timed(f"{name}: {level}", lambda q=query, lv=level: list(catalogue.listing(lv, q)))
    some_row = next(catalogue.rows([ids[some]]))[1]
    timed("object by id", lambda: catalogue.object(some_row.object_id))
    timed("same instance", lambda: catalogue.same_instance(some_row.SOPInstanceUID))
    timed("record of", lambda: catalogue.record_of("HOSPITAL A", "P0000001"))
    timed("rows of a patient", lambda: list(catalogue.rows([ids[some]])))
    timed("ls: patient", lambda: sum(1 for _ in catalogue.listing("patient")))
    timed("ls: study", lambda: sum(1 for _ in catalogue.listing("study")))
    timed("stats", catalogue.stats)
    figures["stats"] = catalogue.stats()
    print(figures["stats"])
    more = {ids[n]: patient_rows(patients + n, 10) for n in range(min(100, patients))}
    timed("append of 1,000", lambda: catalogue.append(more))
    timed("append of 1,000 again", lambda: catalogue.append(
        {ids[n]: patient_rows(2 * patients + n, 10) for n in range(min(100, patients))}))
    other = Catalogue(store, keys, cache)
    timed("cached open, 2 new segments", other.open)
    other.close()
    timed("cache saved", catalogue.save_cache)
    timed("compact, whole", lambda: catalogue.compact(full=True))
    keys.delete_records(ids[:1])
    keys.renew_cache_key()
    timed("forget", lambda: catalogue.forget(ids[:1]))
    timed("compact after an erasure", catalogue.compact)
    timed("cache saved", catalogue.save_cache)
    figures["cache MB"] = os.path.getsize(cache) >> 20
    figures["peak MB"] = memory_mb(peak=True)
    print("cache", figures["cache MB"], "MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        measure(place, int(sys.argv[1]) if len(sys.argv) > 1 else 20000)
