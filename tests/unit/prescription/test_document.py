"""The FHIR bundle: what is made, what is taken, and errors that name the field."""

import copy
import datetime
import json

import pytest
from practice import FACTS

from dicomcrypt.errors import DamagedError, MissingExtraError, UsageError
from dicomcrypt.prescription import document, rendering
from dicomcrypt.prescription.composing import compose


def changed(change, facts=FACTS):
    facts = copy.deepcopy(facts)
    change(facts)
    return facts


def bundle(change=lambda b: None):
    made = json.loads(compose(FACTS).data)
    change(made)
    return json.dumps(made).encode()


def of_kind(made, kind):
    return [e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == kind]


def test_a_document_holds_what_it_was_made_of():
    made = compose(FACTS)
    again = document.parse(made.data)
    assert again == made
    assert made.patient == document.Person("Max Muster", "max@home.test", "1970-02-01",
                                           "A123456780")
    assert made.pharmacy.name == "Löwen-Apotheke"
    assert made.medications[0] == document.Medication(
        "Ibuprofen 600 mg", "01016144", "1-0-1 after meals", "20 tablets", "", True)
    assert made.references == ("ImagingStudy 1.2.840.113619.2.1",)
    assert made.expires == made.authored.date() + datetime.timedelta(days=28)
    assert compose(FACTS).serial != made.serial


def test_the_last_day_counts_and_the_next_does_not():
    made = compose(changed(lambda f: f.update(expires="2030-05-31")))
    end = datetime.datetime(2030, 5, 31, 23, 59, 59, tzinfo=datetime.UTC)
    assert not made.expired(end)
    assert made.expired(end + datetime.timedelta(seconds=1))


@pytest.mark.parametrize(("change", "field"), [
    (lambda f: f.pop("patient"), "patient.birth_date is missing"),
    (lambda f: f["patient"].pop("name"), "patient.name is missing"),
    (lambda f: f["patient"].update(birth_date="1970-02-30"), "birthDate is not as FHIR R4"),
    (lambda f: f["patient"].update(email="nobody"), "telecom has not one e-mail address"),
    (lambda f: f["doctor"].update(nickname="x"), "doctor.nickname is not known"),
    (lambda f: f.update(medication=[]), "medication: from 1 to 32"),
    (lambda f: f["medication"][1].pop("dosage"), r"medication\[1\].dosage is missing"),
    (lambda f: f["medication"][0].update(quantity="many"), "quantity.value is not as FHIR R4"),
    (lambda f: f["reference"].update(study="1.02.3"), "reference.study is not a DICOM UID"),
    (lambda f: f.update(expires="soon"), "expires is no date"),
    (lambda f: f.update(expires="2030-01-01", valid_days=3), "say the same"),
    (lambda f: f.update(valid_days=-1), "valid_days is a number"),
    (lambda f: f.update(colour="red"), "no 'colour'"),
])  # fmt: skip
def test_a_template_s_error_names_the_field_and_no_value(change, field):
    with pytest.raises(UsageError, match=field) as caught:
        compose(changed(change))
    assert "Muster" not in str(caught.value)
    assert "1970" not in str(caught.value)


def drop(kind, *keys):
    def change(made):
        found = of_kind(made, kind)[0]
        for key in keys[:-1]:
            found = found[key]
        del found[keys[-1]]
    return change


def put(kind, number=0, **values):
    return lambda made: of_kind(made, kind)[number].update(values)


def dispense(*keys, **values):
    def change(made):
        for request in of_kind(made, "MedicationRequest"):
            found = request["dispenseRequest"]
            for key in keys:
                found = found.setdefault(key, {"value": 1})
            found.update(values)
    return change


@pytest.mark.parametrize(("change", "field"), [
    (drop("MedicationRequest", "status"), "entry.0..resource.status is missing"),
    (drop("MedicationRequest", "requester"), "requester (refers to no|differs)"),
    (drop("MedicationRequest", "dispenseRequest"), "dispenseRequest is missing"),
    (drop("Patient", "birthDate"), "birthDate is missing"),
    (drop("Organization", "telecom"), "telecom has not one"),
    (put("MedicationRequest", status="cancelled"), "status and intent"),
    (put("MedicationRequest", 1, authoredOn="2020-01-01T00:00:00Z"), "authoredOn differs"),
    (put("MedicationRequest", doNotPerform=True), "doNotPerform may change what"),
    (put("MedicationRequest", colour="red"), "resource.colour is not of FHIR R4"),
    (put("MedicationRequest", dosageInstruction=[{"sequence": 1}]), "dosageInstruction.text is"),
    (put("Patient", modifierExtension=[{"url": "urn:x", "valueBoolean": True}]),
     "modifierExtension.* may change"),
    (put("MedicationRequest", dosageInstruction=[{"text": "1-0-0", "doseAndRate": [
        {"doseQuantity": {"value": 5000, "unit": "mg"}}]}]), "doseAndRate is not shown"),
    (put("MedicationRequest", substitution={"allowedCodeableConcept": {"text": "any"}}),
     "allowedCodeableConcept is not shown"),
    (dispense(numberOfRepeatsAllowed=5), "numberOfRepeatsAllowed is not 0"),
    (dispense("validityPeriod", start="2999-01-01"), "start is after authoredOn"),
    (dispense("quantity", value=-5), "quantity is not a number of something"),
    (dispense("quantity", comparator="<"), "quantity is not a number of something"),
    (put("MedicationRequest", substitution=None), "substitution is null"),
    (put("MedicationRequest", groupIdentifier=None), "groupIdentifier is null"),
    (put("MedicationRequest", dosageInstruction=[{"text": None}]), "text is null"),
    (put("Patient", name=[{"given": [None], "family": "x"}]), "given.0. is null"),
    (put("Patient", telecom=[{"system": "email", "value": None}]), "value is null"),
    (lambda b: b.update(identifier=None), "identifier is null"),
    (lambda b: b["identifier"].update(value="7"), "identifier.value is no urn:uuid"),
    (lambda b: b["identifier"].update(value="urn:uuid:" + "0" * 8 + "-0000" * 3 + "-" + "0" * 12),
     "groupIdentifier.value is not the serial"),
    (lambda b: b.update(entry=[]), "from 1 to 32 MedicationRequests|field entry"),
    (lambda b: b["entry"][0].pop("fullUrl"), "fullUrl or resource is missing"),
    (lambda b: b["entry"][1].update(fullUrl=b["entry"][0]["fullUrl"]), "stands twice"),
    (lambda b: b.update(resourceType="Patient"), "not a FHIR bundle"),
])  # fmt: skip
def test_a_bundle_of_another_program_is_refused_by_its_field(change, field):
    with pytest.raises(DamagedError, match=field) as caught:
        document.parse(bundle(change))
    assert "Muster" not in str(caught.value)


@pytest.mark.parametrize("data", [
    b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"resourceType": "Bundle", "a": NaN}',
    b'{"resourceType": "Bundle", "resourceType": "Bundle"}', b" " * (document.MAX_DOCUMENT + 1),
])  # fmt: skip
def test_what_is_no_bundle_is_refused(data):
    with pytest.raises(DamagedError):
        document.parse(data)


def test_the_hash_of_the_medications_knows_every_change_of_them_and_no_other():
    one = document.parse(bundle())
    same = document.parse(json.dumps(json.loads(one.data), indent=3, sort_keys=True).encode())
    assert same.medication_hash == one.medication_hash
    other = document.parse(json.dumps(json.loads(one.data) | {"timestamp": "2020-01-01T00:00:00Z"})
                           .encode())
    assert other.medication_hash == one.medication_hash
    made = json.loads(one.data)
    of_kind(made, "MedicationRequest")[1]["dosageInstruction"][0]["text"] = "2-0-0"
    assert document.parse(json.dumps(made).encode()).medication_hash != one.medication_hash


def test_html_and_text_obey_nothing_that_stands_in_a_document():
    evil = "<script>alert(1)</script> \"&'\u202e\x1b[2J\nPharmacy: another"
    made = compose(changed(lambda f: f["medication"][0].update(text=evil, dosage=evil)))
    page, text = rendering.as_html(made), rendering.as_text(made)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    for shown in (page, text):
        assert not {"\u202e", "\x1b"} & set(shown)
    assert "\nPharmacy: another" not in text
    assert "Max Muster, born 1970-02-01, number A123456780" in text


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fhir.resources.R4B.bundle", None)
    with pytest.raises(MissingExtraError, match=r"dicomcrypt\[prescription\]"):
        compose(FACTS)
