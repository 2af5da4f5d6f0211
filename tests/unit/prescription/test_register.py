"""The register: once, whoever comes, and only those who may; receipts."""

import datetime
import json
import os
import sqlite3
import threading

import pytest
from certificates import DAY, NOW
from cryptography.hazmat import asn1
from practice import clinic, forced

from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    DicomcryptError,
    NoIdentityError,
    PolicyError,
    UsageError,
)
from dicomcrypt.keys import cms_structures
from dicomcrypt.pki import names
from dicomcrypt.prescription import history, receipts, register, signed
from dicomcrypt.prescription.opening import Sources, open_prescription

SERIAL = "urn:uuid:00000000-0000-4000-8000-000000000001"


class Here(register.Client):
    """Asks a register in this process."""

    def __init__(self, store):
        self.store = store

    def _ask(self, question):
        return register.Entry.of_json(json.loads(json.dumps(self.store.answer(question))))


@pytest.fixture
def store(tmp_path):
    return register.Register(tmp_path / "register.sqlite", clinic().sources())


@pytest.fixture
def client(store):
    return Here(store)


def statement(pharmacist=None, serial=SERIAL):
    c = clinic()
    return register.dispensing(serial, c.anna.certificate, pharmacist or c.paul)


def test_it_is_dispensed_once(client):
    c = clinic()
    assert client.status(SERIAL, c.anna.certificate).status == "open"
    first = client.state(statement())
    assert (first.status, first.number) == ("dispensed", 1)
    for pharmacist in (c.paul, c.rita):
        with pytest.raises(PolicyError, match=r"was dispensed on .*not dispensed again"):
            client.state(statement(pharmacist))
    assert client.status(SERIAL, c.anna.certificate) == first
    assert client.state(statement(serial=SERIAL[:-1] + "2")).number == 2


def test_the_same_statement_gets_the_same_answer_even_much_later(client, monkeypatch):
    said = statement()
    first = client.state(said)
    monkeypatch.setattr(register.names, "now",
                        lambda: datetime.datetime.now(datetime.UTC) + 2 * DAY)
    assert client.state(said) == first


def test_of_many_at_once_one_dispenses(store):
    client, outcomes = Here(store), []
    said = [statement() for _ in range(8)]

    def run(one):
        try:
            outcomes.append(client.state(one).status)
        except PolicyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=run, args=(one,)) for one in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["dispensed"] + ["refused"] * 7


def test_only_its_doctor_cancels_and_what_is_cancelled_is_not_dispensed(client):
    c = clinic()
    other = c.person("Otto Arzt", "physician", "otto@clinic.test")
    assert client.state(register.cancellation(SERIAL, other)).status == "cancelled"
    assert client.status(SERIAL, c.anna.certificate).status == "open"
    client.state(register.cancellation(SERIAL, c.anna))
    with pytest.raises(PolicyError, match=r"was cancelled on .*ask the doctor"):
        client.state(statement())
    second = SERIAL[:-1] + "2"
    client.state(statement(serial=second))
    with pytest.raises(PolicyError, match="was dispensed"):
        client.state(register.cancellation(second, c.anna))


def test_only_those_who_may_make_statements(client, tmp_path):
    c = clinic()
    for holder in (c.anna, c.max):
        with pytest.raises(CertificateRefusedError, match="may not dispense"):
            client.state(statement(holder))
    with pytest.raises(CertificateRefusedError, match="may not prescribe"):
        client.state(register.cancellation(SERIAL, c.paul))
    revoked = register.Register(tmp_path / "r", c.sources(c.paul.certificate.serial_number))
    with pytest.raises(CertificateRefusedError, match="revoked"):
        Here(revoked).state(statement())


def test_statements_that_are_none_are_refused(client, monkeypatch):
    c = clinic()
    good = statement()
    with pytest.raises(DamagedError):
        client.state(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DamagedError, match="another kind"):
        client.state(signed.sign(b"{}", c.paul, "receipt"))
    with pytest.raises(DamagedError, match="no certificate inside"):
        client.state(signed.sign(b"{}", c.paul, "dispensing", certificates=False))
    for content in (b"", b"[]", b"{}", b'{"serial": "00", "doctor": "00"}', b"[" * 100_000):
        with pytest.raises(DamagedError):
            client.state(signed.sign(content, c.paul, "dispensing"))
    for question in ({}, {"ask": "all"}):
        with pytest.raises(UsageError):
            client.store.answer(question)
    with pytest.raises(DamagedError):
        client.store.answer({"ask": "state", "statement": "?"})
    long_ago = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - DAY
    monkeypatch.setattr(cms_structures, "time_now", lambda: asn1.UTCTime(long_ago))
    with pytest.raises(PolicyError, match="make it anew"):
        client.state(statement())
    assert client.status(SERIAL, c.anna.certificate).status == "open"


def test_it_stores_hashes_and_a_status_and_no_names(client, tmp_path):
    client.state(statement())
    with sqlite3.connect(tmp_path / "register.sqlite") as database:
        ((number, name, status, moment, said),) = database.execute("SELECT * FROM entries")
    database.close()
    assert (number, len(name), status, len(said)) == (1, 32, "dispensed", 32)
    assert isinstance(moment, int)
    data = (tmp_path / "register.sqlite").read_bytes()
    for told in (SERIAL, "0001", "Anna", "Paul", "clinic.test", "pharmacy"):
        assert told.encode() not in data
    assert (tmp_path / "register.sqlite").stat().st_mode & 0o777 == 0o600


def test_another_file_is_no_register(tmp_path):
    (tmp_path / "x").write_bytes(b"hello" * 1000)
    with pytest.raises(DamagedError, match="is no register"):
        register.Register(tmp_path / "x", clinic().sources())


# ---- receipts ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened():
    c = clinic()
    return open_prescription(forced(c), c.paul, c.sources())


ENTRY = register.Entry("dispensed", 7, datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))


def test_a_receipt_is_for_doctor_patient_and_pharmacist_and_of_one_prescription(opened):
    c = clinic()
    opened.identity_document = "passport C01X0006H"
    made = receipts.make(opened, ENTRY, c.paul, readers=[c.max.certificate])
    assert b"passport" not in made
    for reader in (c.anna, c.max, c.paul):
        told = receipts.open_receipt(made, reader, c.sources(), opened)
        assert told.receipt.register_number == 7
        assert told.receipt.identity_document == "passport C01X0006H"
        assert [word for word, _ in told.checks] == ["sender", "signature", "role", "prescription"]
    with pytest.raises(NoIdentityError):
        receipts.open_receipt(made, c.rita, c.sources())
    other = open_prescription(forced(c), c.paul, c.sources())
    with pytest.raises(DamagedError, match="of another prescription"):
        receipts.open_receipt(made, c.anna, c.sources(), other)


def test_only_a_pharmacist_s_receipt_counts(opened):
    c = clinic()
    forged = receipts.make(opened, ENTRY, c.rita)
    assert receipts.open_receipt(forged, c.anna, c.sources()).pharmacist == c.rita.certificate
    with pytest.raises(CertificateRefusedError, match="may not dispense"):
        receipts.open_receipt(receipts.make(opened, ENTRY, c.max), c.anna, c.sources())
    with pytest.raises(CertificateRefusedError, match="revoked"):
        receipts.open_receipt(forged, c.anna, c.sources(c.rita.certificate.serial_number))


def test_other_signed_words_are_no_receipt(opened):
    c = clinic()
    with pytest.raises(DamagedError, match="no receipt"):
        receipts.verify_receipt(opened.signed, c.sources())
    for content in (b"{}", b"[]", b"x"):
        with pytest.raises(DamagedError, match="not as it must be"):
            receipts.verify_receipt(signed.sign(content, c.paul, "receipt"), c.sources())


@pytest.mark.parametrize("values", [
    {"serial": "urn:uuid:\x1b[31m"}, {"digest": []}, {"digest": "x"}, {"medication_hash": 7},
    {"dispensed": 7}, {"dispensed": "\x1b]0;"}, {"dispensed": "2030-01-01\x1b10:00"},
    {"register_number": "7"}, {"register_number": True}, {"way": "\n"}, {"identity_document": {}},
])  # fmt: skip
def test_a_receipt_of_other_values_is_refused(opened, values, tmp_path):
    """What a pharmacist says is shown, and gathered by `history`: it is not believed before."""
    c = clinic()
    said = receipt_words(opened) | values
    made = signed.sign(json.dumps(said).encode(), c.paul, "receipt")
    with pytest.raises(DamagedError, match="not as it must be"):
        receipts.verify_receipt(made, c.sources())
    (tmp_path / "a.p7s").write_bytes(made)
    assert [f for f, _ in history.read(tmp_path, c.max, c.sources()).refused] == ["a.p7s"]


@pytest.mark.parametrize("values", [
    {"serial": "urn:uuid:" + "0" * 8 + "-0000" * 3 + "-" + "0" * 12}, {"medication_hash": "00"},
    {"way": "patient-public-key"},
])  # fmt: skip
def test_a_receipt_that_names_another_prescription_is_refused(opened, values):
    c = clinic()
    said = receipt_words(opened) | values
    made = signed.sign(json.dumps(said).encode(), c.paul, "receipt")
    with pytest.raises(DamagedError, match="of another prescription"):
        receipts.verify_receipt(made, c.sources(), opened)


def test_a_receipt_of_the_future_is_refused(opened, monkeypatch):
    c = clinic()
    made = signed.sign(json.dumps(receipt_words(opened)).encode(), c.paul, "receipt")
    monkeypatch.setattr(names, "now", lambda: NOW - DAY)
    with pytest.raises(DamagedError, match="a time that is to come"):
        receipts.verify_receipt(made, c.sources())


def receipt_words(opened):
    return {"serial": opened.prescription.serial, "digest": opened.digest.hex(),
            "medication_hash": opened.prescription.medication_hash.hex(), "way": opened.way,
            "register_number": 7, "dispensed": "", "identity_document": ""}


def test_history_passes_over_what_is_no_file(tmp_path):
    (tmp_path / "a.p7m").mkdir()
    os.mkfifo(tmp_path / "b.p7m")
    c = clinic()
    assert history.read(tmp_path, c.max, c.sources()).found == []


def test_a_database_that_cannot_be_used_notes_nothing_and_says_so(client, monkeypatch):
    def fail(*_, **__):
        raise sqlite3.OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(register.sqlite3, "connect", fail)
        with pytest.raises(DicomcryptError, match="cannot be used now"):
            client.state(statement())
    assert client.status(SERIAL, clinic().anna.certificate).status == "open"


def test_lists_of_a_directory_that_falls_silent_still_count():
    class Directories:
        """Gives what it is told to."""

        def fetch_crls(self):
            return self

    c, directories = clinic(), Directories()
    sources = Sources(c.trust(), directories)
    directories.all = list(c.lists(c.anna.certificate.serial_number, number=2, begin=-DAY / 2))
    assert len(sources.lists()) == 3
    sources._asked -= 1000
    directories.all = []
    assert len(sources.lists()) == 3
    with pytest.raises(CertificateRefusedError, match="revoked"):
        sources.judge(c.anna.certificate, "sign")


def test_a_register_that_runs_on_reads_its_lists_again():
    c, given = clinic(), []

    def reload():
        if not given:
            raise DamagedError("half a file")
        return given[0]

    sources = Sources(c.trust(), reload=reload)
    sources.judge(c.paul.certificate, "sign")
    given.append(c.trust(c.paul.certificate.serial_number))
    sources.judge(c.paul.certificate, "sign")  # not read again yet
    later(sources)
    given, kept = [], given  # a file that is being written
    sources.judge(c.paul.certificate, "sign")
    later(sources)
    given = kept
    with pytest.raises(CertificateRefusedError, match="revoked"):
        sources.judge(c.paul.certificate, "sign")


def later(sources):
    sources._loaded -= 1000


@pytest.mark.parametrize("answer", [
    {"status": "open", "number": 0, "moment": None},
    {"status": "cancelled", "number": 1, "moment": 1900000000},
    {"status": "dispensed", "number": 0, "moment": 1900000000},
    {"status": "dispensed", "number": 1, "moment": None},
    {"status": "dispensed", "number": "1", "moment": 1900000000}, {"status": "yes"}, {},
])  # fmt: skip
def test_a_register_that_answers_something_else_has_noted_nothing(store, answer):
    client = Here(store)
    client.store = type("False", (), {"answer": staticmethod(lambda question: answer)})
    with pytest.raises(DamagedError, match="the register"):
        client.state(statement())


def test_another_pharmacy_s_receipt_is_of_no_prescription_of_ours(opened, tmp_path):
    """A pharmacist elsewhere has seen the document, and says that it was dispensed there."""
    c = clinic()
    forged = receipts.make(opened, ENTRY, c.rita, readers=[c.max.certificate])
    with pytest.raises(PolicyError, match="not of the pharmacy that the prescription names"):
        receipts.open_receipt(forged, c.anna, c.sources(), opened)
    (tmp_path / "a.p7m").write_bytes(forged)
    (tmp_path / "b.p7s").write_bytes(opened.signed)
    past = history.read(tmp_path, c.max, c.sources())
    assert past.found[0].receipt is None
    assert past.refused[0][0] == "a.p7m"
    right = receipts.make(opened, ENTRY, c.paul, readers=[c.max.certificate])
    (tmp_path / "0.p7m").write_bytes(right)
    assert history.read(tmp_path, c.max, c.sources()).found[0].receipt is not None
