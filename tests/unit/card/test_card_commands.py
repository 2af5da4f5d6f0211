"""`dicomcrypt card` and `--card`, on software cards without a reader."""

import json
import subprocess

import card_world
import clinic
import pytest
import slapd
from certificates import Maker
from confidential import file_of, small
from directory_world import entry
from terminal import on_terminal

from dicomcrypt.card import profile, security
from dicomcrypt.card.profile import CardRole, KeyKind, Slot
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.cli import card_cert
from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    TokenError,
    UsageError,
    WrongPinError,
)
from dicomcrypt.pki import files
from tests.conftest import need, require_module


@pytest.mark.parametrize("kind", ["p256", pytest.param("rsa-3072", marks=pytest.mark.soak)])
def test_attribute_confidentiality_for_the_card(kind, run, pin, ward, tmp_path):
    card = ward.new_file("std.hpjc", "physician", "Arzt", "Anna", "--type", kind)
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / str(number)).write_bytes(file_of(small(InstanceNumber=number)))
    root = "--trust-root", ward.folder / "ca" / "root.crt"
    run("standard", "protect", "in", *card, "-o", "out", *root, "-j", 1)
    assert b"Mustermann" not in (tmp_path / "out" / "1").read_bytes()
    run("standard", "reveal", "out", *card, *pin, "-o", "back", "-j", 2)
    for number in range(3):
        name = str(number)
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_a_card_is_made_and_shown(run, card, ward):
    facts = json.loads(run("card", "info", *card, "--json").stdout)
    assert (facts["holder"], facts["role"], facts["operational"]) == ("Anna Arzt", "professional",
                                                                      True)
    assert (facts["pin_tries"], facts["puk_uses"]) == (3, 10)
    assert set(facts["keys"].values()) == {"P-256"}
    assert facts["certificates"]["EF.PUBLIC.CERT.PHAR"] is None
    table = run("card", "cert", "list", *card).stdout
    for text in ("DEC ", "Anna Arzt", "Issuing CA"):
        assert text in table
    told = json.loads(run("card", "cert", "list", *card, "--json").stdout)
    assert told["DEC"]["role"] == "physician"
    with pytest.raises(UsageError, match="in operation already"):
        ward.new_file("doctor.hpjc", "physician", "Arzt", "Anna")
    with pytest.raises(UsageError, match="not for the role patient"):
        ward.new_file("doctor.hpjc", "patient", "Arzt", "Anna")


def test_the_command_line_knows_all_files_for_certificates():
    known = {file.name for file in profile.FILES.values() if ".CERT." in file.name}
    assert set(card_cert.FILES.values()) == known


def test_an_archive_for_the_card(run, card, pin, ward, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / str(number)).write_bytes(b"study %d" % number)
    run("encrypt", "in", *card, "-o", "safe", "--no-recovery", "--trust-root",
        ward.folder / "ca" / "root.crt", "-j", 1)
    said = run("decrypt", "safe", *card, *pin, "-o", "back", "-j", 1).output
    assert "3 tries are left for the PIN" in said
    assert "its key was used once" in said
    assert (tmp_path / "back" / "4").read_bytes() == b"study 4"
    run("verify", "safe", *card, *pin, "-j", 1)
    said = run("decrypt", "safe/1.dcmx", *card, *pin, "-o", "one", "-q").output
    assert "used" not in said


def test_options_that_do_not_go_together(run, card, ward):
    for words, why in (
        (("card", "info", *card, "--reader", "x"), "--reader and --card-file"),
        (("card", "info", "--card-passphrase-file", "x"), "is of use with --card-file only"),
        (("card", "init", *card, "--role", "physician", "--name", "x"), "one of --ca and --req"),
        (("card", "cert", "fetch", *card, "--role", "hospital"), "one of --email and --name"),
        (("card", "emulate", "a", "b", "c"), "two virtual readers"),
        (("card", "emulate", "a", "b", "--new", "patient"), "once for each file"),
        (("vault", "ls", "x"), "give|open the vault with -i FILE, --card"),
        (("decrypt", "x"), "--identity FILE, --card or"),
    ):
        with pytest.raises(UsageError, match=why):
            run(*words)
    assert run("card", "info", *card[:2]).exit_code == 2  # no terminal to ask on


def test_pins_are_never_taken_from_the_command_line(run, card):
    for command in ("00200001 0C 31323334FFFFFFFFFFFFFFFF31", "0024000101FF", "002C000101FF"):
        with pytest.raises(UsageError, match="never given on the command line"):
            run("card", "apdu", command.replace(" ", ""), *card)
    with pytest.raises(UsageError, match="not hexadecimal"):
        run("card", "apdu", "xyz", *card)
    with pytest.raises(UsageError, match="at least four bytes"):
        run("card", "apdu", "00A4", *card)
    shown = run("card", "apdu", "00A4000C023F00", "00200001", *card).stdout
    assert "3 tries are left (63C3)" in shown
    told = json.loads(run("card", "apdu", "00FE0000", *card, "--json").stdout)
    assert (told[0]["status"], told[0]["meaning"][:8]) == ("6D00", "the card")


def test_signatures_are_those_that_openssl_verifies(run, card, pin, ward, tmp_path):
    openssl = need("openssl", "openssl")
    (tmp_path / "letter").write_bytes(b"Dear colleague")
    run("card", "sign", "letter", *card, *pin)
    run("card", "sign", "letter", *card, *pin, "--raw")
    run("card", "cert", "export", "sig", "-o", "sig.crt", *card)
    public = files.load_certificate(tmp_path / "sig.crt").public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    (tmp_path / "sig.pem").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for words in (
        ["cms", "-verify", "-binary", "-inform", "DER", "-in", "letter.p7s", "-content", "letter",
         "-CAfile", str(ward.folder / "ca" / "root.crt"), "-purpose", "any"],
        ["dgst", "-sha256", "-verify", "sig.pem", "-signature", "letter.sig", "letter"],
    ):
        done = subprocess.run([openssl, *words], capture_output=True, cwd=tmp_path, check=False,
                              timeout=100)
        assert done.returncode == 0, done.stderr


def test_hashes(run, card, pin, tmp_path):
    (tmp_path / "record").write_bytes(b"a record")
    with pytest.raises(UsageError, match="no hash in it"):
        run("card", "hash", "check", "record", *card)
    run("card", "hash", "write", "record", *card, *pin)
    assert "sha256" in run("card", "hash", "check", "record", *card).output
    (tmp_path / "record").write_bytes(b"another record")
    with pytest.raises(DamagedError, match="not the file whose hash is in the card"):
        run("card", "hash", "check", "record", *card)


def test_tries_are_shown_and_the_last_one_is_kept(run, card, pin, ward, tmp_path):
    (tmp_path / "record").write_bytes(b"a record")
    wrong = ("card", "hash", "write", "record", *card, "--pin-file", ward.folder / "wrong")
    for _ in range(2):
        with pytest.raises(WrongPinError, match="left"):
            run(*wrong)
    with pytest.raises(TokenError, match="last try before the PIN is blocked: give --last-try"):
        run(*wrong)
    with pytest.raises(TokenError, match="last try"):
        run("card", "pin", "change", *card, *pin, "--new-pin-file", ward.folder / "other")
    assert run("card", "pin", "tries", *card).stdout == "PIN 1\nPUK 10\n"
    with pytest.raises(WrongPinError, match="it is blocked"):
        run(*wrong, "--last-try")
    with pytest.raises(WrongPinError, match="card pin unblock"):
        run(*wrong, "--last-try")
    unblock = ("card", "pin", "unblock", *card, "--new-pin-file", ward.folder / "other")
    (tmp_path / "puk").write_text("99999999\n")
    with pytest.raises(WrongPinError, match="the PUK is wrong; 9 uses"):
        run(*unblock, "--puk-file", "puk")
    run(*unblock, "--puk-file", ward.folder / "puk")
    run("card", "pin", "change", *card, "--pin-file", ward.folder / "other",
        "--new-pin-file", ward.folder / "pin")
    with clinic.opened(tmp_path / "doctor.hpjc") as session:
        for left in range(7, 0, -1):
            with pytest.raises(WrongPinError) as caught:
                session.unblock_pin("99999999", clinic.PIN)
            assert caught.value.tries == left
    with pytest.raises(TokenError, match="the last use of the PUK: give --last-try"):
        run(*unblock, "--puk-file", "puk")
    for more in (["--last-try"], []):
        with pytest.raises(WrongPinError, match="cannot be unblocked any more"):
            run(*unblock, "--puk-file", "puk", *more)


def test_what_is_typed_in_another_encoding_is_refused(run, card, tmp_path):
    status, shown = on_terminal(tmp_path, "passphrase of the card file", b"gr\xfcn", "card", "info",
                                *card[:2])
    assert status == 2, shown
    assert "is not in the terminal's encoding" in shown
    assert "Traceback" not in shown


def test_partners_are_vouched_for_by_somebody(run, pin, ward):
    place = ward.place("new.hpjc")
    run("card", "init", *place, "--requests", "out", "--role", "pharmacist", "--name", "P",
        "--first-name", "P", *pin, "--puk-file", ward.folder / "puk")
    fake = Maker.root("Hospital").leaf("Fake", uses=("encryption",), role="hospital")
    with open("fake.crt", "wb") as file:
        file.write(fake.der())
    put = ("card", "cert", "import", "fake.crt", "--file", "HOSP", *place, *pin)
    with pytest.raises(UsageError, match=r"nobody vouches .* the card has no EF\.CERT\.CA"):
        run(*put)
    with pytest.raises(CertificateRefusedError):
        run(*put, "--trust-root", ward.folder / "ca" / "root.crt")


def test_requests_for_another_authority(run, pin, ward, tmp_path):
    place = ward.place("new.hpjc")
    run("card", "init", *place, "--requests", "out", "--authority",
        ward.folder / "ca" / "issuing.crt", "--role", "pharmacist", "--name", "Apothekerin",
        "--first-name", "Paula", *pin, "--puk-file", ward.folder / "puk")
    for slot, use in (("SIG", "signing"), ("DEC", "encryption"), ("AUT", "tls-client")):
        run("pki", "issue", f"out/{slot}.csr", "--ca", ward.folder / "ca", "--role", "pharmacist",
            "--for", use, "--passphrase-file", ward.folder / "words", "-o", f"{slot}.crt")
        other = "DEC" if slot != "DEC" else "SIG"
        with pytest.raises(UsageError, match="not of the card's key"):
            run("card", "cert", "import", f"{slot}.crt", "--file", other, *place, *pin)
        run("card", "cert", "import", f"{slot}.crt", "--file", slot, *place, *pin)
    with clinic.opened(tmp_path / "new.hpjc") as session:
        session.verify(clinic.PIN)
        with pytest.raises(TokenError, match=r"EF\.CERT\.CA"):  # was for the initialisation only
            session.update("EF.CERT.CA", b"x")
    assert "Paula" in run("card", "cert", "list", *place).stdout


def test_one_damaged_certificate_does_not_hide_the_others(run, card, tmp_path):
    with clinic.opened(tmp_path / "doctor.hpjc") as session:
        session.verify(clinic.PIN)
        session.update("EF.PUBLIC.CERT.DOC", b"no certificate")
    table = run("card", "cert", "list", *card).stdout
    assert "Anna Arzt" in table
    assert "DOC            damaged" in table
    assert json.loads(run("card", "cert", "list", *card, "--json").stdout)["DOC"] == {
        "damaged": True}


def test_partners_certificates_are_judged(run, card, pin, ward):
    ward.new_file("other.hpjc", "pharmacist", "Apothekerin", "Paula")
    run("card", "cert", "export", "DEC", "-o", "paula.crt", *ward.place("other.hpjc"))
    root = ("--trust-root", ward.folder / "ca" / "root.crt",
            "--trust-intermediate", ward.folder / "ca" / "issuing.crt")
    with pytest.raises(CertificateRefusedError, match="role"):
        run("card", "cert", "import", "paula.crt", "--file", "DOC", *card, *pin, *root)
    run("card", "cert", "import", "paula.crt", "--file", "PHAR", *card, *pin, *root)
    run("card", "cert", "import", "paula.crt", "--file", "PHAR", *card, *pin)  # by EF.CERT.CA
    assert "Paula" in run("card", "cert", "list", *card).stdout
    run("pki", "init", "elsewhere", "--organisation", "Elsewhere", "--type", "p256",
        "--passphrase-file", ward.folder / "words")
    with pytest.raises(CertificateRefusedError):
        run("card", "cert", "import", "paula.crt", "--file", "PHAR", *card, *pin, "--trust-root",
            "elsewhere/root.crt")


def test_partners_certificates_are_fetched_from_a_directory(run, card, pin, ward, tmp_path,
                                                            monkeypatch):
    require_module("pyasn1_modules", "ldap")
    if slapd.find_slapd() is None:
        need("slapd", "slapd")
    ward.new_file("other.hpjc", "pharmacist", "Apothekerin", "Paula", "--email",
         "paula@apotheke.test")
    run("card", "cert", "export", "DEC", "-o", "paula.crt", *ward.place("other.hpjc"))
    paula, base = files.load_certificate("paula.crt"), "dc=trust,dc=test"
    ldif = entry(base, "paula@apotheke.test", "Paula Apothekerin", paula)
    with slapd.serve(tmp_path / "ldap", base, ldif=ldif) as server:
        config = tmp_path / "config.toml"
        config.write_text(f'[directories.trust]\nurl = "{server.url}"\nbase = "{base}"\n')
        monkeypatch.setenv("DICOMCRYPT_CONFIG", str(config))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        fetch = ("card", "cert", "fetch", *card, *pin, "--email", "paula@apotheke.test", "--role")
        with pytest.raises(Exception, match="states the role physician"):
            run(*fetch, "physician")
        assert "is in EF.PUBLIC.CERT.PHAR" in run(*fetch, "pharmacist").output
    with clinic.opened(tmp_path / "doctor.hpjc") as session:
        assert session.certificate("EF.PUBLIC.CERT.PHAR") == paula


def test_cryptograms_of_other_programs(run, pin, ward, tmp_path, monkeypatch):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    pairs = (card_world.key(slot, KeyKind.RSA_3072) for slot in Slot)
    monkeypatch.setitem(security._MAKERS, KeyKind.RSA_3072, lambda: next(pairs))
    place = ward.new_file("rsa.hpjc", "physician", "Arzt", "Anna", "--type", "rsa-3072")
    run("card", "cert", "export", "DEC", "-o", "dec.crt", *place)
    public = files.load_certificate("dec.crt").public_key()
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    (tmp_path / "note.bin").write_bytes(public.encrypt(b"a note", oaep))
    run("card", "decrypt", "note.bin", "-o", "note", *place, *pin)
    assert (tmp_path / "note").read_bytes() == b"a note"
    assert (tmp_path / "note").stat().st_mode & 0o777 == 0o600
    assert run("card", "decrypt", "note.bin", "-o", "-", *place, *pin).stdout == "a note"
    (tmp_path / "bad.bin").write_bytes(b"\1" * 384)
    for name, why in (("bad.bin", "does not open"), ("dec.crt", "no cryptogram of this card")):
        with pytest.raises(DamagedError, match=why):
            run("card", "decrypt", name, "-o", "x", *place, *pin)
    (tmp_path / "one").write_bytes(b"a study")
    run("encrypt", "one", *place, "--no-recovery")
    with pytest.raises(UsageError, match="dicomcrypt decrypt --card"):
        run("card", "decrypt", "one.dcmx", "-o", "x", *place, *pin)
    run("decrypt", "one.dcmx", *place, *pin, "-o", "two")
    assert (tmp_path / "two").read_bytes() == b"a study"


def test_an_empty_card_is_no_recipient_or_identity(run, ward, tmp_path):
    SoftwareCard.create(tmp_path / "empty.hpjc", clinic.WORDS, CardRole.PATIENT).close()
    place = ward.place("empty.hpjc")
    (tmp_path / "one").write_bytes(b"a study")
    with pytest.raises(TokenError, match="no certificate to encrypt to"):
        run("encrypt", "one", *place, "--no-recovery")
    with pytest.raises(TokenError, match="it has no key DEC"):
        run("decrypt", "one", *place, "-o", "x")
    facts = json.loads(run("card", "info", *place, "--json").stdout)
    assert facts["keys"] == dict.fromkeys(map(str, Slot))
    assert facts["pin_tries"] is None
