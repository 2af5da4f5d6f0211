"""Objects signed by a card."""

import pickle

import clinic
import pytest

from dicomcrypt.card.identity import card_signer
from dicomcrypt.card.profile import CardRole
from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import InProcess
from dicomcrypt.errors import CertificateRefusedError, TokenError, UsageError
from dicomcrypt.keys import home
from dicomcrypt.keys.cms import verify_cms


@pytest.fixture
def trust(ward):
    return ("--trust-root", ward.folder / "ca" / "root.crt",
            "--trust-intermediate", ward.folder / "ca" / "issuing.crt")


def test_a_tree_is_signed_for_somebody_else(run, card, pin, trust, tmp_path):
    """--reader and --card-file with --sign-card say who signs, not who reads."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / str(number)).write_bytes(b"study %d" % number)
    run("keygen", "-o", "other.key")
    told = run("encrypt", "in", "-r", "other.pub", "--sign-card", *card, *pin, "-o", "safe",
               "--no-recovery", "-j", 1, *trust)
    assert told.exit_code == 0
    assert told.output.count("tries are left") == 1
    assert "its signature key was used 3 times" in told.output
    told = run("verify", "safe", "-i", "other.key", "--require-signature", *trust, "-j", 1)
    assert "3 done" in told.output
    assert run("decrypt", "safe/0.dcmx", *card, *pin, "-o", "x").exit_code == 3


def test_one_pin_for_reading_and_signing(run, card, pin, trust, tmp_path):
    (tmp_path / "one").write_bytes(b"a study")
    run("encrypt", "one", "--card", "--sign-card", *card, *pin, "--no-recovery", *trust)
    run("keygen", "-o", "other.key")
    told = run("rewrap", "one.dcmx", "--card", "--sign-card", *card, *pin, "--remove",
               _hint(run, card, pin), "--add", "other.pub", *trust)
    assert told.exit_code == 0, told.output
    assert told.output.count("tries are left") == 1
    run("decrypt", "one.dcmx", "-i", "other.key", "-o", "two", "--require-signature", *trust)
    assert (tmp_path / "two").read_bytes() == b"a study"


def _hint(run, card, pin):
    run("card", "cert", "export", "DEC", "-o", "dec.crt", *card)
    return "dec.crt"


def test_what_is_refused(run, card, pin, ward, tmp_path):
    (tmp_path / "one").write_bytes(b"a study")
    run("keygen", "-o", "k")
    sign = ("encrypt", "one", "-r", "k.pub", "--no-recovery", "--sign-card")
    with pytest.raises(UsageError, match="--sign-card and --sign-with"):
        run(*sign, *card, *pin, "--sign-with", "x")
    run("pki", "init", "other", "--organisation", "Other", "--type", "p256",
        "--passphrase-file", ward.folder / "words")
    with pytest.raises(CertificateRefusedError):
        run(*sign, *card, *pin, "--trust-root", "other/root.crt")
    SoftwareCard.create(tmp_path / "empty.hpjc", clinic.WORDS, CardRole.PATIENT).close()
    with pytest.raises(TokenError, match="no certificate to sign with"):
        run(*sign, *ward.place("empty.hpjc"))
    assert not (tmp_path / "one.dcmx").exists()


def test_a_worker_asks_for_signatures(ward, monkeypatch):
    with CardSession(InProcess(SoftwareCard.in_memory(CardRole.PATIENT))) as session:
        ward.personalise(session)
        session.verify(clinic.PIN)
        signer = card_signer(session)
        away = pickle.loads(pickle.dumps(signer))  # noqa: S301
        assert (away.size, away.public_key, away.chain) == (
            signer.size, signer.public_key, signer.chain)
        with pytest.raises(TokenError, match="cannot be asked here"):
            away.sign(b"m")
        monkeypatch.setattr(home, "ask",
                            lambda q: pickle.loads(pickle.dumps(q)).answer())  # noqa: S301
        assert verify_cms(b"m", away.sign(b"m")).public_key == signer.public_key
        assert signer.operations == 1
