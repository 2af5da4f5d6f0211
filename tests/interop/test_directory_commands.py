"""Directories: what is published, kept, set up and typed, with real slapd servers."""

import base64
import dataclasses
import json
import shutil
import subprocess
import sys
import time

import authority as ca
import click.testing
import pytest
import slapd
from directory_world import ADA, admin, at, directory, entry, secure, world  # noqa: F401  a fixture
from ports import free_port

from dicomcrypt.cli.pki_directory import fetch, find, publish
from dicomcrypt.errors import DirectoryError, MissingExtraError, PolicyError, UsageError
from dicomcrypt.pki import directory as dr
from dicomcrypt.pki import directory_publish as dp
from dicomcrypt.pki import directory_queries as dq
from dicomcrypt.pki import ldap_client as ldap
from dicomcrypt.pki.directory_cache import Cache
from tests.conftest import need

# ruff: noqa: F811  a fixture is named where it is imported and where it is used

# ---- publishing -------------------------------------------------------------


def test_published_certificates_are_found_by_another_program(world, tmp_path):
    need("ldapsearch", "ldap-utils")
    carol = world.authority.issue("Carol Ng", email="carol@hospital.test", first="Carol",
                                  last="Ng")
    renewed = world.authority.issue("Carol Ng", email="carol@hospital.test")
    one = admin(world)
    assert dp.publish_certificate(one, carol)[0] == dp.PUBLISHED
    assert dp.publish_certificate(one, carol)[0] == dp.THERE
    assert dp.publish_certificate(one, renewed)[0] == dp.PUBLISHED
    shown = subprocess.run(
        ["ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", world.one.url, "-b",
         world.one.suffix, "(mail=carol@hospital.test)"], check=True, capture_output=True,
        text=True,
    ).stdout
    for certificate in (carol, renewed):
        value = base64.b64encode(ca.der(certificate)).decode()
        assert shown.count(f"userCertificate;binary:: {value}") == 1
    assert "objectClass: inetOrgPerson" in shown
    assert "sn: Ng" in shown


def test_an_authority_and_its_lists_are_published(world):
    one, new = admin(world), ca.Authority("New authority")
    crl, newer = new.crl(start=-2 * ca.HOUR), new.crl(7)
    assert dp.publish_certificate(one, new.certificate)[0] == dp.PUBLISHED
    assert dp.publish_certificate(one, new.certificate)[0] == dp.THERE
    assert dp.publish_crl(one, crl)[0] == dp.PUBLISHED
    assert dp.publish_crl(one, newer)[0] == dp.PUBLISHED
    assert dp.publish_crl(one, newer)[0] == dp.THERE
    with pytest.raises(UsageError, match="has a newer revocation list"):
        dp.publish_crl(one, crl)
    assert dr.Directories([secure(world)]).fetch_crls(new.name).all == [newer]
    assert new.certificate in dr.Directories([secure(world)]).fetch_authorities().all


def test_nothing_is_published_without_a_good_log_in(world, tmp_path):
    with pytest.raises(UsageError, match="takes bind_dn and password_file"):
        dp.publish_certificate(secure(world), world.ada)
    with pytest.raises(UsageError, match="a password goes over TLS only"):
        directory(world.one, bind_dn=world.one.admin, password_file=world.password)
    with pytest.raises(DirectoryError, match="wrong name or password"):
        dp.publish_certificate(
            dataclasses.replace(admin(world), password_file=world.ca), world.ada)
    nobody = world.authority.issue("A machine")
    with pytest.raises(UsageError, match="without an e-mail address"):
        dp.publish_certificate(admin(world), nobody)
    empty = tmp_path / "empty"
    empty.write_text("\n")
    empty.chmod(0o600)
    with pytest.raises(UsageError, match="no password in its first line"):
        dp.publish_certificate(
            dataclasses.replace(admin(world), password_file=str(empty)), world.ada)
    (tmp_path / "gone").mkdir(mode=0o700)
    with pytest.raises(UsageError, match="cannot read password file"):
        dp.publish_certificate(
            dataclasses.replace(admin(world), password_file=str(tmp_path / "gone")), world.ada)
    with (ldap.Connection(world.one.url, deadline=time.monotonic() + 5) as plain,
          pytest.raises(UsageError, match="over TLS only")):
        plain.bind(world.one.admin, "secret")


# ---- the cache --------------------------------------------------------------


@pytest.fixture
def mortal(world, tmp_path):
    """A directory that can be stopped, its server, and a cache."""
    base = "dc=mortal,dc=test"
    with slapd.serve(tmp_path / "mortal", base, ldif=entry(base, ADA, "Ada Lovelace", world.ada)
                     + f"dn: cn=Trust 1,{base}\nobjectClass: organizationalRole\n"
                     "objectClass: pkiCA\ncn: Trust 1\ncertificateRevocationList;binary:: "
                     f"{base64.b64encode(ca.der(world.crl)).decode()}\n\n") as server:
        cache = Cache(tmp_path / "cache" / "c.sqlite")
        yield dr.Directories([directory(server, "mortal")], cache=cache), server.process, cache


def test_answers_are_kept_for_a_while(world, mortal, monkeypatch):
    directories, process, cache = mortal
    assert directories.find_by_email(ADA).answers[0].age is None
    assert directories.find_by_email("no@body.test").answers[0].state == "nothing"
    assert directories.fetch_crls().all == [world.crl]
    assert cache.path.stat().st_mode & 0o777 == 0o600
    assert cache.path.parent.stat().st_mode & 0o777 == 0o700
    process.kill()
    process.wait()
    again = directories.find_by_email(ADA)
    assert again.found == [world.ada]
    assert "kept for" in again.answers[0].sentence
    assert directories.find_by_email("no@body.test").answers[0].state == "nothing"
    assert directories.find_by_name("Ada Lovelace").answers[0].state == "down"
    bare = dr.Directories(directories.directories)
    assert bare.find_by_email(ADA).answers[0].state == "down"

    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 400)
    assert directories.find_by_email("no@body.test").answers[0].state == "down"
    assert directories.find_by_email(ADA).found == [world.ada]
    monkeypatch.setattr(time, "time", lambda: clock() + 3601)
    assert directories.find_by_email(ADA).answers[0].state == "down"
    assert directories.fetch_crls().all == []
    stale = directories.fetch_crls(allow_stale=True)
    assert stale.all == [world.crl]
    said = stale.answers[0].sentence
    assert said.startswith("cannot be reached: connection refused; has 1, kept for")
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    assert directories.find_by_email(ADA).answers[0].state == "down"


def test_a_list_is_not_kept_beyond_its_next_update(world, tmp_path):
    soon = world.authority.crl(end=ca.HOUR / 3600 * 2)
    cache = Cache(tmp_path / "c.sqlite")
    with slapd.forging([ca.der(soon)], dq.CRL) as port:
        directories = dr.Directories([at(port, "short")], cache=cache)
        assert directories.fetch_crls().all == [soon]
        assert directories.fetch_crls().answers[0].age is not None
        time.sleep(max(0, soon.next_update_utc.timestamp() - time.time()) + 0.1)
        answer = directories.fetch_crls().answers[0]
        assert (answer.state, answer.sentence) == ("rejected", "refused: 1 expired")
        assert directories.fetch_crls(allow_stale=True).all == [soon]


def test_a_cache_is_not_believed(world, mortal):
    directories, process, cache = mortal
    directories.find_by_email(ADA)
    settings_of = directories.directories[0].settings
    query = dq.by_email(ADA)
    cache.put(settings_of, query.key, [ca.der(world.mallory), b"junk"])
    answer = directories.find_by_email(ADA).answers[0]
    assert (answer.found, answer.state) == ([], "rejected")
    cache.path.write_bytes(b"not a database at all" * 100)
    assert directories.find_by_email(ADA).found == [world.ada]
    assert directories.find_by_email(ADA).found == [world.ada]
    assert Cache("/dev/null/no/folder").get("a", "b") is None
    # other settings, other answers
    other = dataclasses.replace(directories.directories[0], base="dc=other")
    assert cache.get(other.settings, query.key) is None
    # what today's check does not like is kept for tomorrow's

    def check(certificate):
        raise PolicyError("not today")

    cache.path.unlink()
    assert directories.find_by_email(ADA, check).found == []
    process.kill()
    assert directories.find_by_email(ADA).found == [world.ada]


# ---- settings ---------------------------------------------------------------


@pytest.mark.parametrize(("settings_", "message"), [
    ({"url": "http://x"}, "give ldaps://"), ({"url": "ldap://"}, "give ldaps://"),
    ({"url": "ldap://h:99999"}, "not an address"), ({"url": "ldap://u@h"}, "log-in"),
    ({"url": "ldap://h/dc=x??sub"}, "give ldaps://"), ({"base": ""}, "give the base"),
    ({"timeout": 0}, "time-out"), ({"timeout": float("nan")}, "time-out"),
    ({"url": "ldaps://h", "start_tls": True}, "without start_tls"),
    ({"bind_dn": "cn=a"}, "over TLS only"), ({"password_file": "x"}, "go together"),
])
def test_settings_that_cannot_be_meant_are_refused(settings_, message):
    with pytest.raises(UsageError, match=message):
        dr.Directory(**{"name": "x", "url": "ldap://h", "base": "dc=x", **settings_})


@pytest.mark.parametrize(("text", "message"), [
    ("", "no directory"), ("[directories]\nx = 1", "not a section"),
    ('[directories.a]\nurl = "ldap://h"', "needs url and base"),
    ('[directories.a]\nurl = "ldap://h"\nbase = "dc=x"\npriority = true', "of the wrong type"),
    ('[directories.a]\nurl = "ldap://h"\nbase = "dc=x"\npassword = "x"', "has no 'password'"),
])
def test_configurations_that_cannot_be_meant_are_refused(text, message, tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text(text)
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "c.toml"))
    with pytest.raises(UsageError, match=message):
        dr.find_by_email(ADA)


def test_ca_bundles_that_cannot_be_used_are_named(world, tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    with pytest.raises(UsageError, match=r"junk\.pem' holds no certificates"):
        dr.Directories([secure(world, ca=str(junk))]).find_by_email(ADA)
    with pytest.raises(UsageError, match="cannot read CA bundle '/no/where'"):
        dr.Directories([secure(world, ca="/no/where")]).find_by_email(ADA)


def test_http_proxies_are_not_for_directories(world, monkeypatch):
    with slapd.silent() as port:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        directories = dr.Directories([secure(world), at(free_port(), "down")])
        scan = directories.find_by_email(ADA)
    assert scan.found == [world.ada]
    said = {a.directory.name: a.sentence for a in scan.answers}["down"]
    assert "does not go through the HTTP proxy" in said


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyasn1_modules", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dicomcrypt\[ldap\]'"):
        dr.Directories([at(1, "x")]).find_by_email(ADA)


# ---- the commands -----------------------------------------------------------


@pytest.fixture
def configuration(world, tmp_path, monkeypatch):
    shutil.copy(world.ca, tmp_path / "ca.pem")
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    path = tmp_path / "config.toml"
    path.write_text(f"""
[directories.hospital]
url = "{world.one.tls_url}"
base = "{world.one.suffix}"
ca = "ca.pem"
priority = 1
bind_dn = "{world.one.admin}"
password_file = "password"

[directories.region]
url = "{world.two.url}"
base = "{world.two.suffix}"
priority = 2

[directories.gone]
url = "ldap://127.0.0.1:{free_port()}"
base = "dc=gone"
timeout = 1
""")
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(path))
    return tmp_path


def run(command, *arguments):
    return click.testing.CliRunner().invoke(command, [str(a) for a in arguments])


def test_find_shows_what_each_directory_said(world, configuration):
    result = run(find, "--email", ADA, "-o", configuration / "ada.pem")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("hospital  1   TLS")
    assert lines[2].startswith("gone      10  plain")
    assert lines[2].endswith("cannot be reached: connection refused")
    assert "CN=Ada Lovelace" in lines[3]
    assert (configuration / "ada.pem").read_bytes() == ca.pem(world.ada)
    result = run(find, "--email", ADA, "--json")
    answer = json.loads(result.output)
    assert [d["over"] for d in answer["directories"]] == ["cache", "cache", "plain"]
    assert answer["certificates"][0]["serial"] == f"{world.ada.serial_number:x}"
    assert (configuration / "cache" / "directories.sqlite").exists()
    result = run(find, "--email", ADA, "--no-cache", "--json")
    assert json.loads(result.output)["directories"][0]["over"] == "tls"
    (configuration / "issuer.pem").write_bytes(ca.pem(world.authority.certificate))
    result = run(find, "--serial", f"{world.bob.serial_number:x}", "--issuer",
                 configuration / "issuer.pem")
    assert "CN=Bob Young" in result.output
    assert dr.find_by_email(ADA) == [world.ada]
    found, where = dr.identify_sender(world.bob.issuer, world.bob.serial_number)
    assert (found, where.name) == (world.bob, "region")


def test_find_without_an_answer_fails_and_names_all(configuration):
    result = run(find, "--name", "Nobody", "--json")
    assert isinstance(result.exception, DirectoryError)
    assert json.loads(result.output)["certificates"] == []
    assert "hospital: has none; region: has none; gone: cannot" in str(result.exception)
    for wrong in ([], ["--email", ADA, "--name", "x"], ["--serial", "1"],
                  ["--email", ADA, "--base", "dc=x"]):
        assert isinstance(run(find, *wrong).exception, UsageError)


def test_fetch_writes_what_openssl_reads(world, configuration):
    need("openssl", "openssl")
    result = run(fetch, "-o", configuration / "trust", "-q")
    assert result.exit_code == 0, result.output
    files = sorted((configuration / "trust").iterdir())
    assert {f.name.partition("-")[0] for f in files} == {"ca", "crl"}
    crl = next(f for f in files if f.read_bytes() == ca.pem(world.crl))
    authority = next(f for f in files if f.read_bytes() == ca.pem(world.authority.certificate))
    told = subprocess.run(["openssl", "crl", "-in", crl, "-CAfile", authority, "-noout"],
                          check=True, capture_output=True, text=True)
    assert "verify OK" in told.stderr + told.stdout


def test_publish_says_what_it_did(world, configuration):
    dora = world.authority.issue("Dora Xu", email="dora@hospital.test")
    with pytest.raises(DirectoryError):
        dr.find_by_email("dora@hospital.test")
    (configuration / "dora.pem").write_bytes(ca.pem(dora))
    (configuration / "crl.der").write_bytes(ca.der(world.crl))
    result = run(publish, configuration / "dora.pem", "--to", "hospital")
    assert result.exit_code == 0, result.output
    assert "published, hospital: mail=dora@hospital.test,dc=trust1,dc=test" in result.output
    assert dr.find_by_email("dora@hospital.test") == [dora]  # that there was none is forgotten
    result = run(publish, configuration / "dora.pem", "--to", "hospital", "--json")
    assert json.loads(result.output)["outcome"] == "there already"
    assert "there already" in run(publish, configuration / "crl.der", "--to", "hospital").output
    assert "no directory named 'x'; there are: hospital" in str(
        run(publish, configuration / "dora.pem", "--to", "x").exception)
    assert "takes bind_dn" in str(
        run(publish, configuration / "dora.pem", "--to", "region").exception)
    result = run(publish, configuration / "config.toml", "--to", "hospital")
    assert "is not a certificate or a revocation list" in str(result.exception)
    result = run(
        publish, configuration / "dora.pem", "--directory", world.one.tls_url, "--base",
        world.one.suffix, "--ca", world.foreign_ca, "--bind-dn", world.one.admin,
        "--password-file", world.password)
    assert "its issuer is not in the CA bundle" in str(result.exception)
    assert "dora.pem' is not published to ldaps:" in str(result.exception)
