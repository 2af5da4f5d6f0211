"""The document: a FHIR R4 bundle of MedicationRequests, Patient, Practitioner and Organizations.

`parse` takes any that holds what a prescription needs (`composing` makes one), checked against
FHIR R4 (extra `prescription`) and for what is needed here, with errors that name the field. The
bytes are what is signed: nothing is ever written anew.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import DamagedError, DicomcryptError, MissingExtraError, UsageError

MAX_DOCUMENT = 1 << 20
MAX_MEDICATIONS = 32
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: An address as it is taken: ASCII, and nothing that a mail's header would take for its own.
EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}")

_MODIFIERS = ("modifierExtension", "implicitRules", "doNotPerform", "contained")


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


def parse_date(text: str, where: str, wrong: Callable[[str], Exception]) -> datetime.date:
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
        """FHIR lets some fields turn the meaning of others: none that is not shown here. Nor has
        anything no value: where FHIR allows null, an extension stands in its place."""
        pairs = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in pairs:
            there = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".lstrip(".")
            if value is None:
                raise self._field(there, "is null, which FHIR does not know here")
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
        expires = parse_date(str(dispense.get("validityPeriod", {}).get("end", ""))[:10], until,
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
        for number, dosage in enumerate(request.get("dosageInstruction") or ()):
            for key in dosage.keys() - {"text", "sequence", "id"}:
                raise self._field(f"{where}.dosageInstruction[{number}].{key}",
                                  "is not shown, so it is not taken: dosages are text")
        if "allowedCodeableConcept" in request.get("substitution", {}):
            raise self._field(f"{where}.substitution.allowedCodeableConcept",
                              "is not shown, so it is not taken: give allowedBoolean")
        if not isinstance(request.get("dispenseRequest"), dict):
            raise self._missing(where, "dispenseRequest")
        for key in ("subject", "requester", "authoredOn"):
            if request.get(key) != first.get(key):
                raise self._field(f"{where}.{key}", "differs from that of the first medication")
        for key in ("performer", "validityPeriod"):
            if request["dispenseRequest"].get(key) != first["dispenseRequest"].get(key):
                raise self._field(f"{where}.dispenseRequest.{key}",
                                  "differs from that of the first medication")
        self._check_dispense(f"{where}.dispenseRequest", request)

    def _check_dispense(self, where: str, request: dict[str, Any]) -> None:
        """Once, from the day on that it was written, and a number of something."""
        dispense = request["dispenseRequest"]
        if dispense.get("numberOfRepeatsAllowed"):
            raise self._field(f"{where}.numberOfRepeatsAllowed",
                              "is not 0: a prescription is dispensed once")
        start = dispense.get("validityPeriod", {}).get("start", "")
        if start[:10] > str(request.get("authoredOn"))[:10]:
            raise self._field(f"{where}.validityPeriod.start",
                              "is after authoredOn: a prescription is good from that day on")
        quantity = dispense.get("quantity", {})
        if "comparator" in quantity or str(quantity.get("value", "")).startswith("-"):
            raise self._field(f"{where}.quantity", "is not a number of something")

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
        if len(emails) != 1 or not EMAIL.fullmatch(emails[0]):
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
