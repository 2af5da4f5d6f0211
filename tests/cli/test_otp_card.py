"""`dicomcrypt otp` with the key of the codes on a card."""

import json

import card_world
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from otp_world import OBJECT, answer_in

from dicomcrypt.card.profile import KeyKind, Slot
from dicomcrypt.card.state import FileStore, StoredKey
from tests.conftest import require_module

require_module("sqlalchemy", "otp")

WORDS = "of the card file"


def card_file(path, secret=None):
    """A personalised card in a file; secret: the RSA key that it signs with, or P-256."""
    data = card_world.card_data()
    if secret is not None:
        data.keys[Slot.SIG] = StoredKey(KeyKind.RSA_3072, card_world.private_der(secret))
        data.files[Slot.SIG.public_file] = card_world.public_der(secret)
    FileStore(path, WORDS, data.encode()).close()


@pytest.fixture(scope="module")
def secrets():
    return [rsa.generate_private_key(65537, 3072) for _ in range(2)]


@pytest.fixture
def run(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_text(WORDS + "\n")
    (tmp_path / "pin").write_text(card_world.PIN + "\n")

    def run(*words, card="otp.hpjc", status=0, entered=""):
        more = () if card is None else ("--card-file", card, "--card-passphrase-file", "words",
                                        "--pin-file", "pin")
        done = call("otp", *words, *more, entered=entered)
        assert done.status == status, done
        return done.out, done.err

    return run


def test_a_card_makes_the_codes(run, secrets, tmp_path):
    card_file(tmp_path / "otp.hpjc", secrets[0])
    card_file(tmp_path / "other.hpjc", secrets[1])
    run("init", "otp")
    assert not (tmp_path / "otp" / "code.key").exists()
    at = "-d", "otp"
    run("person", "add", "anna", "--email", "anna@klinikum.example", *at, card=None)
    link = json.loads(run("link", "create", OBJECT, "--for", "anna", "--bound", "--json", *at,
                          card=None)[0])["link"]
    assert "card" in run("send", link, "anna", "--console", "--reader", "none such", *at,
                           card=None, status=6)[1]
    said = run("send", link, "anna", "--console", *at, card="other.hpjc", status=2)[1]
    assert "not the one" in said
    assert "tries" not in said  # it is not given the PIN of another
    said = run("send", link, "anna", "--console", *at)[1]
    assert "tries are left for the PIN" in said
    code = " ".join(answer_in(said).values())
    assert "right" in run("check", link, "anna", *at, entered=code + "\n")[1]


def test_a_card_that_cannot_make_codes_is_refused(run, tmp_path):
    card_file(tmp_path / "curve.hpjc")
    assert "RSA" in run("init", "otp", card="curve.hpjc", status=2)[1]
    assert not (tmp_path / "otp").exists()


def test_a_card_and_another_key_are_not_mixed(run, secrets, tmp_path):
    card_file(tmp_path / "otp.hpjc", secrets[0])
    assert "one of them" in run("init", "otp", "--code-key", "x", status=2)[1]
    run("init", "otp", "--bits", "2048", card=None)
    assert "not made by a card" in run("deliver", "-d", "otp", status=2)[1]


def test_a_key_in_a_file_is_named_from_where_one_is(run, secrets, tmp_path):
    from cryptography.hazmat.primitives import serialization as ser

    pem = secrets[0].private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    (tmp_path / "own.key").write_bytes(pem)
    (tmp_path / "own.key").chmod(0o600)
    assert "no.key" in run("init", "otp", "--code-key", "no.key", card=None, status=2)[1]
    assert not (tmp_path / "otp").exists()
    run("init", "otp", "--code-key", "own.key", card=None)
    run("deliver", "-d", "otp", card=None)
