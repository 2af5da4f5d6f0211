"""Documents on the command line, what --help says of private keys, and wrong usage."""

import json
import stat

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from practice import FACTS, clinic, write_p12

TEMPLATE = {**FACTS, "valid_days": 14}


@pytest.fixture
def rx(call, tmp_path, monkeypatch, need_module):
    """Run `prescription ...` in a folder with a template, keys and what is trusted."""
    need_module("fhir", "prescription")
    monkeypatch.chdir(tmp_path)
    c = clinic()
    for name in ("anna", "paul", "max"):
        write_p12(tmp_path, name, getattr(c, name))
    for name, made in (("root", c.root), ("doctors", c.doctors), ("people", c.people)):
        (tmp_path / f"{name}.crt").write_bytes(made.pem())
        (tmp_path / f"{name}.crl").write_bytes(made.crl().public_bytes(Encoding.PEM))
    (tmp_path / "config.toml").write_text(
        '[trust]\nroots = ["root.crt"]\nintermediates = ["doctors.crt", "people.crt"]\n'
        'crls = ["root.crl", "doctors.crl", "people.crl"]\nrequire_crl = true\n'
        '[audit]\nlog = "audit.log"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "rx.json.template.json").write_text(json.dumps(TEMPLATE))
    return lambda *words: call("prescription", *words)


def new(rx, *more):
    return rx("new", "--template", "rx.json.template.json", "-o", "rx.json", *more)


@pytest.mark.parametrize("words", [(), ("sign",)])
def test_help_says_that_private_keys_hide_nothing(rx, words):
    text = rx(*words, "--help").out
    assert "hide NOTHING" in text
    assert "signatures that authorise" in text


def test_a_document_is_made_and_shown(rx, tmp_path):
    done = new(rx, "--set", "patient.name=Beispiel", "--medication", "Aspirin <b>", "--dosage",
               "1-0-0")
    assert done.status == 0, done.err
    assert "Max Beispiel, born 1970-02-01" in done.out
    assert "Ibuprofen" not in done.out
    assert stat.S_IMODE((tmp_path / "rx.json").stat().st_mode) == 0o600
    assert rx("show", "rx.json").out == done.out
    page = rx("show", "rx.json", "--html").out
    assert "Aspirin &lt;b&gt;" in page
    assert json.loads(rx("show", "rx.json", "--json").out)["patient"]["name"] == "Max Beispiel"
    again = new(rx)
    assert (again.status, "exists" in again.err) == (1, True)
    assert new(rx, "-f").status == 0


@pytest.mark.parametrize(("words", "text"), [
    (["--medication", "Aspirin"], "each --medication has its --dosage"),
    (["--set", "patient"], "wants SECTION.FIELD=VALUE"),
    (["--set", "medication.text=x"], "wants SECTION.FIELD=VALUE"),
    (["--set", "patient.email="], "patient.email is missing"),
    (["--set", "valid_days=x"], "valid_days is a number"),
    (["--set", "patient.birth_date=yesterday"], "birthDate is not as FHIR R4"),
])  # fmt: skip
def test_what_cannot_be_meant_names_the_field(rx, words, text):
    done = new(rx, *words)
    assert (done.status, text in done.err) == (2, True), done.err


@pytest.mark.parametrize("content", [b"[[[", b"\xff\xfe", b'{"patient": ', b"[]"])
@pytest.mark.parametrize("name", ["t.toml", "t.json"])
def test_templates_that_are_none_are_refused(rx, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    done = rx("new", "--template", name, "-o", "rx.json")
    assert done.status == 2
    assert "template" in done.err


def test_signing_and_opening_are_audited_without_names(rx, tmp_path):
    new(rx, "-q")
    words = ["sign", "rx.json", "-k", "anna.p12", "--pharmacist", "paul.crt", "-o", "rx.p7m"]
    done = rx(*words, "--way", "doctor-private-key", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["way"] == "doctor-private-key"
    assert rx(*words, "--way", "doctor-private-key").status == 1
    refused = rx(*words[:-1], "other.p7m", "--way", "patient-private-key")
    assert (refused.status, "PIN never gets here" in refused.err) == (5, True)
    done = rx("open", "rx.p7m", "-k", "paul.p12", "--bundle", "back.json", "--document", "rx.p7s")
    assert done.status == 0, done.err
    assert (tmp_path / "back.json").read_bytes() == (tmp_path / "rx.json").read_bytes()
    assert rx("verify", "rx.p7s").status == 0
    assert rx("verify", "rx.p7m").status == 4
    log = (tmp_path / "audit.log").read_bytes()
    for told in (b"prescription.sign", b"prescription.open", b"refused"):
        assert told in log
    for told in (b"Muster", b"Arzt", b"Ibuprofen", b"rx.p7m"):
        assert told not in log


def test_commands_without_what_they_need_say_so(rx):
    new(rx, "-q")
    assert "signature hides nothing" in rx(
        "sign", "rx.json", "-k", "anna.p12", "--way", "doctor-private-key", "-o", "rx.p7m").err
    rx("sign", "rx.json", "-k", "anna.p12", "--way", "pharmacist-public-key", "--pharmacist",
       "paul.crt", "-o", "rx.p7m", "-q")
    for words, text in (
        (["dispense", "rx.p7m", "-k", "paul.p12", "--receipt", "r.p7m"], "give --register"),
        (["dispense", "rx.p7m", "-k", "paul.p12", "--receipt", "r.p7m", "--register", "x",
          "--tls-identity", "paul.crt"], "cannot take key and certificate for TLS"),
        (["open", "rx.p7m", "-k", "paul.p12", "--patient-certificate", "max.crt",
          "--identity-document", "x"], "give one of them"),
        (["open", "rx.p7m", "-k", "paul.crt"], "no private key with its certificate"),
        (["verify", "rx.p7m"], "is encrypted: give --key"),
        (["send", "rx.p7m", "-k", "anna.p12", "--to", "x@y.test", "--smtp", "nowhere"],
         "is no address such as"),
        (["history", "nowhere", "-k", "paul.p12"], "is no folder"),
        (["patient-agent", "-k", "max.p12", "--listen", "127.0.0.1:0"], "needs TLS"),
    ):  # fmt: skip
        done = rx(*words)
        assert (done.status, text in done.err) == (2, True), (words, done.err)


SIGN = ("sign", "rx.json", "-k", "anna.p12", "--way", "pharmacist-public-key", "--pharmacist",
        "paul.crt", "-f", "-o")


@pytest.mark.parametrize("words", [
    (*SIGN, "x", "--document", "x"), (*SIGN, "x", "--document", "./x"), (*SIGN, "rx.json"),
    ("open", "x", "-k", "paul.p12", "-f", "--html", "y", "--bundle", "y"),
    ("open", "x", "-k", "paul.p12", "-f", "--document", "x"),
    ("dispense", "x", "-k", "paul.p12", "-f", "--register", "127.0.0.1:1", "--receipt", "x"),
])  # fmt: skip
def test_no_output_replaces_another_or_what_is_read(rx, tmp_path, words):
    """The document that is kept is not encrypted: it must not lie where what is sent should."""
    new(rx)
    before = sorted(p.name for p in tmp_path.iterdir())
    done = rx(*words)
    said = "originals are never overwritten" if words[-1] == "rx.json" else "different files"
    assert (done.status, said in done.err) == (2, True), done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_doctor_is_not_told_that_another_s_prescription_is_cancelled(rx, tmp_path):
    """To the register it is another one: the doctor would believe it, and it would be dispensed."""
    new(rx)
    serial = json.loads((tmp_path / "rx.json").read_text())["identifier"]["value"]
    assert rx(*SIGN, "rx.p7m", "--document", "rx.p7s").status == 0
    c = clinic()
    write_p12(tmp_path, "eva", c.person("Eva Arzt", "physician", "eva@clinic.test"))
    words = ("--register", "127.0.0.1:1", "--tls-identity", "none.pem", "--of", "rx.p7s")
    done = rx("cancel", serial, "-k", "eva.p12", *words)
    assert (done.status, "signed with another key" in done.err) == (5, True), done.err
    done = rx("cancel", serial[:-4] + "0000", "-k", "anna.p12", *words)
    assert (done.status, "another serial number" in done.err) == (5, True), done.err
    assert "none.pem" in rx("cancel", serial, "-k", "anna.p12", *words).err
