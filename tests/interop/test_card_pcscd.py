"""Cards through a real pcscd, whose virtual readers hold software cards; both are of the tests'
own, in a network namespace."""

import importlib.util
import os
import pathlib
import pty
import re
import subprocess
import sys
import threading
import time

import clinic
import pcscd
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import dicomcrypt as dc
from dicomcrypt.card import events, profile, state, transport
from dicomcrypt.card.identity import card_identity
from dicomcrypt.card.keys import card_key
from dicomcrypt.card.profile import CardRole, KeyKind, Slot
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.errors import CertificateRefusedError, TokenError, UsageError, WrongPinError
from tests.conftest import _missing, need

PACKAGE = pathlib.Path(dc.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def room():
    missing = pcscd.available()
    if missing is not None:
        _missing(missing)
    if not importlib.util.find_spec("smartcard"):
        _missing("pyscard missing: apt-get install libpcsclite-dev; pip install 'dicomcrypt[card]'")
    with pcscd.serve() as room:
        yield room


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    real, state.PIN_COST = state.PIN_COST, 8  # guessing does not matter here
    yield clinic.Clinic(tmp_path_factory.mktemp("ward"))
    state.PIN_COST = real


@pytest.fixture(scope="module")
def readers(room, ward):
    """Both cards in the readers, personalised through them."""
    with clinic.Inserted(room, ward.cards) as inserted:
        for number in range(2):
            with inserted.session(number) as session:
                ward.personalise(session)
        yield inserted


@pytest.fixture
def card(readers):
    """The doctor's card in its reader, all its tries there again after the test."""
    yield readers.cards[0]
    readers.cards[0].pull_at = 0
    readers.settle()
    with readers.session() as session:
        session.unblock_pin(clinic.PUK, clinic.PIN) if session.tries() != 3 else None


@pytest.fixture
def command(readers, tmp_path, monkeypatch):
    """The command line, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return clinic.invoke


def environment():
    places = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


# ---- readers -------------------------------------------------------------------


def test_readers_and_what_is_in_them(readers, command):
    found = transport.readers()
    assert [r.name for r in found] == list(pcscd.NAMES)
    assert [r.atr for r in found] == [profile.atr(role) for role in CardRole]
    table = command("card", "list").stdout.splitlines()
    assert re.match(r"HPJC 00 00 +HPJC professional", table[0])
    assert re.match(r"HPJC 00 01 +HPJC patient", table[1])
    with pytest.raises(UsageError, match="several readers fit: say which by --reader"):
        command("card", "info")
    with pytest.raises(TokenError, match="no reader 'Kobil': there is 'HPJC 00 00', 'HPJC 00 01'"):
        command("card", "info", "--reader", "Kobil")
    assert "Anna Arzt" in command("card", "info", "--reader", "00 00").stdout


def test_events_tell_what_is_put_in_and_taken_out(readers, card):
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(events.watch(2.5)))
    thread.start()
    time.sleep(0.3)
    readers.slots[0].remove()
    clinic.await_cards([False])
    readers.settle()
    thread.join()
    first = [e for e in seen if e.reader == pcscd.NAMES[0]]
    assert [e.what for e in first] == ["attached", "inserted", "removed", "inserted"]
    assert first[1].atr == first[3].atr == profile.atr(CardRole.PROFESSIONAL)
    assert [e.what for e in seen if e.reader == pcscd.NAMES[1]] == ["attached", "inserted"]


def test_nobody_else_uses_a_card_that_is_in_use(readers, card):
    with readers.session() as session:
        session.verify(clinic.PIN)
        with pytest.raises(TokenError, match=r"'HPJC 00 00': another program is using the card"):
            readers.session()
    with readers.session() as session:  # and the PIN that was given does not outlive its session
        assert session.tries() == 3


def test_no_service_and_no_library_are_said(monkeypatch):
    done = subprocess.run(
        [sys.executable, "-m", "dicomcrypt", "card", "list"], capture_output=True, text=True,
        timeout=30, check=False, env={**environment(), "PCSCLITE_CSOCK_NAME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr == "dicomcrypt: no card service answers: start pcscd\n"
    monkeypatch.setitem(sys.modules, "smartcard", None)
    with pytest.raises(dc.DicomcryptError, match=r"pip install 'dicomcrypt\[card\]'"):
        transport.library()


def test_opensc_reads_the_card(readers, card):
    tool = need("opensc-tool", "opensc")

    def run(*words):
        return subprocess.run([tool, *words], capture_output=True, text=True, timeout=30,
                              check=False, env=environment())

    assert "HPJC 00 01" in run("-l").stdout
    assert run("-r", "0", "-a").stdout.strip() == profile.atr(CardRole.PROFESSIONAL).hex(":")
    gdo = run("-r", "0", "-s", "00A4000C023F00", "-s", "00A4020C022F02", "-s", "00B0000000").stdout
    assert "SW1=0x90, SW2=0x00" in gdo
    assert "nna Arzt" in gdo  # the second line of 16 bytes
    assert "SW1=0x6D" in run("-r", "0", "-s", "00FE000000").stdout


# ---- operations, and cards that are pulled ------------------------------------------


def _sign(session):
    session.verify(clinic.PIN)
    key = card_key(session, Slot.SIG)
    signature = key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))


def _decrypt(session):
    identity = card_identity(session)
    blob = dc.encrypt(b"a study", [identity.recipient])
    session.verify(clinic.PIN)
    assert dc.decrypt(blob, [identity]) == b"a study"


def _hash(session):
    session.verify(clinic.PIN)
    session.update("EF.HASH", profile.hash_content(bytes(32)))
    assert profile.parse_hash(session.read("EF.HASH")) == ("sha256", bytes(32))


def _change(session):
    session.change_pin(clinic.PIN, clinic.PIN)


def _unblock(session):
    session.unblock_pin(clinic.PUK, clinic.PIN)


def _certificate(session):
    assert session.certificate("EF.CERT.DEC") is not None


def _challenge(session):
    session.verify(clinic.PIN)
    assert session.is_operational()
    assert session.tries() is None


OPERATIONS = {"sign": _sign, "decrypt": _decrypt, "hash": _hash, "change": _change,
              "unblock": _unblock, "certificate": _certificate, "status": _challenge}


def _pulled(readers, card, operation, number, done):
    """Pull the card at a command of an operation, and put it in again; return whether it was."""
    error = None
    with readers.session() as session:
        card.done, card.pull_at = done, number
        try:
            operation(session)
        except TokenError as caught:
            error = caught
    if error is None:
        assert card.pull_at > 0, "it was pulled, and nobody noticed"
        return False
    assert str(error).startswith("reader 'HPJC 00 00': ")
    assert "put it in again" in str(error)
    assert error.exit_status == 6
    readers.settle(pulled=True)
    return True


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_card_pulled_in_the_middle_is_named_and_works_when_it_is_back(readers, card, name):
    operation = OPERATIONS[name]
    with readers.session() as session:
        before = len(card.commands)
        operation(session)
        count = len(card.commands) - before
    place = list(OPERATIONS).index(name)  # at another command each; the long run takes all
    number = (1, (count + 1) // 2, count)[place % 3]
    assert _pulled(readers, card, operation, number, done=bool(place % 2))
    with readers.session() as session:
        session.unblock_pin(clinic.PUK, clinic.PIN) if session.tries() < 2 else None
        operation(session)
        assert session.tries() in (3, None)


@pytest.mark.soak
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_card_pulled_at_any_command_works_when_it_is_back(readers, card, name):
    operation = OPERATIONS[name]
    for done in (False, True):
        number = 1
        while _pulled(readers, card, operation, number, done):
            number += 1
            card.pull_at = 0
            with readers.session() as session:
                if session.tries() != 3:
                    session.verify(clinic.PIN)
        card.pull_at = 0
    with readers.session() as session:
        operation(session)


def test_personalisation_that_was_interrupted_is_begun_anew(room, ward, readers):
    """In the patient's reader, at one of its commands; the card is in operation at the end only."""
    fresh = clinic.Watched(SoftwareCard.in_memory(CardRole.PATIENT))
    slot, before = readers.slots[1], readers.slots[1].card
    slot.remove()
    clinic.await_cards([True, False])
    slot.card, fresh.pull = fresh, slot.remove
    try:
        readers.settle()
        for number in (9, 40):
            with readers.session(1) as session:
                fresh.pull_at = number
                with pytest.raises(TokenError, match="HPJC 00 01"):
                    ward.personalise(session)
            assert not fresh.card.data.operational
            readers.settle(pulled=True)
        with readers.session(1) as session:
            ward.personalise(session, KeyKind.P256)
            assert session.is_operational()
            with pytest.raises(UsageError, match="in operation already"):
                ward.personalise(session)
    finally:
        fresh.pull_at = 0
        slot.remove()
        clinic.await_cards([True, False])
        slot.card = before
        readers.settle()


# ---- the PIN -------------------------------------------------------------------------


def test_wrong_pins_to_the_limit_and_unblocking(readers, card):
    with readers.session() as session:
        for left in (2, 1, 0):
            with pytest.raises(WrongPinError) as caught:
                session.verify(clinic.WRONG)
            assert caught.value.tries == left
            assert ("card pin unblock" in str(caught.value)) == (left == 0)
        with pytest.raises(WrongPinError, match="blocked"):
            session.verify(clinic.PIN)
        with pytest.raises(WrongPinError, match=r"the PUK is wrong; \d uses of it are left"):
            session.unblock_pin("99999999", clinic.PIN)
        session.unblock_pin(clinic.PUK, clinic.OTHER)
        assert session.tries() == 3
        session.verify(clinic.OTHER)
        session.change_pin(clinic.OTHER, clinic.PIN)
    with readers.session() as session:
        with pytest.raises(UsageError, match="6 to 12 digits"):
            session.verify("12")
        assert session.tries() == 3  # what cannot be a PIN costs no try
        session.verify(clinic.PIN)


def test_the_command_line_shows_tries_and_keeps_the_last_one(card, command, ward):
    place = ("--reader", "00 00", "--pin-file")
    write = ("card", "hash", "write", ward.folder / "pin", *place)
    for left in (2, 1):
        with pytest.raises(WrongPinError, match=f"wrong PIN; {left} tr"):
            command(*write, ward.folder / "wrong")
    with pytest.raises(TokenError, match=r"this is the last try .*: give --last-try"):
        command(*write, ward.folder / "wrong")
    with pytest.raises(WrongPinError, match="wrong PIN; it is blocked"):
        command(*write, ward.folder / "wrong", "--last-try")
    with pytest.raises(WrongPinError, match="card pin unblock"):
        command(*write, ward.folder / "pin")
    command("card", "pin", "unblock", "--reader", "00 00", "--puk-file", ward.folder / "puk",
            "--new-pin-file", ward.folder / "other")
    command("card", "pin", "change", "--reader", "00 00", "--pin-file", ward.folder / "other",
            "--new-pin-file", ward.folder / "pin")
    assert "3 tries are left for the PIN" in command(*write, ward.folder / "pin").stderr
    command("card", "hash", "check", ward.folder / "pin", "--reader", "00 00")


# ---- archives ------------------------------------------------------------------------


def _archive(folder, count):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.dcm").write_bytes(number.to_bytes(2, "big") * 500)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_thousand_files_cost_one_pin_and_one_operation(card, command, ward, tmp_path, jobs):
    _archive(tmp_path / "in", 1000)
    place = ("--reader", "00 00")
    root = ("--trust-root", ward.folder / "ca" / "root.crt")
    command("encrypt", "in", "--card", *place, "-o", "safe", "--no-recovery", "-j", 1, *root)
    card.commands.clear()
    done = _on_terminal(
        tmp_path, clinic.PIN, "decrypt", "safe", "--card", *place, "-o", "back", "-j", jobs
    )
    assert done.count("PIN of card HPJC 00 00") == 1
    assert "3 tries are left" in done
    assert "1000 done, 0 skipped, 0 failed" in done
    assert clinic.PIN not in done
    assert card.operations() == 1
    assert sum(c[1] == 0x20 and len(c) > 5 for c in card.commands) == 1
    for number in (0, 999):
        name = f"{number}.dcm"
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def _on_terminal(folder, secret, *words):
    """Run the command line on a terminal, answer its question, return what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", *map(str, words)], cwd=folder, env=environment(),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown, answered = b"", 0
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
            if shown.count(b"PIN of card") > answered and shown.rstrip().endswith(b":"):
                answered += 1
                os.write(ours, f"{secret}\n".encode())
    finally:
        os.close(ours)
        status = process.wait(60)
    assert status == 0, shown
    return shown.decode()


def test_inspect_verify_rewrap_and_vaults_take_the_card(card, command, ward, tmp_path):
    (tmp_path / "one").write_bytes(b"a study")
    key = ("--card", "--reader", "00 00", "--pin-file", ward.folder / "pin")
    command("card", "cert", "export", "DEC", "-o", "doctor.crt", "--reader", "00 00")
    command("encrypt", "one", "-r", "doctor.crt", "--no-recovery", "-o", "one.dcmx")
    assert '"opened"' in command("inspect", "one.dcmx", *key, "--json").stdout
    command("verify", "one.dcmx", *key)
    command("keygen", "-o", "other.key")
    command("rewrap", "one.dcmx", *key, "--add", "other.pub", "--allow-classical")
    command("decrypt", "one.dcmx", "-i", "other.key", "-o", "two")
    assert (tmp_path / "two").read_bytes() == b"a study"
    command("vault", "create", "vault", "-r", "doctor.crt")
    command("vault", "add", "vault", "one", *key, "-j", 1)
    assert "7 B" in command("vault", "ls", "vault", *key).stdout
    command("vault", "get", "vault", "--all", "-o", "from", *key, "-j", 1)
    assert (tmp_path / "from" / "one").read_bytes() == b"a study"


def test_a_certificate_that_is_not_trusted_is_not_encrypted_to(card, command, ward, tmp_path):
    (tmp_path / "one").write_bytes(b"a study")
    command("pki", "init", "other", "--organisation", "Other", "--type", "p256",
            "--passphrase-file", ward.folder / "words")
    with pytest.raises(CertificateRefusedError, match="Anna Arzt"):
        command("encrypt", "one", "--card", "--reader", "00 00", "--no-recovery",
                "--trust-root", "other/root.crt")


def test_a_card_pulled_while_an_archive_is_decrypted(card, command, ward, tmp_path, readers):
    _archive(tmp_path / "in", 20)
    key = ("--card", "--reader", "00 00")
    command("encrypt", "in", *key, "-o", "safe", "--no-recovery", "--quiet", "-j", 1)
    key += "--pin-file", ward.folder / "pin", "-j", 1
    card.commands.clear()
    command("decrypt", "safe", *key, "-o", "back")
    card.done, card.pull_at = False, len(card.commands)  # at the card's only operation
    done = command("decrypt", "safe", *key, "-o", "again")
    assert done.exit_code == 6
    assert "reader 'HPJC 00 00': the card was removed: put it in again" in done.stderr
    assert list((tmp_path / "again").iterdir()) == []
    readers.settle(pulled=True)
    assert "20 done" in command("decrypt", "safe", *key, "-o", "again").stderr


# ---- software cards by the command line -----------------------------------------------


def test_two_empty_cards_are_emulated_and_personalised(ward, tmp_path):
    """`card emulate` in a room of its own; `card init` through its pcscd."""
    need("nsenter", "util-linux")
    with pcscd.serve() as room:
        process = subprocess.Popen(
            room.command(sys.executable, "-m", "dicomcrypt", "card", "emulate", "a.hpjc", "b.hpjc",
                         "--new", "professional", "--new", "patient",
                         "--passphrase-file", str(ward.folder / "words")),
            cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            _await_table(r"HPJC 00 00 +HPJC professional.*HPJC 00 01 +HPJC patient")
            for number, (role, name) in enumerate((("physician", "Anna"), ("patient", "Max"))):
                done = subprocess.run(
                    [sys.executable, "-m", "dicomcrypt", "card", "init", "--ca", ward.folder / "ca",
                     "--role", role, "--name", "Muster", "--first-name", name,
                     "--reader", pcscd.NAMES[number], "--pin-file", ward.folder / "pin",
                     "--puk-file", ward.folder / "puk", "--passphrase-file", ward.folder / "words"],
                    cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
                    check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
                assert f"in operation, for {name} Muster" in done.stderr
        finally:
            process.terminate()
            said = process.communicate(timeout=20)[1]
    assert "a.hpjc: inserted" in said
    assert process.returncode == 0, said
    card = SoftwareCard.open(tmp_path / "b.hpjc", clinic.WORDS)
    assert card.data.operational
    assert profile.parse_gdo(card.data.files["EF.GDO"])[1] == "Max Muster"
    card.close()


def _await_table(pattern):
    """By a process: this one knows the service that it was told of first."""
    end = time.monotonic() + 10
    while True:
        done = subprocess.run([sys.executable, "-m", "dicomcrypt", "card", "list"], text=True,
                              env=environment(), capture_output=True, timeout=20, check=False)
        if re.search(pattern, done.stdout, re.DOTALL):
            return
        assert time.monotonic() < end, done
