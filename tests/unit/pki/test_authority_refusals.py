"""What an authority does not do, whatever became of its folder and its certificates."""

import datetime
import os
import shutil
import sqlite3

import pytest
from certificates import fresh_key, key
from cryptography import x509

from dicomcrypt import policy
from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    DiskFullError,
    PolicyError,
    UsageError,
)
from dicomcrypt.pki import attributes, files, names
from dicomcrypt.pki.authority import Authority
from dicomcrypt.pki.names import Role, Subject
from dicomcrypt.pki.revocation import number_of

ANNA = Subject("Arzt", "Anna", role=Role.PHYSICIAN)
DAY = datetime.timedelta(days=1)


def give():
    return "words"


def create(folder, organisation, **options):
    return Authority.create(
        folder, organisation=organisation, passphrase=give(), **{"kind": "p256", **options})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca") / "ca"
    create(folder, "Klinik").database.close()
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "ca")
    return tmp_path / "ca"


@pytest.fixture
def ca(folder):
    with Authority(folder) as authority:
        yield authority


@pytest.fixture
def rules():
    yield lambda name: policy.use(policy.preset(name))
    policy.use(None)


def change(folder, text, values=()):
    database = sqlite3.connect(folder / "ca.sqlite")
    database.execute("PRAGMA ignore_check_constraints = ON")
    database.execute(text, values)
    database.commit()
    database.close()


# ---- keys ----------------------------------------------------------------------


def test_a_compromised_key_gets_nothing_any_more(ca):
    public = fresh_key().public_key()
    first, second = (ca.issue(public, ANNA, ["both"], give) for _ in range(2))
    other = ca.issue(fresh_key().public_key(), ANNA, ["both"], give)
    ca.revoke(first.serial_number, "keyCompromise")
    assert [row["serial"] for row in ca.others_of_key(first.serial_number)] == [
        f"{second.serial_number:x}"]
    for attempt in (
        lambda: ca.issue(public, ANNA, ["both"], give),
        lambda: ca.renew(second.serial_number, give),
        lambda: ca.renew(other.serial_number, give, public=public),
        lambda: attributes.of_authority(ca, second, give, permissions=["dispense"]),
    ):
        with pytest.raises(PolicyError, match="no longer secret"):
            attempt()
    ca.renew(other.serial_number, give)


def test_a_superseded_key_may_be_certified_again(ca):
    public = fresh_key().public_key()
    ca.revoke(ca.issue(public, ANNA, ["both"], give).serial_number, "superseded")
    ca.issue(public, ANNA, ["both"], give)


@pytest.mark.parametrize("reason", ["superseded", "certificateHold"])
def test_a_revoked_holder_or_authority_gets_and_gives_nothing(ca, reason):
    holder = ca.issue(fresh_key().public_key(), ANNA, ["both"], give)
    well = ca.issue(fresh_key().public_key(), ANNA, ["both"], give)
    ca.revoke(holder.serial_number, reason)
    with pytest.raises(PolicyError, match="holder's certificate"):
        attributes.of_authority(ca, holder, give, permissions=["dispense"])
    ca.revoke(ca.certificate("attribute").serial_number, reason)
    with pytest.raises(PolicyError, match="attribute authority"):
        attributes.of_authority(ca, well, give, permissions=["dispense"])
    ca.revoke(ca.certificate("issuing").serial_number, reason)
    for attempt in (lambda: ca.issue(fresh_key().public_key(), ANNA, ["both"], give),
                    lambda: ca.renew(well.serial_number, give)):
        with pytest.raises(PolicyError, match="issuing authority"):
            attempt()


def test_key_and_certificate_belong_together(ca, folder):
    shutil.copy(folder / "root.key", folder / "issuing.key")
    with pytest.raises(DamagedError, match=r"issuing\.crt beside it"):
        ca.unlock("issuing", give)


def test_the_policy_is_asked(ca, rules, tmp_path):
    public = key("rsa-2048").public_key()
    ca.issue(public, ANNA, ["signing"], give)
    rules("bsi")
    with pytest.raises(PolicyError, match="rsa-pss-sha256"):
        ca.issue(public, ANNA, ["signing"], give)
    with pytest.raises(PolicyError, match="rsa-oaep-sha256"):
        ca.issue(public, ANNA, ["encryption"], give)
    with pytest.raises(PolicyError, match="ml-dsa-65"):
        create(tmp_path / "new", "X", kind="ml-dsa-65")
    ca.issue(fresh_key().public_key(), ANNA, ["both"], give)
    strict = dict(policy.preset("default")) | {"ecdsa-sha256": policy.rules.Rule("decrypt-only")}
    policy.use(policy.Policy("strict", "test", strict, "refused"))
    for attempt in (lambda: ca.make_crl("issuing", give),
                    lambda: ca.issue(fresh_key().public_key(), ANNA, ["both"], give)):
        with pytest.raises(PolicyError, match="ecdsa-sha256"):
            attempt()


# ---- lists ---------------------------------------------------------------------


def test_a_database_of_yesterday_makes_no_older_list(ca, folder):
    one = ca.issue(fresh_key().public_key(), ANNA, ["both"], give)
    ca.database.close()
    backup = (folder / "ca.sqlite").read_bytes()
    with Authority(folder) as authority:
        two = authority.issue(fresh_key().public_key(), ANNA, ["both"], give)
        authority.revoke(one.serial_number, "keyCompromise")
        authority.revoke(two.serial_number, "superseded")
        assert number_of(authority.make_crl("issuing", give)) == 2
    (folder / "ca.sqlite").write_bytes(backup)
    with Authority(folder) as authority:
        with pytest.raises(PolicyError, match=r"number 2.*knows of 1.*old copy.*--force"):
            authority.make_crl("issuing", give)
        crl = authority.make_crl("issuing", give, force=True)
        assert number_of(crl) == 3
        named = {entry.serial_number for entry in crl}
        assert named == {one.serial_number, two.serial_number}
        assert authority.database.find(one.serial_number)["reason"] == "keyCompromise"
        again = authority.make_crl("issuing", give, force=True)
        assert {entry.serial_number for entry in again} == named


def test_a_list_of_somebody_else_is_not_gone_on_from(ca, folder):
    (folder / "issuing.crl").write_bytes((folder / "root.crl").read_bytes())
    with pytest.raises(DamagedError, match=r"issuing\.crl"):
        ca.make_crl("issuing", give)
    (folder / "issuing.crl").unlink()
    assert number_of(ca.make_crl("issuing", give)) == 2


# ---- the database ----------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "CREATE TRIGGER t AFTER UPDATE ON certificates BEGIN UPDATE certificates SET status = 'valid', "
    "revoked = NULL, reason = NULL; END",
    "CREATE VIEW v AS SELECT 1", "CREATE TABLE other (a)",
    "ALTER TABLE certificates ADD COLUMN more TEXT",
])  # fmt: skip
def test_a_foreign_schema_is_refused(folder, text):
    change(folder, text)
    with pytest.raises(DamagedError, match="something else"):
        Authority(folder)


def test_a_revocation_that_does_not_stick_is_told(ca, monkeypatch):
    one = ca.issue(fresh_key().public_key(), ANNA, ["both"], give)
    rows = ca.database.rows
    monkeypatch.setattr(ca.database, "rows", lambda text, values=(): (
        [] if text.startswith("UPDATE") else rows(text, values)))
    with pytest.raises(DamagedError, match="does not change"):
        ca.revoke(one.serial_number, "superseded")


@pytest.mark.parametrize(("column", "value"), [
    ("serial", "xyz"), ("serial", "0"), ("issuer", "nobody"), ("kind", "x"), ("subject", b"\xff"),
    ("email", b"3"), ("role", "king"), ("uses", b"a"), ("begin", "then"), ("end", b"x"),
    ("issued", "2027-99-99T00:00:00Z"), ("status", "dead"), ("status", "hold"),
    ("revoked", "2027-01-01T00:00:00Z"), ("revoked", "x"), ("reason", "b a d"), ("renews", "q"),
    ("der", "text"),
])  # fmt: skip
def test_rows_that_were_edited(folder, column, value):
    text = f"UPDATE certificates SET {column} = ? WHERE issuer = 'issuing'"  # noqa: S608
    change(folder, text, [value])
    with Authority(folder) as authority:
        with pytest.raises(DamagedError, match="restore it"):
            list(authority.listing())
        if column not in ("issuer", "serial"):
            with pytest.raises(DamagedError):
                authority.make_crl("issuing", give)


def test_numbers_and_certificates_that_were_edited(folder):
    change(folder, "UPDATE lists SET number = 'many' WHERE issuer = 'issuing'")
    with Authority(folder) as authority, pytest.raises(DamagedError, match="number"):
        authority.make_crl("issuing", give)
    change(folder, "UPDATE certificates SET der = x'3000'")
    with Authority(folder) as authority, pytest.raises(DamagedError, match="what is kept"):
        authority.others_of_key(authority.certificate("issuing").serial_number)


def test_a_full_disk(ca):
    pages = ca.database.rows("PRAGMA page_count")[0]["page_count"]
    ca.database.rows(f"PRAGMA max_page_count = {pages}")
    key_of_it = ca.unlock("issuing", give)
    ca.unlock = lambda *_: key_of_it

    def fill():
        for _ in range(200):
            ca.issue(PUBLIC, ANNA, ["both"], give)

    with pytest.raises(DiskFullError, match="no room is left"):
        fill()


PUBLIC = key().public_key()


def test_a_folder_that_others_may_write_is_refused(folder):
    folder.chmod(0o770)
    with pytest.raises(UsageError, match="chmod 700"):
        Authority(folder)


# ---- names, dates, addresses -----------------------------------------------------


def test_names_are_counted_in_bytes(tmp_path):
    assert Subject("\u00e4" * 32).x509_name()
    with pytest.raises(UsageError, match="64 bytes"):
        Subject("\u00e4" * 33)
    with pytest.raises(UsageError, match="64 bytes"):
        create(tmp_path / "ca", "\u96fb" * 22)
    with create(tmp_path / "ca", "\u96fb" * 21) as authority:
        subjects = {authority.certificate(i).subject for i in ("root", "issuing", "attribute")}
        assert len(subjects) == 3


@pytest.mark.parametrize(("begin", "end"), [
    (datetime.datetime(1949, 12, 31), None), (datetime.datetime.min, None),
    (datetime.datetime(9999, 6, 1), None), (None, datetime.datetime(1, 1, 1)),
    (datetime.datetime.max, datetime.datetime.max),
    (datetime.datetime.min.replace(tzinfo=datetime.timezone(2 * DAY / 24)), None),
])  # fmt: skip
def test_dates_that_no_certificate_states(ca, begin, end):
    with pytest.raises(UsageError):
        ca.issue(PUBLIC, ANNA, ["both"], give, begin=begin, end=end)


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "http://a b/", "http://", "x", "http://h/\n", "https://u:p@h/",
    "http://h/\u00e4", "javascript:alert(1)", "http://[::1", "http://h/" + "a" * 2000,
])  # fmt: skip
def test_addresses_of_lists(tmp_path, url):
    with pytest.raises(UsageError, match="address of a revocation list"):
        create(tmp_path / "ca", "X", crl_url=url)
    assert not (tmp_path / "ca").exists()


# ---- attribute certificates ------------------------------------------------------


def test_attribute_certificates_live_no_longer_than_their_holder_s(ca):
    holder = ca.issue(fresh_key().public_key(), ANNA, ["both"], give, end=names.now() + 30 * DAY)
    with pytest.raises(UsageError, match="outlive its holder"):
        attributes.of_authority(ca, holder, give, permissions=["dispense"],
                                end=names.now() + 31 * DAY)
    made = attributes.of_authority(ca, holder, give, permissions=["dispense"])
    assert made.end == holder.not_valid_after_utc


def test_attribute_certificates_for_holders_of_others(ca, tmp_path, monkeypatch):
    monkeypatch.setenv("DICOMCRYPT_CONFIG", "")
    with create(tmp_path / "other", "Other") as other:
        holder = other.issue(fresh_key().public_key(), ANNA, ["both"], give)
        with pytest.raises(CertificateRefusedError) as caught:
            attributes.of_authority(ca, holder, give, permissions=["dispense"])
        assert caught.value.reason == "wrong-issuer"
        (tmp_path / "config.toml").write_text(
            '[trust]\nroots = ["other/root.crt"]\nintermediates = ["other/issuing.crt"]\n')
        monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
        attributes.of_authority(ca, holder, give, permissions=["dispense"])


# ---- requests ----------------------------------------------------------------------


def test_a_request_signed_with_sha1_is_told_to_be_one(tmp_path, need_command):
    import subprocess

    openssl = need_command("openssl", "openssl")
    subprocess.run([openssl, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "k",
                    "-sha1", "-subj", "/CN=x", "-out", "r.csr"], cwd=tmp_path, check=True,
                   capture_output=True)
    with pytest.raises(CertificateRefusedError, match="SHA-1") as caught:
        files.load_request(tmp_path / "r.csr")
    assert caught.value.reason == "algorithm"


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        files.load_certificates(tmp_path / "pipe")


def test_what_is_not_delivered_is_not_issued(ca):
    def fails(_):
        raise OSError("no room")

    before = len(list(ca.listing()))
    with pytest.raises(OSError, match="no room"):
        ca.issue(PUBLIC, ANNA, ["both"], give, deliver=fails)
    holder = ca.issue(PUBLIC, ANNA, ["both"], give)
    with pytest.raises(OSError, match="no room"):
        attributes.of_authority(ca, holder, give, permissions=["dispense"], deliver=fails)
    assert len(list(ca.listing())) == before + 1
    assert isinstance(holder, x509.Certificate)
