"""Prescriptions by card: software cards in this process, the patient's agent in another."""

import json
import os
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from practice import FACTS, clinic, tls_pem, write_p12
from practice_cards import PIN, WORDS, WRONG_PIN, by_card, card_of, write_card

from dicomcrypt.card import state
from dicomcrypt.card.profile import KeyKind, reference_block
from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.state import MemoryStore
from dicomcrypt.card.transport import InProcess
from dicomcrypt.errors import DamagedError, PolicyError, TokenError, WrongPinError
from dicomcrypt.prescription import cards, envelope
from dicomcrypt.prescription.composing import compose
from dicomcrypt.prescription.opening import open_prescription
from dicomcrypt.prescription.protecting import WAYS, protect

DOCTOR_WAY, PATIENT_WAY, PATIENT_PRIVATE, PHARMACIST_WAY = WAYS


@pytest.fixture
def rx(call, tmp_path, monkeypatch, need_module):
    """Run `prescription ...` in a folder with everybody's cards, encryption certificates
    (NAME.crt) and a document; no PIN is ever shown."""
    need_module("fhir", "prescription")
    monkeypatch.chdir(tmp_path)
    c = clinic()
    for name in ("anna", "paul", "max", "moritz", "rita"):
        write_card(tmp_path, name, kind=KeyKind.RSA_3072 if name == "paul" else KeyKind.P256)
        certificate = x509.load_der_x509_certificate(_data(name).files["EF.CERT.DEC"])
        (tmp_path / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    for name, made in (("root", c.root), ("doctors", c.doctors), ("people", c.people)):
        (tmp_path / f"{name}.pem").write_bytes(made.pem())
        (tmp_path / f"{name}.crl").write_bytes(made.crl().public_bytes(Encoding.PEM))
    (tmp_path / "config.toml").write_text(
        '[trust]\nroots = ["root.pem"]\nintermediates = ["doctors.pem", "people.pem"]\n'
        'crls = ["root.crl", "doctors.crl", "people.crl"]\nrequire_crl = true\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "rx.template.json").write_text(json.dumps({**FACTS, "valid_days": 14}))

    def run(*words):
        done = call("prescription", *words)
        for secret in (PIN, WRONG_PIN, WORDS):
            assert secret not in done.out + done.err
        return done

    assert run("new", "--template", "rx.template.json", "-o", "rx.json").status == 0
    return run


def _data(name):
    return card_of(name, kind=KeyKind.RSA_3072 if name == "paul" else KeyKind.P256)


def sign(rx, way=PHARMACIST_WAY, *more, to="paul", output="rx.p7m", who=None):
    role = "patient" if to in ("max", "moritz") else "pharmacist"
    return rx("sign", "rx.json", *(by_card("anna") if who is None else who), "--way", way,
              f"--{role}", f"{to}.crt", "-o", output, "--document", "rx.p7s", "-f", *more)


def good(done):
    assert done.status == 0, done.err
    return done


@pytest.mark.parametrize("way", [DOCTOR_WAY, PHARMACIST_WAY])
def test_the_doctor_s_card_signs_and_the_pharmacist_s_deciphers(rx, way):
    said = good(sign(rx, way)).err
    assert said.count("3 tries are left for the PIN") == 1  # one PIN, if two signatures
    found = json.loads(good(rx("open", "rx.p7m", *by_card("paul"), "--json")).out)
    assert "signature" in [c["check"] for c in found["checks"]]
    good(rx("verify", "rx.p7s"))


def test_what_is_for_the_patient_is_opened_with_the_patient_s_card_beside(rx):
    good(sign(rx, PATIENT_WAY, to="max"))
    assert rx("open", "rx.p7m", *by_card("paul")).status == 3
    done = good(rx("open", "rx.p7m", *by_card("paul"), *by_card("max", whose="patient-")))
    assert done.err.count("left for the PIN") == 1  # the pharmacist's key is not used
    other = rx("open", "rx.p7m", *by_card("paul"), *by_card("moritz", whose="patient-"))
    assert (other.status, "for somebody else" in other.err) == (3, True)
    wrong = [*by_card("paul"), *by_card("max", "wrong", whose="patient-"), "--last-try"]
    for text in ("2 tries are left", "1 try is left", "this is the last try"):
        done = rx("open", "rx.p7m", *wrong)  # --last-try is of one's own card
        assert (done.status, text in done.err) == (6, True), done.err


def test_a_key_file_and_a_card_work_beside_each_other(rx, tmp_path):
    """The doctor signs with one, the pharmacist opens with the other, in both directions."""
    for name in ("anna", "paul"):
        write_p12(tmp_path, f"{name}-file", getattr(clinic(), name))
    for name in ("anna", "paul"):
        for more in ([], ["--no-certificates"]):
            good(sign(rx, PHARMACIST_WAY, *more, to=name if name == "paul" else "paul-file",
                      who=["-k", "anna-file.p12"] if name == "paul" else by_card("anna")))
            words = by_card("paul") if name == "paul" else ["-k", "paul-file.p12"]
            signer = ["--signer", "anna-file.crt" if name == "paul" else "anna.sig"]
            (tmp_path / "anna.sig").write_bytes(_data("anna").files["EF.CERT.SIG"])
            good(rx("open", "rx.p7m", *words, *(signer if more else [])))
    good(sign(rx, PATIENT_WAY, to="max"))
    good(rx("open", "rx.p7m", "-k", "paul-file.p12", *by_card("max", whose="patient-")))


def test_no_pin_is_asked_for_what_would_be_refused_anyhow(rx):
    good(sign(rx))
    for words in (["open", "rx.p7m", *by_card("rita", "wrong")],
                  ["sign", "rx.json", *by_card("max", "wrong"), "--way", PHARMACIST_WAY,
                   "--pharmacist", "paul.crt", "-o", "other.p7m"]):
        done = rx(*words)
        assert done.status in (3, 5)
        assert "PIN" not in done.err
    assert SoftwareCard.open("rita.hpjc", WORDS).data.references[1].left == 3


def test_a_wrong_pin_signs_nothing_and_the_last_try_is_kept(rx, tmp_path):
    for left in (2, 1):
        done = sign(rx, who=by_card("anna", "wrong"))
        assert (done.status, "wrong PIN" in done.err) == (6, True)
        assert f"{left} tr" in done.err
    kept = sign(rx, who=by_card("anna", "wrong"))
    assert (kept.status, "this is the last try" in kept.err) == (6, True)
    last = sign(rx, who=[*by_card("anna", "wrong"), "--last-try"])
    assert (last.status, "it is blocked" in last.err) == (6, True)
    blocked = sign(rx)
    assert (blocked.status, "its PIN is blocked" in blocked.err) == (6, True)
    assert not (tmp_path / "rx.p7m").exists()
    assert not (tmp_path / "rx.p7s").exists()


def test_a_card_file_cut_or_of_another_passphrase_is_refused(rx, tmp_path):
    (tmp_path / "words").write_text("another\n")
    assert sign(rx).status == 3
    assert not (tmp_path / "rx.p7m").exists()


@pytest.mark.parametrize(("words", "text"), [
    (["open", "rx.json"], "give --key FILE or --card"),
    (["open", "rx.json", "-k", "x", "--card"], "give one of them"),
    (["open", "rx.json", "--card-file", "anna.hpjc", "--passphrase-file", "words"],
     "give one of them"),
    (["open", "rx.json", "-k", "x", "--pin-file", "pin"], "is of use with --card only"),
    (["sign", "rx.json", "-k", "x", "--way", PATIENT_PRIVATE, "-o", "y", "--patient-agent",
      "unix:x", "--patient-reader", "x"], "--patient-agent and --patient-reader"),
    (["sign", "rx.json", "-k", "x", "--way", PHARMACIST_WAY, "-o", "y", "--pharmacist",
      "loewe@pharmacy.test"], "no directory is known"),
    (["open", "rx.p7m", "-k", "paul.p12", "--patient-card-file", "max.hpjc",
      "--patient-card-passphrase-file", "words", "--identity-document", "passport"],
     "give one of them"),
])  # fmt: skip
def test_keys_and_cards_that_cannot_be_meant_together(rx, tmp_path, words, text):
    if "paul.p12" in words:
        write_p12(tmp_path, "paul", clinic().paul)
    done = rx(*words)
    assert (done.status, text in done.err) == (2, True), done.err


def test_a_card_without_or_with_a_foreign_certificate_is_no_holder():
    for files, text in (({"EF.CERT.SIG": b""}, "no certificate to sign"),
                        ({"EF.CERT.SIG": _data("rita").files["EF.CERT.SIG"]}, "of another key")):
        data = _data("anna")
        changed = state.CardData(data.role, True, {**data.files, **files}, data.references,
                                 data.keys)
        with CardSession(InProcess(SoftwareCard(MemoryStore(changed.encode())))) as session, \
                pytest.raises(TokenError, match=text):
            cards.card_holder(session, "sign", lambda: None)


def test_a_key_wrapped_for_another_does_not_unwrap_on_a_card():
    """RSA: the card says 6A80, which is the envelope's fault, not the card's."""
    with _session("paul") as session:
        session.verify(PIN)
        holder = cards.card_holder(session, "decrypt", lambda: None)
        sealed = envelope.seal(b"content", [holder.certificate])
        at = sealed.index(b"\x04\x82\x01\x80") + 4
        changed = sealed[:at] + b"\x01" * 384 + sealed[at + 384 :]
        with pytest.raises(DamagedError, match="does not unwrap"):
            envelope.open_envelope(changed, holder)
        assert envelope.open_envelope(sealed, holder) == b"content"


def _session(name, transport=InProcess):
    return CardSession(transport(SoftwareCard(MemoryStore(_data(name).encode())), name))


# ---- the patient's private key -----------------------------------------------------


class Pad(InProcess):
    """A reader with keys of its own, and a patient who types."""

    has_pad, typed = True, PIN

    def verify_on_pad(self, request):
        command = request[19:]
        return self._card.transmit(command[:5] + reference_block(self.typed))


def at_the_pad(name, transport):
    """A prescription that its doctor signs while this patient's card is in a reader."""
    c, shown = clinic(), []
    with _session(name, transport) as session:
        made = protect(
            compose(FACTS), c.anna, PATIENT_PRIVATE, trust=c.trust(),
            pharmacist=c.paul.certificate,
            authorise=cards.at_the_pad(session, c.sources(), shown.append,
                                       CardSession.verify_on_pad),
        )
    return made, "".join(shown)


def test_the_patient_authorises_at_a_reader_with_a_pin_pad(need_module):
    need_module("fhir", "prescription")
    made, shown = at_the_pad("max", Pad)
    assert "Ibuprofen 600 mg" in shown
    c = clinic()
    certificate = x509.load_der_x509_certificate(_data("max").files["EF.CERT.SIG"])
    opened = open_prescription(made.data, c.paul, c.sources(), patient=certificate)
    assert "authorisation" in [word for word, _ in opened.checks]


def test_without_a_pin_pad_with_another_card_or_a_wrong_pin_nothing_is_authorised(need_module):
    need_module("fhir", "prescription")
    with pytest.raises(PolicyError, match="no PIN pad, so the patient's PIN would get here"):
        at_the_pad("max", InProcess)
    with pytest.raises(PolicyError, match="not of the patient that the prescription names"):
        at_the_pad("moritz", Pad)
    wrong = type("Wrong", (Pad,), {"typed": WRONG_PIN})
    with pytest.raises(WrongPinError, match="2 tries are left"):
        at_the_pad("max", wrong)


def agent(*words, answer="y\n", cwd="."):
    """The patient's program; it waits for a question."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", "prescription", "patient-agent", *words,
         "--listen", "unix:agent", "--once"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1",
             "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert "patient's program at" in process.stdout.readline(), process.communicate(timeout=100)
    process.stdin.write(answer)
    process.stdin.flush()
    return process


@pytest.mark.parametrize(("card", "pin", "status", "text"), [
    ("max", "pin", 0, "signed, patient-private-key"),
    ("max", "wrong", 6, "wrong PIN; 2 tries are left"),
    ("moritz", "pin", 5, "is not of the patient that the prescription names"),
])
def test_the_patient_s_program_signs_by_card_and_keeps_the_pin(rx, card, pin, status, text):
    process = agent(*by_card(card, pin))
    try:
        done = sign(rx, PATIENT_PRIVATE, "--patient-agent", "unix:agent")
    finally:
        out, err = process.communicate(timeout=100)
    assert (done.status, text in done.err) == (status, True), done.err + err
    assert ("tries are left for the PIN" in err) == (card == "max"), err
    if status:
        return
    assert "Ibuprofen 600 mg" in out
    without = rx("open", "rx.p7m", *by_card("paul"))
    assert (without.status, "give --patient-certificate" in without.err) == (2, True)
    wrong = rx("open", "rx.p7m", *by_card("paul"), *by_card("moritz", whose="patient-"))
    assert (wrong.status, "not of the patient" in wrong.err) == (5, True)
    found = good(rx("open", "rx.p7m", *by_card("paul"), *by_card("max", whose="patient-")))
    assert "the patient's private key authorised" in found.err
    assert found.err.count("left for the PIN") == 1  # the patient's card is only read


# ---- receipts -----------------------------------------------------------------------


@pytest.fixture
def register(rx, tmp_path):
    """Options of a register in another process."""
    c = clinic()
    for name, use in (("register", "tls-server"), ("shop", "tls-client")):
        (tmp_path / f"{name}.tls").write_bytes(tls_pem(c.machine(name, use)))
        (tmp_path / f"{name}.tls").chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", "prescription", "register", "serve", "--listen",
         "127.0.0.1:0", "--database", "register.sqlite", "--tls-identity", "register.tls"],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
             "PYTHONUNBUFFERED": "1"},
    )
    try:
        address = process.stdout.readline().split()[-1]
        yield ["--register", address, "--tls-identity", "shop.tls"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_all_three_read_the_receipt_with_their_cards(rx, register):
    """The doctor signs with one certificate and reads with another: it is found in the document."""
    good(sign(rx, PATIENT_WAY, to="max"))
    words = ["dispense", "rx.p7m", *by_card("paul"), *register]
    assert rx(*words, "--receipt", "receipt.p7m").status == 3
    good(rx(*words, *by_card("max", whose="patient-"), "--receipt", "receipt.p7m"))
    for name in ("anna", "max", "paul"):
        done = good(rx("verify", "receipt.p7m", *by_card(name), "--of", "rx.p7s"))
        assert "of this prescription and its medications" in done.err
    again = rx(*words, *by_card("max", whose="patient-"), "--receipt", "second.p7m")
    assert (again.status, "was dispensed on" in again.err) == (5, True)
    past = json.loads(good(rx("history", ".", *by_card("max"), "--json")).out)
    assert past["prescriptions"][0]["dispensed"]
    wrong = rx("history", ".", *by_card("max", "wrong"))
    assert (wrong.status, "wrong PIN" in wrong.err) == (6, True)


def test_the_doctor_s_card_cancels(rx, register):
    good(sign(rx))
    serial = json.loads(rx("verify", "rx.p7s", "--json").out)["prescription"]["serial"]
    good(rx("cancel", serial, *by_card("anna"), *register))
    done = rx("dispense", "rx.p7m", *by_card("paul"), *register, "--receipt", "r.p7m")
    assert (done.status, "was cancelled on" in done.err) == (5, True)


def test_a_doctor_s_certificate_to_encrypt_to_that_is_no_doctor_s_is_not_taken(rx):
    """What lies in the document beside the signer's certificate is not signed by it."""
    from dicomcrypt.prescription import receipts
    from dicomcrypt.prescription.holders import Holder

    c = clinic()
    anna = c.doctors.leaf("Anna Arzt", role="physician", email="anna@clinic.test",
                          uses=["signing"])
    wrong = [c.people.leaf("Anna Arzt", role="pharmacist", email="anna@clinic.test",
                           uses=["encryption"]),
             c.doctors.leaf("Otto", role="physician", email="otto@clinic.test",
                            uses=["encryption"])]
    chain = (c.doctors.certificate, *(w.certificate for w in wrong))
    made = c.protected(doctor=Holder(anna.key, anna.certificate, chain))
    opened = open_prescription(made.data, c.paul, c.sources())
    assert receipts.doctor_reader(opened, c.sources()) is None
    right = c.doctors.leaf("Anna Arzt", role="physician", email="anna@clinic.test",
                           uses=["encryption"]).certificate
    made = c.protected(doctor=Holder(anna.key, anna.certificate, (*chain, right)))
    opened = open_prescription(made.data, c.paul, c.sources())
    assert receipts.doctor_reader(opened, c.sources()) == right
