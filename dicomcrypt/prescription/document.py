"""The document: a FHIR R4 bundle of MedicationRequests, Patient, Practitioner and Organizations.

`compose` makes one from the few facts that a prescription has, `parse` takes any that holds them,
checked against FHIR R4 (extra `prescription`) and for what is needed here, with errors that name
the field. The bytes are what is signed: nothing is ever written anew.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DamagedError, DicomcryptError, MissingExtraError, UsageError

MAX_DOCUMENT = 1 << 20
MAX_MEDICATIONS = 32
_DAYS = 28  # how long a prescription is good, unless it says otherwise
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EMAIL = re.compile(r"[^@\s\x00-\x1f<>\"]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}")
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_URI = "urn:ietf:rfc:3986"
_NUMBERS = "urn:dicomcrypt:number"

_MODIFIERS = ("modifierExtension", "implicitRules", "doNotPerform", "contained")

#: What a template has: sections, and the keys of each; the first ones are needed.
SECTIONS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "patient": (frozenset({"name", "first_name", "birth_date", "email"}), frozenset({"number"})),
    "doctor": (frozenset({"name", "first_name", "email"}), frozenset({"number", "organisation"})),
    "pharmacy": (frozenset({"name", "email"}), frozenset({"number"})),
    "medication": (frozenset({"text", "dosage"}),
                   frozenset({"code", "system", "quantity", "unit", "note", "substitution"})),
    "reference": (frozenset(), frozenset({"study", "report"})),
}


@dataclass(frozen=True)
class Medication:
    """One line of a prescription, in words."""

    text: str
    code: str = ""
    dosage: str = ""
    quantity: str = ""
    note: str = ""
    substitution: bool | None = None


@dataclass(frozen=True)
class Person:
    name: str
    email: str
    birth_date: str = ""
    number: str = ""


@dataclass(frozen=True)
class Prescription:
    """A document and what it says. data: the bundle's bytes, which are what is signed.

    serial: urn:uuid:..., of 122 random bits; expires: the last day, in UTC. medication_hash:
    SHA-256 of the medication list (docs/spec/prescription-v1.md section 2)."""

    data: bytes = field(repr=False)
    serial: str
    authored: datetime.datetime
    expires: datetime.date
    patient: Person = field(repr=False)
    doctor: Person
    pharmacy: Person
    medications: tuple[Medication, ...] = field(repr=False)
    references: tuple[str, ...] = ()
    medication_hash: bytes = field(repr=False, default=b"")

    def expired(self, moment: datetime.datetime) -> bool:
        return moment.date() > self.expires

    def as_json(self) -> dict[str, Any]:
        """What it says, for programs."""
        return {
            "serial": self.serial, "authored": self.authored.isoformat(),
            "expires": self.expires.isoformat(), "patient": vars(self.patient),
            "doctor": vars(self.doctor), "pharmacy": vars(self.pharmacy),
            "medications": [vars(m) for m in self.medications],
            "references": list(self.references), "medication_hash": self.medication_hash.hex(),
        }  # fmt: skip


def is_serial(text: str) -> bool:
    """Whether text is a serial number."""
    return _UUID.fullmatch(text) is not None


# ---- making one ----------------------------------------------------------------


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
    return parse(json.dumps(bundle, ensure_ascii=False, indent=1).encode(), made_here=True)


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
        return _date(_text(facts["expires"]), "expires", UsageError)
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


def _date(text: str, where: str, wrong: Callable[[str], Exception]) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise wrong(f"{where} is no date such as 2026-12-31") from None


# ---- reading one ---------------------------------------------------------------


def parse(data: bytes, *, made_here: bool = False) -> Prescription:
    """Read a bundle and check it: against FHIR R4, and for what a prescription needs here.

    Raises UsageError for one that is made here, DamagedError for one that came; both name the
    field and never its value. MissingExtraError without `fhir.resources`."""
    wrong: type[DicomcryptError] = UsageError if made_here else DamagedError
    if len(data) > MAX_DOCUMENT:
        raise wrong("the prescription is too large")
    bundle = _json(data, wrong)
    _validate(bundle, wrong)
    return _Reader(bundle, wrong).prescription(data)


def _json(data: bytes, wrong: type[DicomcryptError]) -> dict[str, Any]:
    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise wrong("the prescription is not JSON that is taken: a key stands twice")
        return found

    def no_number(_: str) -> Any:
        raise ValueError

    try:
        bundle = json.loads(data.decode(), object_pairs_hook=each_once, parse_float=str,
                            parse_constant=no_number)
    except (ValueError, RecursionError):
        raise wrong("the prescription is not JSON") from None
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise wrong("the prescription is not a FHIR bundle: resourceType is not Bundle")
    return bundle


def _validate(bundle: dict[str, Any], wrong: type[DicomcryptError]) -> None:
    """Have the library check it against FHIR R4 (R4B differs in none of these resources)."""
    try:
        import pydantic
        from fhir.resources.R4B.bundle import Bundle
    except ImportError:
        raise MissingExtraError("prescriptions need a library that is not installed: "
                                "pip install 'dicomcrypt[prescription]'") from None
    try:
        Bundle.model_validate(bundle)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(f"[{p}]" if isinstance(p, int) else str(p) for p in first["loc"])
        where = where.replace(".[", "[") or "the bundle"
        what = {"extra_forbidden": "is not of FHIR R4"}.get(first["type"])
        if what is None:
            missing = first["type"].endswith("missing")
            what = "is missing" if missing else "is not as FHIR R4 wants it"
        raise wrong(f"the prescription's field {where[:160]} {what}") from None
    except (ValueError, TypeError, AssertionError, RecursionError, KeyError, AttributeError):
        raise wrong("the prescription is not as FHIR R4 wants it") from None


class _Reader:
    """Takes out of a bundle what a prescription needs."""

    def __init__(self, bundle: dict[str, Any], wrong: type[DicomcryptError]) -> None:
        self.bundle, self._wrong = bundle, wrong
        self._refuse_modifiers(bundle, "")
        self.entries: dict[str, tuple[str, dict[str, Any]]] = {}
        for number, entry in enumerate(bundle.get("entry") or ()):
            name = entry.get("fullUrl")
            if not name or not isinstance(entry.get("resource"), dict):
                raise self._missing(f"entry[{number}]", "fullUrl or resource")
            if name in self.entries:
                raise self._field(f"entry[{number}].fullUrl", "stands twice")
            self.entries[name] = f"entry[{number}].resource", entry["resource"]

    def _refuse_modifiers(self, part: Any, where: str) -> None:
        """FHIR lets some fields turn the meaning of others: none that is not shown here."""
        pairs = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in pairs:
            there = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".lstrip(".")
            if key in _MODIFIERS and value:
                raise self._field(there, "may change what the others mean: it is not taken")
            if isinstance(value, dict | list):
                self._refuse_modifiers(value, there)

    def _field(self, where: str, what: str) -> DicomcryptError:
        return self._wrong(f"the prescription's field {where} {what}")

    def _missing(self, where: str, key: str) -> DicomcryptError:
        return self._field(f"{where}.{key}", "is missing")

    def prescription(self, data: bytes) -> Prescription:
        serial = self.bundle.get("identifier", {}).get("value", "")
        if not is_serial(serial):
            raise self._field("identifier.value", "is no urn:uuid, which a serial number is")
        requests = [(where, r) for where, r in self.entries.values()
                    if r.get("resourceType") == "MedicationRequest"]
        if not 1 <= len(requests) <= MAX_MEDICATIONS:
            raise self._field("entry", f"has not from 1 to {MAX_MEDICATIONS} MedicationRequests")
        first_where, first = requests[0]
        for where, request in requests:
            self._check_request(where, request, first, serial)
        dispense = first["dispenseRequest"]
        authored = self._moment(first.get("authoredOn"), f"{first_where}.authoredOn")
        until = f"{first_where}.dispenseRequest.validityPeriod.end"
        expires = _date(str(dispense.get("validityPeriod", {}).get("end", ""))[:10], until,
                        lambda text: self._wrong(f"the prescription's field {text}"))
        return Prescription(
            data, serial, authored, expires,
            self._person(first_where, first.get("subject"), "subject", "Patient"),
            self._person(first_where, first.get("requester"), "requester", "Practitioner"),
            self._person(f"{first_where}.dispenseRequest", dispense.get("performer"), "performer",
                         "Organization"),
            tuple(_medication(request) for _, request in requests),
            tuple(dict.fromkeys(r for _, request in requests for r in _references(request))),
            medication_hash(request for _, request in requests),
        )  # fmt: skip

    def _check_request(
        self, where: str, request: dict[str, Any], first: dict[str, Any], serial: str
    ) -> None:
        if request.get("status") != "active" or request.get("intent") != "order":
            raise self._field(f"{where}.status", "and intent are not active and order")
        if request.get("groupIdentifier", {}).get("value") != serial:
            raise self._field(f"{where}.groupIdentifier.value", "is not the serial number")
        if not _medication(request).text:
            raise self._missing(where, "medicationCodeableConcept.text")
        if not all(d.get("text") for d in request.get("dosageInstruction") or [{}]):
            raise self._missing(where, "dosageInstruction.text")
        if not isinstance(request.get("dispenseRequest"), dict):
            raise self._missing(where, "dispenseRequest")
        for key in ("subject", "requester", "authoredOn"):
            if request.get(key) != first.get(key):
                raise self._field(f"{where}.{key}", "differs from that of the first medication")
        for key in ("performer", "validityPeriod"):
            if request["dispenseRequest"].get(key) != first["dispenseRequest"].get(key):
                raise self._field(f"{where}.dispenseRequest.{key}",
                                  "differs from that of the first medication")

    def _moment(self, text: Any, where: str) -> datetime.datetime:
        try:
            moment = datetime.datetime.fromisoformat(str(text))
            if moment.tzinfo is None:
                raise ValueError
            return moment.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            raise self._field(where, "is no moment with a time zone") from None

    def _person(self, where: str, reference: Any, key: str, kind: str) -> Person:
        found = self.entries.get((reference or {}).get("reference", ""))
        if found is None or found[1].get("resourceType") != kind:
            raise self._field(f"{where}.{key}", f"refers to no {kind} of the bundle")
        there, resource = found
        names = resource.get("name") or []
        if kind == "Organization":
            name = names
        else:
            one = names[0] if names else {}
            name = " ".join([*one.get("given", ()), one.get("family", "")]).strip()
        emails = [t.get("value", "") for t in resource.get("telecom") or ()
                  if t.get("system") == "email"]
        if not name:
            raise self._missing(there, "name")
        if len(emails) != 1 or not _EMAIL.fullmatch(emails[0]):
            raise self._field(f"{there}.telecom", "has not one e-mail address")
        if kind == "Patient" and not resource.get("birthDate"):
            raise self._missing(there, "birthDate")
        numbers = [i.get("value", "") for i in resource.get("identifier") or ()]
        return Person(str(name), emails[0].lower(), resource.get("birthDate", ""),
                      numbers[0] if numbers else "")


def _medication(request: dict[str, Any]) -> Medication:
    concept = request.get("medicationCodeableConcept") or {}
    coding = (concept.get("coding") or [{}])[0]
    quantity = request.get("dispenseRequest", {}).get("quantity", {})
    return Medication(
        concept.get("text") or coding.get("display", ""), coding.get("code", ""),
        "; ".join(d.get("text", "") for d in request.get("dosageInstruction") or ()),
        " ".join(str(quantity[k]) for k in ("value", "unit") if k in quantity),
        "; ".join(n.get("text", "") for n in request.get("note") or ()),
        request.get("substitution", {}).get("allowedBoolean"),
    )  # fmt: skip


def _references(request: dict[str, Any]) -> list[str]:
    found = []
    for one in request.get("supportingInformation") or ():
        value = one.get("identifier", {}).get("value") or one.get("reference", "")
        if value:
            found.append(f"{one.get('type', 'reference')} {value.removeprefix('urn:oid:')}")
    return found


def medication_hash(requests: Any) -> bytes:
    """SHA-256 of a list of MedicationRequests, as JSON with sorted keys and without spaces, in
    UTF-8, numbers with a fraction as text as they stand."""
    text = json.dumps(list(requests), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()
