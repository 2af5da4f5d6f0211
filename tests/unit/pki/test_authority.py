"""The authority: what it issues, what it refuses, and that it forgets nothing."""

import datetime
import os
import sqlite3
import stat
import subprocess
import sys

import pytest
from certificates import fresh_key, key
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    NoIdentityError,
    OutputExistsError,
    PolicyError,
    UsageError,
)
from dicomcrypt.pki import files, names
from dicomcrypt.pki.authority import Authority, new_serial
from dicomcrypt.pki.checking import Trust, check_certificate
from dicomcrypt.pki.names import Role, Subject

WORDS = "of the issuing one"
ANNA = Subject("Arzt", "Anna", "Klinikum Nord", "Radiologie", "anna@klinikum.example",
               Role.PHYSICIAN)  # fmt: skip
PUBLIC = key("p256").public_key()


def give():
    return WORDS


def make(folder, **options):
    options = {"kind": "p256", "root_passphrase": "of the root", **options}
    return Authority.create(folder, organisation="Klinikum Nord", passphrase=WORDS, **options)


@pytest.fixture
def ca(tmp_path):
    with make(tmp_path / "ca") as authority:
        yield authority


def trust(authority, *, lists=True):
    crls = [c for i in ("root", "issuing", "attribute")
            for c in files.load_crls(authority.folder / f"{i}.crl")]
    return Trust((authority.certificate("root"),),
                 (authority.certificate("issuing"), authority.certificate("attribute")),
                 tuple(crls) if lists else (), lists)  # fmt: skip


def test_the_folder_and_the_keys_are_for_their_owner_alone(ca):
    assert stat.S_IMODE(os.stat(ca.folder).st_mode) == 0o700
    for path in ca.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for issuer in ("root", "issuing", "attribute"):
        text = (ca.folder / f"{issuer}.key").read_bytes()
        assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_keys_open_with_their_passphrase_alone(ca):
    for issuer, words in (("root", WORDS), ("issuing", "of the root"), ("issuing", "")):
        with pytest.raises(NoIdentityError, match="passphrase is wrong"):
            ca.unlock(issuer, lambda words=words: words)
    with pytest.raises(NoIdentityError, match="give its passphrase"):
        ca.unlock("issuing", lambda: None)
    ca.unlock("root", lambda: "of the root")


def test_a_certificate_carries_everything(ca):
    begin = names.now()
    end = begin + datetime.timedelta(days=100)
    made = ca.issue(PUBLIC, ANNA, ["both"], give, begin=begin, end=end)
    facts = names.facts(made)
    assert facts.as_subject() == ANNA
    assert (facts.begin, facts.end) == (begin, end)
    assert abs(facts.constructed - begin) < datetime.timedelta(minutes=1)
    assert not facts.authority
    own = {names.ROLE, names.CONSTRUCTED}
    assert [e.critical for e in made.extensions if e.oid in own] == [False, False]
    checked = check_certificate(made, trust(ca), purpose="encrypt", role="physician")
    assert checked.role is Role.PHYSICIAN


def test_a_tls_server_s_certificate_has_nothing_that_gnutls_does_not_load(ca):
    """slapd with GnuTLS 3.7 refuses identifiers below 2.25: only a role brings them in there."""
    host = [x509.DNSName("ldap.example")]
    made = ca.issue(PUBLIC, Subject("ldap"), ["tls-server"], give, hosts=host)
    assert not any(e.oid.dotted_string.startswith("2.25.") for e in made.extensions)
    check_certificate(made, trust(ca), purpose="tls-server")
    renewed = ca.renew(made.serial_number, give)
    assert names.facts(renewed).constructed is None
    for subject, uses in ((Subject("PACS", role=Role.APPLICATION), ["tls-server"]),
                          (Subject("both"), ["tls-server", "tls-client"])):
        made = ca.issue(PUBLIC, subject, uses, give, hosts=host)
        assert names.facts(made).constructed is not None


@pytest.mark.parametrize("subject", [
    Subject("PACS"), Subject("PACS gateway", role=Role.APPLICATION, organisation="Klinikum"),
    Subject("Müller-Łuka", "Žofia", role=Role.PATIENT), Subject("電気", "池", email="a@b.example"),
    Subject("Krankenhaus", role=Role.HOSPITAL), Subject("O'Brien, \"X\" + <y>=;#", "\\", "a=b,c"),
])  # fmt: skip
def test_holders_of_every_kind_come_back(ca, subject):
    made = ca.issue(PUBLIC, subject, ["encryption"], give)
    again = x509.load_der_x509_certificate(made.public_bytes(serialization.Encoding.DER))
    assert names.facts(again).as_subject() == subject


@pytest.mark.parametrize("options", [
    {"name": ""}, {"name": "x" * 65}, {"name": "a\nb"}, {"name": "a\u202eb"},
    {"name": "x" * 40, "first_name": "y" * 40}, {"email": "anna"}, {"email": "a@b c"},
    {"email": "änna@b.example"}, {"email": "a@b\r\nBcc: c"}, {"role": "king"},
    {"first_name": "Anna", "role": "hospital"},
])  # fmt: skip
def test_holders_that_cannot_be(options):
    with pytest.raises(UsageError):
        Subject(**{"name": "Arzt", **options})


def test_serials_are_large_and_never_twice():
    found = {new_serial() for _ in range(1000)}
    assert len(found) == 1000
    assert all(0 < serial < 1 << 159 for serial in found)
    assert max(found) > 1 << 150


def test_what_cannot_be_issued(ca):
    now = names.now()
    day = datetime.timedelta(days=1)
    with pytest.raises(PolicyError, match="1024 bits"):
        ca.issue(key("rsa-1024").public_key(), ANNA, ["both"], give)
    with pytest.raises(UsageError, match="outlive"):
        ca.issue(PUBLIC, ANNA, ["both"], give, end=now + 5000 * day)
    with pytest.raises(UsageError, match="begin before"):
        ca.issue(PUBLIC, ANNA, ["both"], give, begin=now, end=now - day)
    with pytest.raises(UsageError, match="cannot be for"):
        ca.issue(key("x25519").public_key(), ANNA, ["signing"], give)
    with pytest.raises(UsageError, match="cannot be for"):
        ca.issue(key("ml-dsa-65").public_key(), ANNA, ["encryption"], give)
    with pytest.raises(UsageError, match="--dns"):
        ca.issue(PUBLIC, ANNA, ["tls-server"], give)
    with pytest.raises(UsageError, match="for something"):
        ca.issue(PUBLIC, ANNA, [], give)
    with pytest.raises(NoIdentityError):
        ca.issue(PUBLIC, ANNA, ["both"], lambda: "wrong")
    assert len(list(ca.listing())) == 3  # its own, and nothing half done


def test_an_authority_is_made_whole_or_not_at_all(tmp_path, ca):
    with pytest.raises(OutputExistsError):
        make(ca.folder)
    for options in ({"kind": "rsa-1024"}, {"root_years": 5, "issuing_years": 9},
                    {"root_passphrase": ""}):
        with pytest.raises(UsageError):
            make(tmp_path / "other", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ca"]
    with pytest.raises(UsageError, match="no authority"):
        Authority(tmp_path)


@pytest.mark.parametrize("kind", ["p384", "ml-dsa-65"])
def test_every_kind_of_authority_issues(tmp_path, kind):
    with make(tmp_path / "ca", kind=kind) as authority:
        made = authority.issue(PUBLIC, ANNA, ["encryption"], give)
        check_certificate(made, trust(authority), purpose="encrypt")


def test_a_revoked_certificate_is_on_every_list_that_follows(ca):
    made = [ca.issue(PUBLIC, ANNA, ["both"], give) for _ in range(3)]
    ca.revoke(made[0].serial_number, "keyCompromise")
    ca.revoke(made[1].serial_number, "certificateHold")
    first = ca.make_crl("issuing", give)
    ca.release(made[1].serial_number)
    second = ca.make_crl("issuing", give, days=7)
    number = [c.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
              for c in (first, second)]
    assert number == [2, 3]  # the empty one was the first
    assert [len(first), len(second)] == [2, 1]
    entry = second.get_revoked_certificate_by_serial_number(made[0].serial_number)
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    with pytest.raises(CertificateRefusedError, match="no longer secret"):
        check_certificate(made[0], trust(ca), purpose="any")
    check_certificate(made[1], trust(ca), purpose="any")


def test_an_issuing_authority_is_revoked_by_the_root(ca):
    made = ca.issue(PUBLIC, ANNA, ["both"], give)
    ca.revoke(ca.certificate("issuing").serial_number, "cACompromise")
    ca.make_crl("root", lambda: "of the root")
    with pytest.raises(CertificateRefusedError) as caught:
        check_certificate(made, trust(ca), purpose="any")
    assert caught.value.reason == "revoked"


def test_what_cannot_be_revoked(ca):
    made = ca.issue(PUBLIC, ANNA, ["both"], give)
    with pytest.raises(UsageError, match="was issued here"):
        ca.revoke(1234, "superseded")
    with pytest.raises(UsageError, match="no reason"):
        ca.revoke(made.serial_number, "because")
    with pytest.raises(UsageError, match="root"):
        ca.revoke(ca.certificate("root").serial_number, "superseded")
    with pytest.raises(UsageError, match="not on hold"):
        ca.release(made.serial_number)
    ca.revoke(made.serial_number, "superseded")
    with pytest.raises(UsageError, match="already"):
        ca.revoke(made.serial_number, "superseded")


def test_a_renewed_certificate_is_the_same_but_for_dates_and_serial(ca):
    hosts = [x509.DNSName("pacs.example")]
    old = ca.issue(PUBLIC, Subject("PACS", role=Role.APPLICATION, email="pacs@b.example"),
                   ["tls-server", "encryption"], give, hosts=hosts)
    new = ca.renew(old.serial_number, give)
    assert new.serial_number != old.serial_number
    same = {x509.SubjectAlternativeName, x509.KeyUsage, x509.ExtendedKeyUsage,
            x509.SubjectKeyIdentifier}
    for kind in same:
        values = [c.extensions.get_extension_for_class(kind).value for c in (old, new)]
        assert values[0] == values[1], kind
    assert names.facts(new).as_subject() == names.facts(old).as_subject()
    other = fresh_key().public_key()
    assert ca.renew(old.serial_number, give, public=other).public_key() == other
    ca.revoke(old.serial_number, "keyCompromise")
    with pytest.raises(PolicyError, match="revoked"):
        ca.renew(old.serial_number, give)
    with pytest.raises(UsageError, match="no holder"):
        ca.renew(ca.certificate("issuing").serial_number, give)


def test_the_list_shows_what_there_is(ca):
    one = ca.issue(PUBLIC, ANNA, ["both"], give)
    begin = names.now() - datetime.timedelta(days=9)
    old = ca.issue(PUBLIC, Subject("Apothekerin", "Berta", role=Role.PHARMACIST), ["both"], give,
                   begin=begin, end=begin + datetime.timedelta(days=1))  # fmt: skip
    ca.revoke(one.serial_number, "superseded")

    def serials(**options):
        return [row["serial"] for row in ca.listing(**options)]

    assert serials(status="revoked") == serials(text="ANNA@") == [f"{one.serial_number:x}"]
    assert serials(status="expired") == serials(role="pharmacist") == [f"{old.serial_number:x}"]
    assert len(serials()) == 5
    assert all("der" not in row for row in ca.listing())


_MANY = """
import sys
from dicomcrypt.pki.authority import Authority
from dicomcrypt.pki.names import Subject
from cryptography.hazmat.primitives.asymmetric import ec
public = ec.generate_private_key(ec.SECP256R1()).public_key()
with Authority(sys.argv[1]) as ca:
    key = ca.unlock("issuing", lambda: sys.argv[2])
    ca.unlock = lambda *_: key
    for number in range(12):
        made = ca.issue(public, Subject(f"{sys.argv[3]} {number}"), ["both"], None)
        ca.revoke(made.serial_number, "superseded")
        ca.make_crl("issuing", None)
"""


def test_processes_that_issue_at_once_lose_nothing(ca):
    workers = [
        subprocess.Popen([sys.executable, "-c", _MANY, ca.folder, WORDS, f"worker {n}"])
        for n in range(2)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    rows = [row for row in ca.listing() if row["kind"] == "certificate"]
    assert len({row["serial"] for row in rows}) == len(rows) == 24
    lists = ca.database.rows("SELECT number FROM lists WHERE issuer = 'issuing' ORDER BY number")
    assert [row["number"] for row in lists] == list(range(1, 26))
    last = files.load_crls(ca.folder / "issuing.crl")[0]
    assert len(last) == 24  # the newest list is the one that stayed


def test_a_serial_twice_is_an_error_that_changes_nothing(ca, monkeypatch):
    made = ca.issue(PUBLIC, ANNA, ["both"], give)
    monkeypatch.setattr("dicomcrypt.pki.authority.new_serial", lambda: made.serial_number)
    with pytest.raises(DamagedError):
        ca.issue(PUBLIC, ANNA, ["both"], give)
    assert len(list(ca.listing())) == 4


def test_a_damaged_database_is_said_to_be_one(ca):
    path = ca.folder / "ca.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(DamagedError, match="damaged"):
        Authority(ca.folder)
    path.unlink()
    sqlite3.connect(path).close()
    with pytest.raises(UsageError, match="version"):
        Authority(ca.folder)


# ---- requests and keys -------------------------------------------------------


def request(secret, *extensions, subject="CN=Anna"):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name.from_rfc4514_string(subject))
    for value in extensions:
        builder = builder.add_extension(value, False)
    return builder.sign(secret, hashes.SHA256())


def test_a_request_that_is_altered_or_none(tmp_path):
    path = tmp_path / "it.csr"
    der = bytearray(request(key()).public_bytes(serialization.Encoding.DER))
    path.write_bytes(der)
    files.load_request(path)
    der[-3] ^= 1
    path.write_bytes(der)
    with pytest.raises(CertificateRefusedError) as caught:
        files.load_request(path)
    assert caught.value.reason == "bad-signature"
    for data in (b"", b"hello", bytes(der[:50]), b"-----BEGIN CERTIFICATE REQUEST-----\nAA"):
        path.write_bytes(data)
        with pytest.raises(UsageError):
            files.load_request(path)


def test_a_bare_key_is_taken_for_kinds_alone_that_cannot_sign(tmp_path):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path = tmp_path / "it.pem"
    path.write_bytes(key("x25519").public_key().public_bytes(serialization.Encoding.PEM, form))
    assert files.load_request(path) == key("x25519").public_key()
    path.write_bytes(PUBLIC.public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(UsageError, match="make a request"):
        files.load_request(path)


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_encrypted_keys_of_other_programs(tmp_path, form):
    path = tmp_path / "it.key"
    path.write_bytes(key().private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form),
        serialization.BestAvailableEncryption(b"words")))  # fmt: skip
    with pytest.raises(NoIdentityError, match="give its passphrase"):
        files.load_private_key(path)
    with pytest.raises(NoIdentityError, match="wrong"):
        files.load_private_key(path, lambda: "other")
    with pytest.raises(UsageError, match="a passphrase cannot hold a NUL"):
        files.load_private_key(path, lambda: "wo\0rds")
    assert files.load_private_key(path, lambda: "words").public_key() == PUBLIC
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises((UsageError, NoIdentityError)):
        files.load_private_key(path, lambda: "words")


@pytest.mark.parametrize("oid", ["30", "32", "49", "53", "59"])
def test_the_professions_of_german_cards_are_roles(oid):
    from certificates import Maker

    profession = x509.ObjectIdentifier(f"1.2.276.0.76.4.{oid}")
    info = x509.ProfessionInfo(None, ["x"], [profession], None, None)
    admissions = x509.Admissions(None, [x509.Admission(None, None, [info])])
    leaf = Maker.root().leaf(extra=[(admissions, False)])
    assert names.role_of(leaf.certificate.extensions) is names.PROFESSIONS[profession.dotted_string]
    checked = check_certificate(leaf.certificate, leaf.trust(), purpose="encrypt")
    assert checked.role is names.PROFESSIONS[profession.dotted_string]
