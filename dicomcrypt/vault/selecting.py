"""Which record is meant: by patient, by study, or by the id of one of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import UnknownKeyError, UsageError
from .catalogue import Catalogue

if TYPE_CHECKING:
    from .rows import Row
    from .vault import Vault


def whole_record(catalogue: Catalogue, key_ids: Iterable[bytes]) -> list[bytes]:
    """Return the ids of all keys of the records that these keys are of, in their order.

    Keys of one record share an identity; after a merge, a chain of identities."""
    found = list(dict.fromkeys(key_ids))
    known, seen = {*found}, set()
    for key_id in found:  # grows on the way
        for who in catalogue.identities(key_id):
            place = who.encode()
            if place in seen:
                continue
            seen.add(place)
            for other in catalogue.record_of(
                who.IssuerOfPatientID, who.PatientID, who.StudyInstanceUID, who.job
            ):
                if other not in known:
                    known.add(other)
                    found.append(other)
    return found


def find_record(
    vault: Vault, *, patient: str | None = None, issuer: str | None = None,
    study: str | None = None, key_id: bytes | None = None,
) -> list[bytes]:
    """Return the ids of all keys of one record.

    patient, issuer: as in the files, without an issuer where only one is known; study: its UID, the
    record in which that study lies; key_id: of one of its keys. Raises UnknownKeyError if there is
    no such record, UsageError if it is not clear which one is meant."""
    catalogue = vault.catalogue
    if [patient, study, key_id].count(None) != 2 or (issuer is not None and patient is None):
        raise UsageError("say whose record: a patient, a study, or a record key's id")
    if key_id is not None:
        found = [key_id] if catalogue.identities(key_id) else []
    elif study is not None:
        found = catalogue.record_of(None, None, study)
        if not re.fullmatch(r"[0-9.]{1,64}", study):
            raise UsageError("a study is named by its UID")
        rows = catalogue.rows(query={"StudyInstanceUID": study})
        found += dict.fromkeys(record for record, _ in rows if record not in found)
    elif patient is not None:
        patient, issuers = patient.strip(), catalogue.issuers(patient.strip())
        if issuer is not None:
            issuers = [found for found in issuers if (found or "") == issuer.strip()]
        found = [k for one in issuers for k in catalogue.record_of(one, patient)]
        if len(issuers) > 1 and {*whole_record(catalogue, found[:1])} != {*found}:
            raise UsageError(
                "the patient ID is known from several issuers: say which one with --issuer, or "
                "--issuer '' for none"
            )
    found = [key for key in found if vault.keys.record_key(key) is not None]
    if not found:
        raise UnknownKeyError("the vault has no such record: `vault ls --level patient` shows "
                              "whose it has")
    whole = whole_record(catalogue, found[:1])
    if study is not None and not {*found} <= {*whole}:
        raise UsageError("the study lies in several patients' records: name the patient")
    return [key for key in whole if vault.keys.record_key(key) is not None]


def identities_of(catalogue: Catalogue, key_ids: Iterable[bytes]) -> list[Row]:
    """Return the identity rows of all of these keys, each once."""
    found = {who.encode(): who for key_id in key_ids for who in catalogue.identities(key_id)}
    return list(found.values())
