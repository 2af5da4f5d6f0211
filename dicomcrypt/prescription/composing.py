"""A prescription's document made from the few facts that it has."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from .document import MAX_MEDICATIONS, Prescription, parse, parse_date

_DAYS = 28  # how long a prescription is good, unless it says otherwise
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_URI = "urn:ietf:rfc:3986"
_NUMBERS = "urn:dicomcrypt:number"

#: What a template has: sections, and the keys of each; the first ones are needed.
SECTIONS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "patient": (frozenset({"name", "first_name", "birth_date", "email"}), frozenset({"number"})),
    "doctor": (frozenset({"name", "first_name", "email"}), frozenset({"number", "organisation"})),
    "pharmacy": (frozenset({"name", "email"}), frozenset({"number"})),
    "medication": (frozenset({"text", "dosage"}),
                   frozenset({"code", "system", "quantity", "unit", "note", "substitution"})),
    "reference": (frozenset(), frozenset({"study", "report"})),
}


def compose(facts: Mapping[str, Any], *, now: datetime.datetime | None = None) -> Prescription:
    """Make a document from a template's facts: sections of `SECTIONS`, `medication` being a list,
    and `expires` (a date) or `valid_days`. Raises UsageError naming the field."""
    _check_template(facts)
    moment = (now or datetime.datetime.now(datetime.UTC)).replace(microsecond=0)
    expires = _expiry(facts, moment)
    serial = uuid.uuid4().urn
    names = {what: uuid.uuid4().urn for what in ("patient", "doctor", "pharmacy", "practice")}
    patient, doctor, pharmacy = (facts[what] for what in ("patient", "doctor", "pharmacy"))
    entries: list[tuple[str, dict[str, Any]]] = []
    for line in facts["medication"]:
        entries.append((uuid.uuid4().urn, _request(line, facts, names, serial, moment, expires)))
    entries.append((names["patient"], {
        "resourceType": "Patient", **_numbered(patient), "name": [_human(patient)],
        "telecom": _telecom(patient), "birthDate": _text(patient["birth_date"]),
    }))
    entries.append((names["doctor"], {
        "resourceType": "Practitioner", **_numbered(doctor), "name": [_human(doctor)],
        "telecom": _telecom(doctor),
    }))
    entries.append((names["pharmacy"], {
        "resourceType": "Organization", **_numbered(pharmacy), "name": pharmacy["name"],
        "telecom": _telecom(pharmacy),
    }))
    if doctor.get("organisation"):
        entries.append((names["practice"], {
            "resourceType": "Organization", "name": doctor["organisation"],
        }))
    bundle = {
        "resourceType": "Bundle", "type": "collection",
        "identifier": {"system": _URI, "value": serial}, "timestamp": _instant(moment),
        "entry": [{"fullUrl": name, "resource": resource} for name, resource in entries],
    }
    text = json.dumps(bundle, ensure_ascii=False, indent=1, default=str)
    return parse(text.encode("utf-8", "replace"), made_here=True)


def _check_template(facts: Mapping[str, Any]) -> None:
    known = {*SECTIONS, "expires", "valid_days"}
    for name in facts:
        if name not in known:
            raise UsageError(f"the template has no {name[:64]!r}; there are "
                             f"{', '.join(sorted(known))}")
    for name, (needed, more) in SECTIONS.items():
        if name == "medication":
            found = facts.get(name)
            if not isinstance(found, list) or not 1 <= len(found) <= MAX_MEDICATIONS:
                raise UsageError(f"medication: from 1 to {MAX_MEDICATIONS} of them are needed")
            parts = [(f"medication[{number}]", one) for number, one in enumerate(found)]
        elif name in facts or needed:
            parts = [(name, facts.get(name, {}))]
        else:
            parts = []
        for where, one in parts:
            if not isinstance(one, Mapping):
                raise UsageError(f"{where} is not a section")
            for key in one:
                if key not in needed | more:
                    raise UsageError(f"{where}.{str(key)[:64]} is not known; there are "
                                     f"{', '.join(sorted(needed | more))}")
            for key in sorted(needed):
                if not _text(one.get(key, "")):
                    raise UsageError(f"{where}.{key} is missing")


def _expiry(facts: Mapping[str, Any], moment: datetime.datetime) -> datetime.date:
    if "expires" in facts and "valid_days" in facts:
        raise UsageError("expires and valid_days say the same: give one of them")
    if "expires" in facts:
        return parse_date(_text(facts["expires"]), "expires", UsageError)
    days = facts.get("valid_days", _DAYS)
    if not isinstance(days, int) or isinstance(days, bool) or not 0 <= days <= 3660:
        raise UsageError("valid_days is a number of days, 3660 at most")
    return moment.date() + datetime.timedelta(days=days)


def _request(
    line: Mapping[str, Any], facts: Mapping[str, Any], names: Mapping[str, str], serial: str,
    moment: datetime.datetime, expires: datetime.date,
) -> dict[str, Any]:
    """A MedicationRequest."""
    dispense: dict[str, Any] = {
        "validityPeriod": {"start": moment.date().isoformat(), "end": expires.isoformat()},
        "numberOfRepeatsAllowed": 0, "performer": {"reference": names["pharmacy"]},
    }
    if "quantity" in line:
        dispense["quantity"] = {"value": line["quantity"]}
        if "unit" in line:
            dispense["quantity"]["unit"] = line["unit"]
    medication: dict[str, Any] = {"text": line["text"]}
    if "code" in line:
        coding = {"code": _text(line["code"]), "display": line["text"]}
        medication["coding"] = [{"system": line["system"], **coding} if "system" in line
                                else coding]
    made = {
        "resourceType": "MedicationRequest", "status": "active", "intent": "order",
        "groupIdentifier": {"system": _URI, "value": serial},
        "medicationCodeableConcept": medication,
        "subject": {"reference": names["patient"]}, "authoredOn": _instant(moment),
        "requester": {"reference": names["doctor"]},
        "dosageInstruction": [{"text": line["dosage"]}], "dispenseRequest": dispense,
    }  # fmt: skip
    if "substitution" in line:
        made["substitution"] = {"allowedBoolean": line["substitution"]}
    if "note" in line:
        made["note"] = [{"text": line["note"]}]
    given = facts.get("reference", {})
    kinds = {"study": "ImagingStudy", "report": "DiagnosticReport"}
    about = [
        {"type": kinds[what], "identifier": {"system": "urn:dicom:uid",
                                             "value": f"urn:oid:{_uid(given[what], what)}"}}
        for what in kinds if what in given
    ]  # fmt: skip
    return {**made, "supportingInformation": about} if about else made


def _uid(text: Any, what: str) -> str:
    if not isinstance(text, str) or len(text) > 64 or not _UID.fullmatch(text):
        raise UsageError(f"reference.{what} is not a DICOM UID")
    return text


def _human(person: Mapping[str, Any]) -> dict[str, Any]:
    return {"family": person["name"], "given": [person["first_name"]]}


def _telecom(holder: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"system": "email", "value": holder["email"]}]


def _numbered(holder: Mapping[str, Any]) -> dict[str, Any]:
    if not holder.get("number"):
        return {}
    return {"identifier": [{"system": _NUMBERS, "value": _text(holder["number"])}]}


def _text(value: Any) -> str:
    """Text, or a date or number as TOML has them."""
    return value if isinstance(value, str) else str(value)


def _instant(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
