"""The four ways, everything that is checked, and every refusal with its sentence."""

import copy
import dataclasses
import datetime
import json

import pytest
from certificates import DAY, NOW, Maker, fresh_key
from cryptography import x509
from cryptography.hazmat import asn1
from practice import FACTS, MAX, PAUL, clinic, forced

from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    DicomcryptError,
    NoIdentityError,
    PolicyError,
    UnsignedError,
    UsageError,
)
from dicomcrypt.keys import cms_structures
from dicomcrypt.pki.checking import Trust
from dicomcrypt.prescription import envelope, protecting, signed
from dicomcrypt.prescription.composing import compose
from dicomcrypt.prescription.opening import (
    Sources,
    check_document,
    open_prescription,
    require_dispensable,
)

WAYS = protecting.WAYS


def opened(data, who=None, sources=None, **options):
    c = clinic()
    return open_prescription(data, who or c.paul, sources or c.sources(), **options)


@pytest.mark.parametrize("reader", ["paul", "max"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_opened_and_says_what_was_checked(way, reader):
    c = clinic()
    made = c.protected(way)
    assert signed.is_signed(made.data) == (way in protecting.SIGNING_WAYS)
    found = opened(made.data, getattr(c, reader), patient=c.max.certificate)
    assert found.prescription.patient.name == "Max Muster"
    assert found.signed == made.document
    said = [word for word, _ in found.checks]
    assert said == ["encryption", "sender", "signature", "chain", "revocation", "role", "chain",
                    "revocation", "role", "medications", "expiry",
                    *(["authorisation"] if way in protecting.SIGNING_WAYS else []), "recipient"]
    assert not [r for r in found.remarks if "revocation" in r]
    assert "Max" not in " ".join(sentence for _, sentence in found.checks)


@pytest.mark.parametrize("way", WAYS)
def test_nobody_else_reads_it_in_any_way(way):
    made = clinic().protected(way)
    for told in (b"Ibuprofen", b"Muster", MAX.encode(), PAUL.encode()):
        assert told not in made.data
    with pytest.raises(NoIdentityError, match="not encrypted to the key"):
        opened(made.data, clinic().rita)
    with pytest.raises(NoIdentityError):
        opened(made.data, clinic().anna)


@pytest.mark.parametrize("way", WAYS)
def test_only_whom_it_is_wrapped_for_opens_it(way):
    c = clinic()
    alone = "patient" if way == "patient-public-key" else "pharmacist"
    other = {"patient": "pharmacist", "pharmacist": "patient"}[alone]
    made = c.protected(way, **{other: None})
    with pytest.raises(NoIdentityError):
        opened(made.data, c.paul if alone == "patient" else c.max)
    copy_for = c.protected(way, copies=[c.anna.certificate])
    assert opened(copy_for.data, c.anna, patient=c.max.certificate).way == way


# ---- signing is refused -----------------------------------------------------------


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"way": "magic"}, UsageError, "no way to protect"),
    ({"way": WAYS[2], "authorise": None}, PolicyError, "PIN never gets here"),
    ({"way": WAYS[1], "patient": None}, UsageError, "give --patient"),
    ({"way": WAYS[3], "pharmacist": None}, UsageError, "give --pharmacist"),
    ({"way": WAYS[0], "patient": None, "pharmacist": None}, UsageError,
     "a signature hides nothing"),
])  # fmt: skip
def test_a_way_without_what_it_needs_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        clinic().protected(**options)


def test_only_a_physician_with_a_good_certificate_signs_and_only_the_own_document():
    c = clinic()
    with pytest.raises(CertificateRefusedError, match="may not prescribe"):
        c.protected(doctor=c.paul)
    other = c.person("Otto Arzt", "physician", "otto@clinic.test")
    with pytest.raises(PolicyError, match="names another doctor"):
        c.protected(doctor=other)
    with pytest.raises(CertificateRefusedError, match="revoked"):
        c.protected(trust=c.trust(c.anna.certificate.serial_number))
    with pytest.raises(CertificateRefusedError, match="where pharmacist is needed"):
        c.protected(pharmacist=c.max.certificate)
    with pytest.raises(PolicyError, match="not of the pharmacy"):
        c.protected(pharmacist=c.rita.certificate)
    with pytest.raises(PolicyError, match="not of the patient"):
        c.protected(patient=c.moritz.certificate)
    with pytest.raises(PolicyError, match="has expired"):
        c.protected(facts={**FACTS, "expires": "2020-01-01"})


# ---- the table of refusals ----------------------------------------------------------


def expired_doctor(c):
    return forced(c, doctor=c.person("Anna Arzt", "physician", "anna@clinic.test",
                                     begin=-30 * DAY, end=-DAY))


def unknown_authority(c):
    return forced(c, doctor=c.person("Anna Arzt", "physician", "anna@clinic.test",
                                     of=Maker.root("Health root")))


def altered_medication(c):
    """By whoever may read it, and so can make another envelope."""
    document = c.protected().document
    other = document.replace(b"Ibuprofen 600 mg", b"Ibuprofen 900 mg")
    assert other != document
    return envelope.seal(other, [c.paul.certificate])


def another_list(c):
    facts = copy.deepcopy(FACTS)
    facts["medication"][0]["dosage"] = "3-3-3"
    return forced(c, medications=compose(facts).medication_hash)


def exchanged_inside(c):
    """The patient authorised one envelope; another document is in it."""
    first, second = (c.protected(WAYS[2]) for _ in range(2))
    return protecting.authorisation(
        first.document, signed.parse(second.data).content, WAYS[2], c.max)


def stripped_outer(way):
    return lambda c: signed.parse(c.protected(way).data).content


REFUSALS = {
    "expired doctor": (expired_doctor, {}, CertificateRefusedError, "expired on"),
    "revoked doctor": (lambda c: c.protected().data, {"revoked": True}, CertificateRefusedError,
                       "was revoked on"),
    "doctor of an unknown authority": (unknown_authority, {}, CertificateRefusedError,
                                       "is no trusted root"),
    "pharmacist in the doctor's place": (
        lambda c: forced(c, doctor=c.person("Anna Arzt", "pharmacist", "anna@clinic.test")), {},
        CertificateRefusedError, "of role pharmacist and may not prescribe"),
    "another doctor's document": (
        lambda c: forced(c, doctor=c.person("Otto Arzt", "physician", "otto@clinic.test")), {},
        DamagedError, "names another doctor than the one who signed"),
    "altered medication": (altered_medication, {}, DamagedError,
                           "the content was changed after it was signed"),
    "another medication list": (another_list, {}, DamagedError,
                                "medication list is not the one that the doctor signed"),
    "stripped signature": (lambda c: forced(c, unsigned=True), {}, UnsignedError,
                           "its signature was taken away"),
    "stripped authorisation of the doctor": (stripped_outer(WAYS[0]), {}, UnsignedError,
                                             "authorises it .doctor-private-key. was taken away"),
    "stripped authorisation of the patient": (stripped_outer(WAYS[2]), {}, UnsignedError,
                                              "authorises it .patient-private-key. was taken"),
    "authorisation that was not meant": (lambda c: forced(c, outer=c.rita), {}, DamagedError,
                                         "a signature around it that its doctor did not mean"),
    "authorised by another doctor's key": (
        lambda c: forced(c, way=WAYS[0], outer=c.rita), {}, DamagedError, "another certificate"),
    "authorised by another patient's key": (
        lambda c: forced(c, way=WAYS[2], outer=c.moritz), {"patient": "moritz"}, PolicyError,
        "not of the patient that the prescription names"),
    "another patient's certificate": (
        lambda c: c.protected(WAYS[2]).data, {"patient": "moritz"}, PolicyError,
        "not of the patient that the prescription names"),
    "exchanged document": (exchanged_inside, {"patient": "max"}, DamagedError,
                           "is of something else"),
    "wrong pharmacy": (
        lambda c: forced(c, readers=[c.rita.certificate]), {"who": "rita"}, PolicyError,
        "not of the pharmacy that the prescription names"),
    "another patient": (
        lambda c: forced(c, readers=[c.moritz.certificate]), {"who": "moritz"}, PolicyError,
        "not of the patient that the prescription names"),
    "a receipt in its place": (lambda c: forced(c, kind="receipt"), {}, DamagedError,
                               "not a doctor's prescription"),
    "no document inside": (lambda c: forced(c, content=b"{}"), {}, DamagedError,
                           "not a FHIR bundle"),
    "changed envelope": (lambda c: c.protected().data[:-1] + b"\0", {}, DamagedError,
                         "its content was changed"),
    "cut": (lambda c: c.protected().data[:-20], {}, DamagedError, "not as it must be"),
    "no prescription at all": (lambda c: b"hello", {}, DamagedError, "not as it must be"),
    "patient's certificate nowhere": (lambda c: c.protected(WAYS[2]).data, {}, UsageError,
                                      "the patient's certificate is needed"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_sentence(name):
    make, options, error, text = REFUSALS[name]
    c, options = clinic(), dict(options)
    data = make(c)
    revoked = [c.anna.certificate.serial_number] if options.pop("revoked", False) else []
    people = {key: getattr(c, who) for key, who in options.items()}
    if "patient" in people:
        people["patient"] = people["patient"].certificate
    with pytest.raises(DicomcryptError, match=text) as caught:
        opened(data, sources=c.sources(*revoked), **people)
    assert type(caught.value) is error
    assert "Muster" not in str(caught.value)


# ---- years later --------------------------------------------------------------------


def at(monkeypatch, moment):
    monkeypatch.setattr(cms_structures, "time_now", lambda: asn1.UTCTime(moment))


def test_a_signed_document_is_verified_years_later_by_what_is_inside(monkeypatch):
    c = clinic()
    doctor = c.person("Anna Arzt", "physician", "anna@clinic.test", begin=-50 * DAY, end=-10 * DAY)
    lists = tuple(m.crl(begin=-40 * DAY, end=-20 * DAY) for m in (c.root, c.doctors))
    at(monkeypatch, NOW - 30 * DAY)
    trust = dataclasses.replace(c.trust(), crls=(), require_crl=True)
    for inside in (lists, ()):
        data = forced(c, doctor=doctor, crls=inside)
        document = envelope.open_envelope(data, c.paul)
        if inside:
            found = check_document(document, Sources(trust))
            assert found.moment == NOW - 30 * DAY
        else:
            with pytest.raises(CertificateRefusedError, match="no revocation list"):
                check_document(document, Sources(trust))
    with pytest.raises(CertificateRefusedError, match="expired on"):
        opened(data, sources=c.sources())


def test_who_was_revoked_later_signed_well_before_unless_the_key_was_stolen(monkeypatch):
    c = clinic()
    at(monkeypatch, NOW - 10 * DAY)
    doctor = c.person("Anna Arzt", "physician", "anna@clinic.test", begin=-50 * DAY)
    document = envelope.open_envelope(forced(c, doctor=doctor), c.paul)
    serial = doctor.certificate.serial_number
    gone = (serial, x509.ReasonFlags.cessation_of_operation, -5 * DAY)
    assert check_document(document, c.sources(gone)).prescription
    with pytest.raises(CertificateRefusedError, match="revoked"):
        check_document(document, c.sources(gone), live=True)
    stolen = (serial, x509.ReasonFlags.key_compromise, -5 * DAY)
    with pytest.raises(CertificateRefusedError, match="revoked"):
        check_document(document, c.sources(stolen))


def test_a_signature_of_the_future_is_refused(monkeypatch):
    at(monkeypatch, NOW + datetime.timedelta(hours=1))
    with pytest.raises(DamagedError, match="which is to come"):
        opened(forced(clinic()))


# ---- dispensing, and the patient's word -----------------------------------------------


def test_an_identity_document_stands_in_for_the_patient_s_certificate_and_is_recorded():
    c = clinic()
    data = c.protected(WAYS[2]).data
    found = opened(data, identity_document="passport C01X0006H")
    assert found.identity_document == "passport C01X0006H"
    assert any("was not verified" in r for r in found.remarks)
    assert "authorisation" not in dict(found.checks)
    assert "passport" not in json.dumps(found.as_json()["checks"])


def test_a_patient_s_expired_certificate_authorises_nothing():
    c = clinic()
    old = c.person("Max Muster", "patient", MAX, begin=-30 * DAY, end=-DAY)
    with pytest.raises(CertificateRefusedError, match="expired on"):
        opened(forced(c, way=WAYS[2], outer=old), patient=old.certificate)


def test_a_patient_s_signature_is_not_older_than_what_it_authorises(monkeypatch):
    """Whoever found the patient's card dates back to before it was revoked."""
    c = clinic()
    past = NOW - 2 * DAY

    def dated_back(document, sealed):
        with monkeypatch.context() as patch:
            patch.setattr(cms_structures, "time_now", lambda: asn1.UTCTime(past))
            return c.authorise(document, sealed)

    made = c.protected(WAYS[2], authorise=dated_back)
    with pytest.raises(DamagedError, match="of a time before the doctor's"):
        opened(made.data, patient=c.max.certificate)


def test_only_the_pharmacist_of_the_pharmacy_dispenses_and_not_after_the_last_day():
    c = clinic()
    found = opened(c.protected().data)
    require_dispensable(found, c.paul, c.trust())
    with pytest.raises(PolicyError, match="not of the pharmacy"):
        require_dispensable(found, c.rita, c.trust())
    doctor = c.person("Loewe", "physician", PAUL)
    with pytest.raises(CertificateRefusedError, match="may not dispense"):
        require_dispensable(found, doctor, c.trust())
    yesterday = (NOW - DAY).date().isoformat()
    late = opened(forced(c, facts={**FACTS, "expires": yesterday}))
    assert any("was good until" in r for r in late.remarks)
    with pytest.raises(PolicyError, match="not dispensed any more"):
        require_dispensable(late, c.paul, c.trust())


def test_without_lists_it_is_said_and_with_require_crl_refused():
    c = clinic()
    bare = Trust((c.root.certificate,), (c.doctors.certificate, c.people.certificate))
    data = forced(c)
    found = opened(data, sources=Sources(bare))
    assert any("not checked for revocation" in remark for remark in found.remarks)
    strict = dataclasses.replace(bare, require_crl=True)
    with pytest.raises(CertificateRefusedError, match="no revocation list"):
        opened(data, sources=Sources(strict))


def test_a_holder_s_keys_are_told_apart_by_their_use(tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding
    from practice import key_pem

    from dicomcrypt.prescription.holders import Holder

    c, parts = clinic(), b""
    for use in ("signing", "encryption"):
        key = fresh_key()
        made = c.doctors.leaf("Anna", role="physician", email="a@b.test", uses=[use], key=key)
        parts += key_pem(key) + made.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "both.pem").write_bytes(parts)
    one, two = (Holder.load(tmp_path / "both.pem", purpose=p) for p in ("sign", "decrypt"))
    assert one.certificate != two.certificate
    (tmp_path / "bare.pem").write_bytes(key_pem(fresh_key()))
    with pytest.raises(UsageError, match=r"bare.pem.*no private key with its certificate"):
        Holder.load(tmp_path / "bare.pem")
