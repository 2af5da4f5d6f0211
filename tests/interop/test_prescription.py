"""Prescriptions end to end: two directories (slapd), a mail server with STARTTLS, a register and
the patient's program as processes of their own, the command line, and openssl."""

import json
import shutil
import smtplib
import subprocess
import types

import pytest
from click.testing import CliRunner
from clinic_servers import configuration, mail_server, require_servers, running, start, stop
from practice import ANNA, MAX, PAUL, key_pem
from wiretap import tap

from dicomcrypt import cli as command_line
from dicomcrypt.errors import DicomcryptError
from dicomcrypt.pki.files import pem
from dicomcrypt.prescription.protecting import PATIENT_PRIVATE, PATIENT_PUBLIC, WAYS
from tests.conftest import need


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    require_servers()
    with running(tmp_path_factory.mktemp("rx")) as w:
        yield w


@pytest.fixture
def rx(world, tmp_path, monkeypatch):
    """Run `prescription ...` in this process, in a folder with everybody's files."""
    monkeypatch.setenv("DICOMCRYPT_CONFIG", world.config)
    for path in world.folder.iterdir():
        if path.suffix in (".p12", ".crt", ".pem", ".pass", ".toml") and path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(world.maildir, ignore_errors=True)
    for part in ("new", "cur", "tmp"):
        (world.maildir / part).mkdir(parents=True)

    def run(*words):
        done = CliRunner().invoke(command_line.cli, ["prescription", *map(str, words)])
        error = done.exception if isinstance(done.exception, DicomcryptError) else None
        if error is None and done.exception is not None and not isinstance(done.exception,
                                                                           SystemExit):
            raise done.exception
        status = error.exit_status if error else done.exit_code
        return types.SimpleNamespace(status=status, out=done.stdout,
                                     said=done.output + str(error or ""))

    def good(*words):
        done = run(*words)
        assert done.status == 0, done.said
        return done

    def refused(status, text, *words):
        done = run(*words)
        assert (done.status, text in done.said) == (status, True), done.said
        return done

    return types.SimpleNamespace(run=run, good=good, refused=refused, folder=tmp_path, world=world)


def at_register(rx, name="shop"):
    return ["--register", rx.world.register, "--tls-identity", f"{name}.pem"]


def signed(rx, way, *more, name="rx", to="both"):
    """new and sign; returns the serial number."""
    made = json.loads(rx.good("new", "--template", "rx.toml", "-o", f"{name}.json", "--json").out)
    words = {"both": ["--pharmacist", "paul.crt", "--patient", "max.crt"],
             "patient": ["--patient", "max.crt"], "pharmacist": ["--pharmacist", "paul.crt"]}[to]
    rx.good("sign", f"{name}.json", "-k", "anna.p12", "--way", way, *words, "-o", f"{name}.p7m",
            "--document", f"{name}.p7s", *more)
    return made["serial"]


def mailed(rx, name="rx", to=PAUL, key="anna", inbox="inbox"):
    """send and fetch; returns the fetched file."""
    rx.good("send", f"{name}.p7m", "-k", f"{key}.p12", "--to", to, "--smtp",
            f"127.0.0.1:{rx.world.smtp}", "--smtp-ca", "all.crt")
    (mail,) = json.loads(rx.good("fetch", rx.world.maildir, "-o", inbox, "--for", to, "--json")
                         .out)["mails"]
    assert mail["state"] == "fetched"
    return mail["file"]


@pytest.mark.parametrize("way", WAYS)
def test_from_the_doctor_s_key_to_the_pharmacist_s(rx, way):
    """Each way: signed, mailed, fetched, opened, dispensed once, the receipt back by mail."""
    agent = None
    if way == PATIENT_PRIVATE:
        agent = start("patient-agent", "-k", "max.p12", "--passphrase-file", "max.pass",
                      "--certificate", "max.crt", "--listen", "unix:agent", "--once",
                      config=rx.world.config, stdin=subprocess.PIPE)
        assert "patient's program at unix:agent" in agent.stdout.readline()
        agent.stdin.write("y\n")
        agent.stdin.flush()
    try:
        signed(rx, way, *(["--patient-agent", "unix:agent"] if agent else []),
               to="patient" if way == PATIENT_PUBLIC else "pharmacist")
        if agent is not None:
            shown = agent.stdout.read()
            assert "Ibuprofen 600 mg" in shown
            assert agent.wait(100) == 0
    finally:
        if agent is not None:
            stop(agent)
    reader = ["-i", "max.p12", "--identity-passphrase-file", "max.pass"] \
        if way == PATIENT_PUBLIC else []
    file = mailed(rx, to=MAX if way == PATIENT_PUBLIC else PAUL)
    who = ["-k", "max.p12", "--passphrase-file", "max.pass"] if reader else ["-k", "paul.p12"]
    found = json.loads(rx.good("open", file, *who, "--json", "--html", "rx.html").out)
    assert found["way"] == way
    assert found["prescription"]["medications"][0]["text"] == "Ibuprofen 600 mg"
    assert not [r for r in found["remarks"] if "revocation" in r]
    assert ("authorisation" in [c["check"] for c in found["checks"]]) == ("private" in way)
    assert "Ibuprofen" in (rx.folder / "rx.html").read_text()
    words = ["-k", "paul.p12", *reader, *at_register(rx), "--patient", "max.crt"]
    rx.good("dispense", file, *words, "--receipt", "receipt.p7m")
    assert not (rx.folder / "receipt.p7m.statement").exists()
    shutil.copy(file, "elsewhere.p7m")
    for again in (file, "elsewhere.p7m"):
        rx.refused(5, "was dispensed on", "dispense", again, *words, "--receipt", "second.p7m")
    assert not (rx.folder / "second.p7m").exists()
    back = mailed(rx, "receipt", ANNA, "paul", "post")
    told = rx.good("verify", back, "-k", "anna.p12", "--of", "rx.p7s")
    assert "the receipt is of this prescription and its medications" in told.said
    shutil.copy(back, "inbox")
    past = json.loads(rx.good("history", "inbox", *who, "--json", *at_register(rx)).out)
    (one,) = past["prescriptions"]
    assert (one["status"], one["dispensed"] is not None) == ("dispensed", True)


def test_openssl_verifies_the_mail_and_the_document_and_reads_the_envelope(rx):
    need("openssl", "openssl")
    signed(rx, WAYS[3])
    mailed(rx)
    (name,) = (rx.world.maildir / "cur").iterdir()

    def openssl(*words):
        return subprocess.run(["openssl", "cms", *map(str, words)], capture_output=True,
                              timeout=100, check=False)

    (rx.folder / "key.pem").write_bytes(key_pem(rx.world.clinic.paul.key))
    (rx.folder / "paul.pem").write_bytes(pem([rx.world.clinic.paul.certificate]))
    mail = openssl("-verify", "-in", name, "-CAfile", "root.crt", "-out", "mail.txt")
    assert b"Verification successful" in mail.stderr
    opened = openssl("-decrypt", "-inform", "DER", "-in", "rx.p7m", "-recip", "paul.pem", "-inkey",
                     "key.pem", "-out", "inner.der")
    assert opened.returncode == 0, opened.stderr
    assert (rx.folder / "inner.der").read_bytes() == (rx.folder / "rx.p7s").read_bytes()
    done = openssl("-verify", "-inform", "DER", "-in", "inner.der", "-CAfile", "root.crt",
                   "-crl_check_all", "-out", "bundle.json")
    assert b"Verification successful" in done.stderr, done.stderr
    assert (rx.folder / "bundle.json").read_bytes() == (rx.folder / "rx.json").read_bytes()
    rx.good("verify", "rx.p7s")


def test_a_sender_whose_certificate_is_not_inside_is_found_in_the_directories(rx):
    signed(rx, WAYS[0], "--no-certificates")
    for told in (b"Anna", b"clinic.test"):
        assert told not in (rx.folder / "rx.p7m").read_bytes()
    done = rx.good("open", "rx.p7m", "-k", "paul.p12")
    assert "by the certificate that directory doctors has" in done.said
    empty = configuration(rx.world, "nobody.toml", rx.world.two.url, rx.world.two.tls_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DICOMCRYPT_CONFIG", empty)
        rx.refused(1, "in any directory", "open", "rx.p7m", "-k", "paul.p12")
        rx.good("open", "rx.p7m", "-k", "paul.p12", "--signer", "anna.crt", "--crl",
                _crl(rx, rx.world.clinic.doctors))


def _crl(rx, maker):
    from cryptography.hazmat.primitives.serialization import Encoding

    (rx.folder / "more.crl").write_bytes(maker.crl().public_bytes(Encoding.PEM))
    return "more.crl"


def test_the_patient_s_certificate_comes_from_the_directory_or_a_file_or_a_document_is_noted(rx):
    agent = start("patient-agent", "-k", "max.p12", "--passphrase-file", "max.pass", "--listen",
                  "127.0.0.1:0", "--tls-identity", "agent.pem", "--once", config=rx.world.config,
                  stdin=subprocess.PIPE)
    try:
        address = agent.stdout.readline().split()[-1]
        agent.stdin.write("y\n")
        agent.stdin.flush()
        signed(rx, PATIENT_PRIVATE, "--patient-agent", address, "--tls-identity", "praxis.pem")
    finally:
        stop(agent)
    for words in ([], ["--patient-certificate", "max.crt"]):
        done = rx.good("open", "rx.p7m", "-k", "paul.p12", *words)
        assert "the patient's private key authorised" in done.said
    rx.refused(5, "is not of the patient", "open", "rx.p7m", "-k", "paul.p12",
               "--patient-certificate", "moritz.crt")
    rx.good("dispense", "rx.p7m", "-k", "paul.p12", *at_register(rx), "--identity-document",
            "passport C01X0006H", "--receipt", "receipt.p7m")
    told = json.loads(rx.good("verify", "receipt.p7m", "-k", "anna.p12", "--json").out)
    assert told["receipt"]["identity_document"] == "passport C01X0006H"


@pytest.mark.parametrize(("answer", "key", "text"), [
    ("n\n", "max", "the patient did not agree"), ("", "max", "the patient did not agree"),
    ("y\n", "moritz", "is not of the patient that the prescription names"),
])  # fmt: skip
def test_a_patient_who_does_not_agree_and_another_patient_authorise_nothing(rx, answer, key, text):
    agent = start("patient-agent", "-k", f"{key}.p12", "--passphrase-file", "max.pass",
                  "--listen", "unix:agent", "--once", config=rx.world.config,
                  stdin=subprocess.PIPE)
    try:
        agent.stdout.readline()
        agent.stdin.write(answer)
        agent.stdin.close()
        rx.good("new", "--template", "rx.toml", "-o", "rx.json")
        rx.refused(5, text, "sign", "rx.json", "-k", "anna.p12", "--way", PATIENT_PRIVATE,
                   "--pharmacist", "paul.crt", "--patient-agent", "unix:agent", "-o", "rx.p7m")
    finally:
        agent.stdin = None
        stop(agent)
    assert not (rx.folder / "rx.p7m").exists()


def test_without_a_program_of_the_patient_s_that_way_is_refused(rx):
    rx.good("new", "--template", "rx.toml", "-o", "rx.json")
    words = ["sign", "rx.json", "-k", "anna.p12", "--way", PATIENT_PRIVATE, "--pharmacist",
             "paul.crt", "-o", "rx.p7m"]
    rx.refused(5, "so that the PIN never gets here", *words)
    rx.refused(1, "does not answer", *words, "--patient-agent", "unix:nowhere")


def test_a_replayed_mail_is_refused(rx):
    signed(rx, WAYS[3])
    mailed(rx)
    (name,) = (rx.world.maildir / "cur").iterdir()
    shutil.copy(name, rx.world.maildir / "new" / "again")
    rx.refused(5, "came before: it is not taken again", "fetch", rx.world.maildir, "-o", "inbox")
    rx.good("fetch", rx.world.maildir, "-o", "inbox")


def test_the_doctor_cancels_and_it_is_not_dispensed(rx):
    serial = signed(rx, WAYS[3])
    rx.good("cancel", serial, "-k", "anna.p12", *at_register(rx, "praxis"))
    rx.refused(5, "was cancelled on", "dispense", "rx.p7m", "-k", "paul.p12", *at_register(rx),
               "--receipt", "receipt.p7m")
    rx.refused(2, "a serial number is", "cancel", "7", "-k", "anna.p12", *at_register(rx))


def test_a_lost_answer_of_the_register_is_given_again(rx, monkeypatch):
    from dicomcrypt.prescription import receipts

    signed(rx, WAYS[3])
    words = ["dispense", "rx.p7m", "-k", "paul.p12", *at_register(rx), "--receipt", "r.p7m"]

    def fail(*_, **__):
        raise OSError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(receipts, "make", fail)
        with pytest.raises(OSError, match="no power"):
            rx.run(*words)
    assert (rx.folder / "r.p7m.statement").exists()
    signed(rx, WAYS[3], name="next")
    rx.refused(2, "is of another prescription", "dispense", "next.p7m", *words[2:])
    rx.good(*words)
    rx.refused(5, "was dispensed on", *words[:-1], "other.p7m")


def test_wrong_keys_and_other_pharmacies_are_refused(rx):
    signed(rx, WAYS[3])
    rx.refused(3, "not encrypted to the key", "open", "rx.p7m", "-k", "rita.p12")
    (rx.folder / "wrong").write_text("wrong\n")
    rx.refused(3, "wrong passphrase", "open", "rx.p7m", "-k", "max.p12", "--passphrase-file",
               "wrong")
    rx.refused(5, "not of the patient", "dispense", "rx.p7m", "-k", "paul.p12", *at_register(rx),
               "--patient", "moritz.crt", "--receipt", "receipt.p7m")
    rx.refused(5, "not of the pharmacy", "dispense", "rx.p7m", "-k", "rita.p12", "-i", "paul.p12",
               *at_register(rx), "--receipt", "receipt.p7m")
    rx.refused(2, "is not encrypted: it is not sent", "send", "rx.p7s", "-k", "anna.p12", "--to",
               PAUL, "--smtp", f"127.0.0.1:{rx.world.smtp}")


def test_the_register_takes_nobody_without_a_certificate_of_its_roots(rx):
    from certificates import Maker
    from practice import Holder, tls_pem

    signed(rx, WAYS[3])
    made = Maker.root("Foreign").leaf("shop", uses=["tls-client"])
    (rx.folder / "foreign.pem").write_bytes(tls_pem(Holder(made.key, made.certificate)))
    words = ["dispense", "rx.p7m", "-k", "paul.p12", "--receipt", "r.p7m", "--register",
             rx.world.register]
    rx.refused(1, "does not answer", *words, "--tls-identity", "foreign.pem")
    rx.refused(1, "does not answer", *words, "--tls-identity", "register.pem")
    rx.refused(2, "give --tls-identity", *words)
    rx.refused(2, "give --register", *words[:-2])


# ---- who listens on the wires ----------------------------------------------------


def test_an_eavesdropper_on_the_mail_hears_no_prescription_and_with_tls_not_even_to_whom(rx):
    signed(rx, WAYS[3])
    with tap(rx.world.smtp) as wire:
        rx.good("send", "rx.p7m", "-k", "anna.p12", "--to", PAUL, "--smtp",
                f"127.0.0.1:{wire.port}", "--smtp-ca", "all.crt", "--mail", "sent.eml")
    assert b"STARTTLS" in wire.heard
    for told in (PAUL, ANNA, "Subject: Prescription", "Muster", "Ibuprofen"):
        assert told.encode() not in wire.heard
    # What a mail server on the way sees, which has to know whom it is for.
    with mail_server(rx.folder, rx.folder / "Other", "-") as port, tap(port) as wire:
        with smtplib.SMTP("127.0.0.1", wire.port) as server:
            server.sendmail(ANNA, [PAUL], (rx.folder / "sent.eml").read_bytes())
        for told in (PAUL, ANNA, "Subject: Prescription"):
            assert told.encode() in wire.heard
        for told in ("Muster", "Ibuprofen", MAX, "Loewe"):
            assert told.encode() not in wire.heard
        rx.refused(5, "does not offer STARTTLS: nothing was sent", "send", "rx.p7m", "-k",
                   "anna.p12", "--to", PAUL, "--smtp", f"127.0.0.1:{port}")
    rx.refused(5, "nothing was sent", "send", "rx.p7m", "-k", "anna.p12", "--to", PAUL, "--smtp",
               f"127.0.0.1:{rx.world.smtp}")


def test_an_eavesdropper_on_the_directories_hears_who_is_looked_up_unless_there_is_tls(rx):
    signed(rx, WAYS[3], "--no-certificates")
    serial = rx.world.clinic.anna.certificate.serial_number
    with tap(rx.world.one.port) as plain, tap(rx.world.two.tls_port) as secure:
        config = configuration(rx.world, "tapped.toml", f"ldap://127.0.0.1:{plain.port}",
                               f"ldaps://127.0.0.1:{secure.port}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DICOMCRYPT_CONFIG", config)
            rx.good("open", "rx.p7m", "-k", "paul.p12")
    assert str(serial).encode() in plain.heard
    assert ANNA.encode() in plain.heard
    assert secure.heard
    for told in (str(serial), ANNA, PAUL, MAX, "Pille", "dc=people"):
        assert told.encode() not in secure.heard
    for wire in (plain, secure):
        assert b"Ibuprofen" not in wire.heard
        assert b"Muster" not in wire.heard


def test_an_eavesdropper_on_the_register_s_wire_hears_nothing_of_it(rx):
    serial = signed(rx, WAYS[3])
    with tap(int(rx.world.register.rpartition(":")[2])) as wire:
        rx.good("dispense", "rx.p7m", "-k", "paul.p12", "--register", f"127.0.0.1:{wire.port}",
                "--tls-identity", "shop.pem", "--receipt", "receipt.p7m")
    assert wire.heard
    for told in (serial, "statement", "Paul", "Pille", PAUL, "shop"):
        assert told.encode() not in wire.heard
