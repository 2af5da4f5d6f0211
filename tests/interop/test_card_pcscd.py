"""Cards through a real pcscd, whose virtual readers hold software cards; both are of the tests'
own, in a network namespace."""

import re
import subprocess
import sys

import clinic
import pcscd
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from terminal import environment

import dicomcrypt as dc
from dicomcrypt.card import events, profile, transport
from dicomcrypt.card.identity import card_identity
from dicomcrypt.card.keys import card_key
from dicomcrypt.card.profile import CardRole, KeyKind, Slot
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.errors import TokenError, UsageError, WrongPinError
from tests.conftest import need

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
    for event in events.watch(60):
        seen.append(event)
        first = [e for e in seen if e.reader == pcscd.NAMES[0]]
        if len(first) == 4 and len(seen) == 6:
            break
        if event is first[-1]:
            if event.what == "inserted":
                readers.slots[0].remove()
            elif event.what == "removed":
                readers.settle()
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
        timeout=100, check=False, env={**environment(), "PCSCLITE_CSOCK_NAME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr == "dicomcrypt: no card service answers: start pcscd\n"
    monkeypatch.setitem(sys.modules, "smartcard", None)
    with pytest.raises(dc.DicomcryptError, match=r"pip install 'dicomcrypt\[card\]'"):
        transport.library()


def test_opensc_reads_the_card(readers, card):
    tool = need("opensc-tool", "opensc")

    def run(*words):
        return subprocess.run([tool, *words], capture_output=True, text=True, timeout=100,
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


def test_a_command_that_the_driver_cannot_send_throws_the_card_out_for_a_moment(readers, card):
    """vpcd counts in 16 bits, and hangs up after a longer one."""
    for _ in range(2):
        with readers.session() as session, pytest.raises(TokenError, match="the card was removed"):
            session.connection.transport.transmit(bytes.fromhex("00D6000000FFFF") + bytes(65535))
        clinic.await_cards([False])
        clinic.await_cards([True, True])
        with readers.session() as session:
            assert session.tries() == 3


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
