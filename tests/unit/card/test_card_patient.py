"""`dicomcrypt card patient`, `note` and `authenticate`."""

import json

import clinic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomcrypt.card.authentication import introduce, proven_certificate
from dicomcrypt.card.patient import PatientReferences, parse_sealed
from dicomcrypt.card.profile import CardRole, Slot
from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import InProcess
from dicomcrypt.errors import (
    CardStatusError,
    CertificateRefusedError,
    DamagedError,
    DicomcryptError,
    TokenError,
    UsageError,
)

RECORD, FIRST, SECOND = "https://records.example/4711", "urn:rx:160.123", "urn:rx:160.124"


@pytest.fixture
def max_(run, ward):
    """The options that name a new patient's card."""
    return ward.new_file("max.hpjc", "patient", "Muster", "Max", "--type", "p256")


# ---- EF.PATIENT ------------------------------------------------------------------


def test_references_are_encrypted_for_the_card(run, max_, pin, tmp_path):
    change, show = ("card", "patient", "set", *max_, *pin), ("card", "patient", "show", *max_, *pin)
    assert json.loads(run(*show, "--json").stdout) == {"record": "", "medication": []}
    run(*change, "--record", RECORD, "--add", FIRST, "--add", SECOND)
    run(*change, "--remove", FIRST, "--add", SECOND)
    told = json.loads(run(*show, "--json").stdout)
    assert told == {"record": RECORD, "medication": [SECOND]}
    assert run(*show).stdout == f"record      {RECORD}\nmedication  {SECOND}\n"
    with pytest.raises(UsageError, match=r"no reference 'urn:rx:160\.123'"):
        run(*change, "--remove", FIRST)
    with clinic.opened(tmp_path / "max.hpjc") as card:
        with pytest.raises(CardStatusError, match="wants the PIN"):
            card.read("EF.PATIENT")
        card.verify(clinic.PIN)
        content = card.read("EF.PATIENT")
    assert content[:1] == b"\x53"
    assert content[4:9] == b"\x89DCMX"
    assert b"4711" not in content
    assert SECOND.encode() not in content


def test_what_does_not_open_is_told_and_begun_anew_on_demand(run, max_, pin, tmp_path):
    change = ("card", "patient", "set", *max_, *pin)
    run(*change, "--record", RECORD)
    with clinic.opened(tmp_path / "max.hpjc") as card:
        card.verify(clinic.PIN)
        content = card.read("EF.PATIENT")
        damage = content[:-40], content[:300] + b"\1" + content[301:], b"another's"
    for bad in damage:
        with clinic.opened(tmp_path / "max.hpjc") as card:
            card.verify(clinic.PIN)
            card.update("EF.PATIENT", bad)
        for words in (("card", "patient", "show", *max_, *pin), (*change, "--add", FIRST)):
            with pytest.raises(DamagedError, match=r"EF\.PATIENT is damaged, or not for this card"):
                run(*words)
    run(*change, "--force", "--add", FIRST)
    told = run("card", "patient", "show", *max_, *pin, "--json").stdout
    assert json.loads(told) == {"record": "", "medication": [FIRST]}


def test_what_is_refused_about_references(run, card, max_, pin):
    with pytest.raises(UsageError, match="it is no patient card"):
        run("card", "patient", "show", *card, *pin)
    change = ("card", "patient", "set", *max_, *pin)
    with pytest.raises(UsageError, match="give --record, --add or --remove"):
        run(*change)
    for bad in ("x" * 1025, "a\x1b[2J", ""):
        with pytest.raises(UsageError, match="printable characters"):
            run(*change, "--add", bad)
    with pytest.raises(UsageError, match=r"EF\.PATIENT on the card holds 16384 bytes"):
        run(*change, *(word for n in range(60) for word in ("--add", f"{n}" + "x" * 1000)))


texts = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=30)


@given(st.builds(PatientReferences, texts, st.lists(texts, unique=True, max_size=9).map(tuple)))
def test_references_come_back(references):
    assert PatientReferences.decode(references.encode()) == references


@given(st.one_of(st.binary(max_size=60), st.sampled_from([
    b"{}", b"[]", b"null", b'{"record":1,"medication":[]}', b'{"record":"","medication":[""]}',
    b'{"record":"","medication":"x"*9}', b'{"record":"","medication":["a","a"]}', b"[" * 50_000,
    b'{"record":"\\u001b","medication":[]}', b'{"record":"","medication":[],"x":1}',
    b" " * 70_000 + b"{}", b'{"record":"","medication":[[]]}', b'{"record":"","medication":null}',
])))  # fmt: skip
def test_anything_else_is_damaged(data):
    with pytest.raises(DamagedError, match=r"what is in EF\.PATIENT"):
        PatientReferences.decode(data)


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "short"])
def test_references_survive_a_card_that_is_pulled(run, max_, pin, tmp_path, extended):
    """Of the old and the new ones those of one are there: a long content is one change."""
    for name, words in (("long", [f"urn:rx:{n:0400}" for n in range(12)]), ("short", [FIRST])):
        run("card", "patient", "set", *max_, *pin, "--force",
            *(word for reference in words for word in ("--add", reference)))
        with clinic.opened(tmp_path / "max.hpjc") as card:
            card.verify(clinic.PIN)
            if name == "long":
                old = card.read("EF.PATIENT")
            else:
                new = card.read("EF.PATIENT")
    found = set()
    card = clinic.Watched(SoftwareCard.open(tmp_path / "max.hpjc", clinic.WORDS))
    for first, second in ((old, new), (new, old)):
        for pull_at in range(1, 99):
            with CardSession(InProcess(card), extended=extended) as session:
                session.verify(clinic.PIN)
                session.update("EF.PATIENT", first)
                card.pull_at, card.pull = pull_at, card.power_off
                try:
                    session.update("EF.PATIENT", second)
                except TokenError:
                    pass
                done, card.pull_at = card.pull_at > 0, 0
            with CardSession(InProcess(card)) as session:
                session.verify(clinic.PIN)
                there = parse_sealed(session.read("EF.PATIENT"))
            found.add((first is old, there == parse_sealed(second)))
            assert there in (parse_sealed(first), parse_sealed(second)), pull_at
            if done:
                break
        else:
            pytest.fail("it never ended")
    assert len(found) == 4
    card.card.close()


# ---- EF.NOTE ---------------------------------------------------------------------


def test_a_note_by_the_holder_and_by_a_physician(run, card, max_, pin, ward, tmp_path):
    (tmp_path / "note").write_text("allergic to penicillin\x1b[2J\n")
    other = ("--other-card-file", "doctor.hpjc", "--other-card-passphrase-file",
             ward.folder / "words")
    write, show = ("card", "note", "set", "note", *max_), ("card", "note", "show", *max_)
    assert run(*show).stdout == ""
    run(*write, *pin)
    assert run(*show).stdout == "allergic to penicillin\\x1b[2J\n"
    (tmp_path / "note").write_text("and to latex\n")
    assert "note of 13 bytes" in run(*write, *other, *pin).output
    assert run(*show).stdout == "and to latex\n"
    run(*show, "-o", "out")
    assert (tmp_path / "out").read_text() == "and to latex\n"
    paula = ward.new_file("paula.hpjc", "pharmacist", "Apothekerin", "Paula")
    with pytest.raises(CardStatusError, match="wants the PIN, or another proof"):
        run(*write, "--other-card-file", "paula.hpjc", "--other-card-passphrase-file",
            ward.folder / "words", *pin)
    with pytest.raises(CardStatusError, match="wants the PIN, or another proof"):  # on hers neither
        run("card", "note", "set", "note", *paula, *other, *pin)
    (tmp_path / "note").write_text("x" * 4097)
    with pytest.raises(UsageError, match="holds 4096 bytes"):
        run(*write, *pin)


# ---- authentication --------------------------------------------------------------


def test_a_card_authenticates(run, card, max_, pin, ward):
    root = ("--trust-root", ward.folder / "ca" / "root.crt")
    other = ("--other-card-file", "max.hpjc", "--other-card-passphrase-file", ward.folder / "words")
    said = run("card", "authenticate", *card, *pin, *root).output
    assert "it holds the key of the certificate of 'Anna Arzt'" in said
    told = run("card", "authenticate", *card, *pin, *other, "--json").stdout
    told = json.loads(told[told.index("{"):])
    assert told["role"] == "physician"
    assert told["accepted_by"].startswith("max.hpjc (80")
    with pytest.raises(UsageError, match="nobody vouches"):
        run("card", "authenticate", *card, *pin)
    run("pki", "init", "away", "--organisation", "Elsewhere", "--type", "p256",
        "--passphrase-file", ward.folder / "words")
    with pytest.raises(CertificateRefusedError):
        run("card", "authenticate", *card, *pin, "--trust-root", "away/root.crt")


def test_a_card_of_another_authority_is_not_accepted(run, max_, pin, ward):
    run("pki", "init", "away", "--organisation", "Elsewhere", "--type", "p256",
        "--passphrase-file", ward.folder / "words")
    place = ward.place("eve.hpjc")
    run("card", "init", *place, "--ca", "away", "--role", "physician", "--name", "Eve",
        "--first-name", "E", *pin, "--puk-file", ward.folder / "puk", "--passphrase-file",
        ward.folder / "words")
    other = ("--other-card-file", "max.hpjc", "--other-card-passphrase-file", ward.folder / "words")
    with pytest.raises(DamagedError, match=r"max\.hpjc .* does not accept it"):
        run("card", "authenticate", *place, *pin, *other)


def test_a_certificate_without_its_key_is_no_proof(ward):
    doctor, eve = (SoftwareCard.in_memory(CardRole.PROFESSIONAL) for _ in range(2))
    certificates = []
    for card in (doctor, eve):
        with CardSession(InProcess(card)) as session:
            ward.personalise(session)
            certificates.append(session.certificate("EF.CERT.AUT"))
    stolen = certificates[0]
    patient = SoftwareCard.in_memory(CardRole.PATIENT)
    with CardSession(InProcess(patient)) as host, CardSession(InProcess(eve)) as guest:
        ward.personalise(host)
        guest.verify(clinic.PIN)
        introduce(guest, host)
        guest.certificate = lambda name: stolen if name == Slot.AUT.certificate_file else None
        with pytest.raises(TokenError, match="does not hold the key of its certificate"):
            proven_certificate(guest)
        with pytest.raises(CardStatusError, match="authenticate the physician"):
            introduce(guest, host)
        host.select("EF.NOTE")
        with pytest.raises(CardStatusError, match="wants the PIN, or another proof"):
            host.update("EF.NOTE", b"x")  # what was shown before does not count any more
        guest.certificate = lambda name: None
        with pytest.raises(DicomcryptError, match="no certificate to authenticate with"):
            introduce(guest, host)
