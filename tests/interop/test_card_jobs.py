"""What is done with cards through a real pcscd: archives, signatures, card to card, and software
cards by the command line."""

import re
import subprocess
import sys
import time

import clinic
import pcscd
import pytest
from terminal import environment, on_terminal

from dicomcrypt.card import profile
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.errors import CertificateRefusedError
from tests.conftest import need

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
    status, done = on_terminal(
        tmp_path, "PIN of card", clinic.PIN.encode(), "decrypt", "safe", "--card", *place, "-o",
        "back", "-j", jobs,
    )  # fmt: skip
    assert status == 0, done
    assert done.count("PIN of card HPJC 00 00") == 1
    assert "3 tries are left" in done
    assert "1000 done, 0 skipped, 0 failed" in done
    assert clinic.PIN not in done
    assert card.operations() == 1
    assert sum(c[1] == 0x20 and len(c) > 5 for c in card.commands) == 1
    for number in (0, 999):
        name = f"{number}.dcm"
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


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


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_tree_is_signed_by_the_card_under_one_pin(card, command, ward, tmp_path, jobs):
    _archive(tmp_path / "in", 30)
    trust = ("--trust-root", ward.folder / "ca" / "root.crt",
             "--trust-intermediate", ward.folder / "ca" / "issuing.crt")
    command("keygen", "-o", "other.key")
    card.commands.clear()
    done = command("encrypt", "in", "-r", "other.pub", "--sign-card", "--reader", "00 00",
                   *ward.pin, "-o", "safe", "--no-recovery", "-j", jobs, *trust)
    assert "signature key was used 30 times" in done.stderr
    assert card.operations() == 30
    assert sum(c[1] == 0x20 and len(c) > 5 for c in card.commands) == 1
    assert "30 done" in command("verify", "safe", "-i", "other.key", "--require-signature",
                                *trust, "-j", 1).stderr


def test_a_card_pulled_while_a_tree_is_signed(card, command, ward, tmp_path, readers):
    _archive(tmp_path / "in", 20)
    command("keygen", "-o", "other.key")
    words = ("encrypt", "in", "-r", "other.pub", "--sign-card", "--reader", "00 00", *ward.pin,
             "-o", "safe", "--no-recovery", "--quiet", "-j", 2)
    card.done, card.pull_at = False, 40
    done = command(*words)
    assert done.exit_code == 6
    assert "put it in again" in done.stderr
    assert not list((tmp_path / "safe").glob("**/*.part"))
    readers.settle(pulled=True)
    assert command(*words).exit_code == 0
    assert len(list((tmp_path / "safe").iterdir())) == 20


def test_two_cards_meet(readers, command, ward, tmp_path):
    """The doctor's card writes the patient's note; the patient's references take the patient's."""
    (tmp_path / "note").write_text("allergic to penicillin\n")
    patient, doctor = ("--reader", "00 01"), ("--other-reader", "00 00")
    command("card", "note", "set", "note", *patient, *doctor, *ward.pin)
    assert command("card", "note", "show", *patient).stdout == "allergic to penicillin\n"
    root = ("--trust-root", ward.folder / "ca" / "root.crt")
    told = command("card", "authenticate", "--reader", "00 00", "--other-reader", "00 01", *root,
                   *ward.pin)
    assert "card HPJC 00 01" in told.stderr
    assert "accepts it" in told.stderr
    command("card", "patient", "set", *patient, "--add", "urn:rx:160.1", *ward.pin)
    shown = command("card", "patient", "show", *patient, *ward.pin).stdout
    assert shown == "record      -\nmedication  urn:rx:160.1\n"


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
                    cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100,
                    check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
                assert f"in operation, for {name} Muster" in done.stderr
        finally:
            process.terminate()
            said = process.communicate(timeout=100)[1]
    assert "a.hpjc: inserted" in said
    assert process.returncode == 0, said
    card = SoftwareCard.open(tmp_path / "b.hpjc", clinic.WORDS)
    assert card.data.operational
    assert profile.parse_gdo(card.data.files["EF.GDO"])[1] == "Max Muster"
    card.close()


def _await_table(pattern):
    """By a process: this one knows the service that it was told of first."""
    end = time.monotonic() + 60
    while True:
        done = subprocess.run([sys.executable, "-m", "dicomcrypt", "card", "list"], text=True,
                              env=environment(), capture_output=True, timeout=100, check=False)
        if re.search(pattern, done.stdout, re.DOTALL):
            return
        assert time.monotonic() < end, done
