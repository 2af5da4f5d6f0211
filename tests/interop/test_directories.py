"""Directories: real slapd servers, one down, one slow, one lying."""

import base64
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import types

import authority as ca
import click.testing
import pytest
import slapd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomcrypt.cli.pki_directory import fetch, find, publish
from dicomcrypt.errors import DirectoryError, MissingExtraError, PolicyError, UsageError
from dicomcrypt.pki import directory as dr
from dicomcrypt.pki import directory_publish as dp
from dicomcrypt.pki import directory_queries as dq
from dicomcrypt.pki import ldap_client as ldap
from dicomcrypt.pki.directory_cache import Cache
from tests.conftest import need, require_module

ADA = "ada@hospital.test"


def entry(base, mail, name, *certificates, extra=""):
    values = "".join(f"userCertificate;binary:: {base64.b64encode(ca.der(c)).decode()}\n"
                     for c in certificates)
    return (f"dn: mail={mail},{base}\nobjectClass: inetOrgPerson\nmail: {mail}\ncn: {name}\n"
            f"sn: {name.split()[-1]}\ngivenName: {name.split()[0]}\n{extra}{values}\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five real servers: two that are good, two whose TLS certificates have another name or
    have expired, one that lies."""
    require_module("pyasn1_modules", "ldap")
    if slapd.find_slapd() is None:
        need("slapd", "slapd")
    folder = tmp_path_factory.mktemp("world")
    w = types.SimpleNamespace(folder=folder)
    w.authority, tls, foreign = (ca.Authority(n) for n in ("Trust 1", "TLS", "Foreign"))
    w.ada = w.authority.issue("Ada Lovelace", email=ADA, first="Ada", last="Lovelace")
    w.ada_old = w.authority.issue("Ada Lovelace", email=ADA)
    w.bob = w.authority.issue("Bob Young", email="bob@hospital.test")
    w.mallory = w.authority.issue("Mallory", email="mallory@evil.test")
    w.forged = foreign.issue("Ada Lovelace", email=ADA)
    w.crl = w.authority.crl(w.bob.serial_number)
    w.ca, w.foreign_ca = str(folder / "ca.pem"), str(folder / "foreign.pem")
    (folder / "ca.pem").write_bytes(ca.pem(tls.certificate))
    (folder / "foreign.pem").write_bytes(ca.pem(foreign.certificate))
    (folder / "password").write_text("secret\n")
    w.password = str(folder / "password")
    one, two, liar = (f"dc={n},dc=test" for n in ("trust1", "trust2", "liar"))

    def text(value):
        return base64.b64encode(ca.der(value)).decode()

    pki = (f"dn: cn=Trust 1,{one}\nobjectClass: organizationalRole\nobjectClass: pkiCA\n"
           f"cn: Trust 1\ncACertificate;binary:: {text(w.authority.certificate)}\n"
           f"certificateRevocationList;binary:: {text(w.crl)}\n\n")
    with (
        socket.create_server(("127.0.0.1", 0)) as w.trap,
        slapd.serve(folder / "one", one, pem=tls.server("127.0.0.1"),
                    ldif=entry(one, ADA, "Ada Lovelace", w.ada) + pki) as w.one,
        slapd.serve(folder / "two", two, ldif=entry(two, ADA, "Ada Lovelace", w.ada_old)
                    + entry(two, "bob@hospital.test", "Bob Young", w.bob)
                    + f"dn: cn=elsewhere,{two}\nobjectClass: referral\n"
                      f"objectClass: extensibleObject\ncn: elsewhere\n"
                      f"ref: ldap://127.0.0.1:{w.trap.getsockname()[1]}/dc=trap\n\n") as w.two,
        slapd.serve(folder / "name", one, pem=tls.server("127.0.0.2")) as w.wrong_name,
        slapd.serve(folder / "expired", one, pem=tls.server(
            "127.0.0.1", start=-2 * ca.HOUR, end=-ca.HOUR)) as w.expired,
        slapd.serve(folder / "liar", liar, ldif=entry(liar, ADA, "Ada Lovelace", w.mallory)
                    ) as w.liar,
    ):
        yield w


def directory(server, name="one", **more):
    return dr.Directory(name, server.url, server.suffix, **more)


def secure(world, name="one", **more):
    return dr.Directory(name, world.one.tls_url, world.one.suffix,
                        **{"ca": world.ca, **more})


def at(port, name, scheme="ldap", **more):
    return dr.Directory(name, f"{scheme}://127.0.0.1:{port}", "dc=x", timeout=1.0, **more)


def admin(world, **more):
    return secure(world, bind_dn=world.one.admin, password_file=world.password, **more)


# ---- what is found ----------------------------------------------------------


@pytest.mark.parametrize("over", ["plain", "ldaps", "start_tls"])
def test_certificates_are_found_in_every_way(world, over):
    one = {"plain": directory(world.one), "ldaps": secure(world),
           "start_tls": directory(world.one, start_tls=True, ca=world.ca)}[over]
    both = dr.Directories([one, directory(world.two, "two", priority=20)])
    ada = world.ada
    assert both.find_by_email(ADA.upper()).found == [ada]
    assert both.find_by_name(" ada  lovelace").found == [ada]
    assert both.find_by_serial(ada.issuer, ada.serial_number).all == [ada]
    assert both.find_by_key_identifier(dq.key_identifier(ada)).all == [ada]
    assert both.find_by_email("bob@hospital.test").found == [world.bob]
    assert both.fetch_authorities().all == [world.authority.certificate]
    assert both.fetch_crls().all == both.fetch_crls(world.authority.name).all == [world.crl]
    assert both.fetch_crls(world.ada.subject).all == []


def test_the_server_s_exact_match_finds_one_certificate(world):
    query = dq.by_serial(world.ada.issuer, world.ada.serial_number)
    query = dataclasses.replace(query, filters=query.filters[:1])
    assert dr.Directories([directory(world.one)]).scan(query).found == [world.ada]


def test_priorities_decide_and_the_next_one_stands_in(world):
    good, better = directory(world.two, "two", priority=2), secure(world, priority=1)
    scan = dr.Directories([good, better]).find_by_email(ADA)
    assert (scan.found, len(scan.all)) == ([world.ada], 2)
    down = at(slapd.free_port(), "down", priority=1)
    assert dr.Directories([good, down]).find_by_email(ADA).found == [world.ada_old]
    same = dataclasses.replace(good, priority=1)
    assert set(dr.Directories([same, better]).find_by_email(ADA).found) == {
        world.ada, world.ada_old}

    def check(certificate):
        if certificate == world.ada:
            raise PolicyError("the certificate is revoked")

    scan = dr.Directories([good, better]).find_by_email(ADA, check)
    assert scan.found == [world.ada_old]
    assert scan.answers[0].sentence == "refused: 1 the certificate is revoked"


def test_the_sender_of_a_message_is_identified(world):
    both = dr.Directories([secure(world), directory(world.two, "two")])
    found, where = both.identify_sender(world.bob.issuer, world.bob.serial_number)
    assert (found, where.name) == (world.bob, "two")
    with pytest.raises(DirectoryError, match="no certificate 5 of its issuer in any directory: "
                       "one: has none; two: has none"):
        both.identify_sender(world.bob.issuer, 5)
    other = world.authority.issue("Bob Young", serial=world.bob.serial_number)
    with slapd.forging([ca.der(other)]) as port:
        both = dr.Directories([at(port, "forger"), directory(world.two, "two")])
        with pytest.raises(DirectoryError, match="in forger, two: one is forged"):
            both.identify_sender(world.bob.issuer, world.bob.serial_number)

        def check(certificate):
            if certificate == other:
                raise PolicyError("bad signature")

        found = both.identify_sender(world.bob.issuer, world.bob.serial_number, check)
        assert found == (world.bob, directory(world.two, "two"))


def test_attribute_certificates_are_those_of_their_holder(world, need_module):
    need_module("asn1crypto", "pki")
    from asn1crypto import cms, x509

    def made(holder):
        names = [x509.GeneralName("directory_name", x509.Name.load(holder.issuer.public_bytes()))]
        info = {
            "version": "v2",
            "holder": {"base_certificate_id": {"issuer": names, "serial": holder.serial_number}},
            "issuer": cms.AttCertIssuer("v2_form", {"issuer_name": names}),
            "signature": {"algorithm": "sha256_ecdsa"}, "serial_number": 1,
            "att_cert_validity_period": {"not_before_time": ca.now(), "not_after_time": ca.now()},
            "attributes": [],
        }
        return cms.AttributeCertificateV2({
            "ac_info": info, "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": b"\0" * 8}).dump()

    values = [made(world.bob), made(world.ada), b"\x30\x03\x02\x01", b""]
    with slapd.forging(values, "dicomcryptAttributeCertificate") as port:
        answer = dr.Directories([at(port, "one")]).find_attribute_certificates(world.ada).answers[0]
        assert [value.dump() for value in answer.found] == [values[1]]
        assert "2 malformed" in answer.sentence
    # the attribute of docs/directories.md takes them, in a real server
    with admin(world).connect(time.monotonic() + 5, 1 << 20, admin(world).context()) as there:
        name = f"mail={ADA},{world.one.suffix}"
        there.modify(name, [(ldap.ADD, "objectClass", [b"dicomcryptUser"]),
                            (ldap.ADD, "dicomcryptAttributeCertificate", [values[1], values[0]])])
    found = dr.Directories([secure(world)]).find_attribute_certificates(world.ada).all
    assert [value.dump() for value in found] == [values[1]]


# ---- what fails -------------------------------------------------------------


def failing(world, stack):
    """Directories that fail, by what becomes of them: (state, part of the sentence)."""
    silent = stack.enter_context(slapd.silent())
    many = stack.enter_context(slapd.forging([ca.der(world.ada)] * 10_000))
    small = stack.enter_context(slapd.forging([bytes([48, 0])] * 10_000))
    junk = stack.enter_context(slapd.forging([b"\x30\x82junk", b"", ca.der(world.ada)[:-5]]))
    noise = stack.enter_context(slapd.babbling(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    huge = stack.enter_context(slapd.babbling(b"\x30\x84\x7f\xff\xff\xff" + b"x" * 100))
    cut = stack.enter_context(slapd.babbling(b"\x30\x20\x02\x01"))
    return [
        (at(slapd.free_port(), "down"), "down", "cannot be reached: connection refused"),
        (at(silent, "slow"), "slow", "does not answer within the time-out"),
        (at(silent, "slow-tls", "ldaps"), "slow",
         "does not finish the TLS handshake within the time-out"),
        (at(silent, "slow-starttls", start_tls=True), "slow",
         "does not answer within the time-out"),
        (secure(world, "wrong-issuer", ca=world.foreign_ca), "tls",
         "its TLS certificate is refused: its issuer is not in the CA bundle"),
        (secure(world, "unknown-issuer", ca=None), "tls",
         "its TLS certificate is refused: its issuer is not in the CA bundle"),
        (dr.Directory("wrong-name", world.wrong_name.tls_url, "dc=x", ca=world.ca), "tls",
         "its TLS certificate is refused: it is not for 127.0.0.1"),
        (dr.Directory("wrong-name-starttls", world.wrong_name.url, "dc=x", ca=world.ca,
                      start_tls=True), "tls",
         "its TLS certificate is refused: it is not for 127.0.0.1"),
        (dr.Directory("expired", world.expired.tls_url, "dc=x", ca=world.ca), "tls",
         "its TLS certificate is refused: it has expired"),
        (dr.Directory("no-tls", f"ldaps://127.0.0.1:{noise}", "dc=x", ca=world.ca), "tls",
         "the TLS handshake failed: wrong version number"),
        (dr.Directory("no-starttls", world.two.url, "dc=x", ca=world.ca, start_tls=True),
         "refused", "does not start TLS: protocol error"),
        (secure(world, "wrong-password", bind_dn=world.one.admin, password_file=world.ca),
         "refused", "refused the log-in: wrong name or password"),
        (dr.Directory("wrong-base", world.two.url, "dc=nowhere"), "refused",
         "refused the search: no such entry"),
        (directory(world.liar, "somebody-else"), "rejected",
         "refused: 1 of somebody else"),
        (at(junk, "junk"), "rejected", "refused: 3 malformed"),
        (at(noise, "not-ldap"), "garbage", "answers with something that is not LDAP"),
        (at(huge, "huge"), "too much", "answers with more data than is taken"),
        (at(many, "many"), "too much", "answers with more data than is taken"),
        (at(small, "many-small"), "too much", "answers with more values than are taken"),
        (at(cut, "cut-off"), "slow", "does not answer within the time-out"),
    ]


def test_whoever_fails_is_named_and_the_rest_still_answers(world):
    import contextlib

    with contextlib.ExitStack() as stack:
        cases = failing(world, stack)
        started = time.monotonic()
        scan = dr.Directories([*(case[0] for case in cases), secure(world)]).find_by_email(ADA)
        seconds = time.monotonic() - started
        assert seconds < 3
        assert scan.require().found == [world.ada]
        answers = {answer.directory.name: answer for answer in scan.answers}
        if "DICOMCRYPT_SHOW_TABLE" in os.environ:
            for name, answer in answers.items():
                print(f"| {name} | {answer.state} | {answer.sentence} | {answer.seconds:.2f} s |")
            print(f"all: {seconds:.2f} s")
        for one, state, sentence in cases:
            assert answers[one.name].state == state, (one.name, answers[one.name])
            assert answers[one.name].sentence.startswith(sentence), one.name
        with pytest.raises(DirectoryError) as error:
            dr.Directories(case[0] for case in cases).find_by_email(ADA).require()
        for one, _, sentence in cases:
            assert f"{one.name}: {sentence}" in str(error.value)
        assert error.value.exit_status == 1


def test_the_deadline_ends_what_a_time_out_does_not(world):
    with slapd.silent() as port:
        slow = dr.Directory("slow", f"ldaps://127.0.0.1:{port}", "dc=x", timeout=60)
        started = time.monotonic()
        scan = dr.Directories([slow, secure(world)], deadline=0.5).find_by_email(ADA)
        assert time.monotonic() - started < 1.5
    assert [a.state for a in scan.answers] == ["found", "slow"]
    assert scan.found == [world.ada]


def test_bytes_that_trickle_do_not_keep_the_line_open():
    import contextlib
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle():
            connection = listener.accept()[0]
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x30\x7f")
                while True:
                    connection.sendall(b"\0")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        started = time.monotonic()
        line = at(listener.getsockname()[1], "trickle")
        line = dataclasses.replace(line, timeout=0.5)
        assert dr.Directories([line]).find_by_email(ADA).answers[0].state == "slow"
        assert time.monotonic() - started < 2


def test_referrals_are_not_followed(world):
    scan = dr.Directories([directory(world.two)]).find_by_key_identifier(b"nobody's")
    assert scan.answers[0].state == "nothing"
    world.trap.setblocking(False)
    with pytest.raises(BlockingIOError):
        world.trap.accept()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_answers_end_in_a_sentence(data):
    from pyasn1.codec.ber import encoder
    from pyasn1_modules import rfc2251

    entry, done = rfc2251.LDAPMessage(), rfc2251.LDAPMessage()
    entry["messageID"] = done["messageID"] = 1
    entry["protocolOp"]["searchResEntry"]["objectName"] = b"cn=a"
    entry["protocolOp"]["searchResEntry"]["attributes"][0]["type"] = b"cn"
    entry["protocolOp"]["searchResEntry"]["attributes"][0]["vals"][0] = b"a"
    for field, value in (("resultCode", 0), ("matchedDN", b""), ("errorMessage", b"")):
        done["protocolOp"]["searchResDone"][field] = value
    answer = bytearray(encoder.encode(entry) + encoder.encode(done))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(answer) - 1))
        answer[position] = data.draw(st.integers(0, 255))
    ours, theirs = socket.socketpair()
    line = object.__new__(ldap.Connection)
    line._rfc, line._socket, line._host = rfc2251, ours, "x"
    line._deadline, line._left, line._id, line.secure = time.monotonic() + 5, 1 << 16, 0, False
    with theirs, ours:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        try:
            for _, attributes in line.search("dc=x", ldap.present("cn"), ["cn"]):
                assert len(str(attributes)) < 1000
        except ldap.LdapFailure:
            pass  # anything else would end the test


# ---- injection --------------------------------------------------------------


@pytest.mark.parametrize("name", ["*", "*)(uid=*", "Ada*", "Ada Lovelace)(cn=*", "\\2a",
                                  'x")(cn=*', "&(objectClass=*)", "Ada Lovelace\\00"])
def test_names_are_not_filters(world, name):
    directories = dr.Directories([secure(world), directory(world.two, "two")])
    scan = directories.find_by_name(name)
    assert [answer.state for answer in scan.answers] == ["nothing", "nothing"]
    scan = directories.find_by_email(name.replace(" ", "") + "@hospital.test")
    assert [answer.state for answer in scan.answers] == ["nothing", "nothing"]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.one_of(st.text(max_size=20), st.text("*()\\&|=!~<>\0\"',+#; ada", max_size=12)))
def test_no_name_finds_what_it_does_not_name(world, name):
    try:
        scan = dr.Directories([directory(world.two)]).find_by_name(name)
    except UsageError:
        return
    assert scan.answers[0].state == "nothing"


def test_serial_numbers_of_strange_issuers_find_nothing(world):
    from cryptography import x509

    for strange in ('a"} , serialNumber 1 }', 'a",b+c=d\\#<>;', "ü \\ *)(cn=*"):
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, strange)])
        scan = dr.Directories([secure(world)]).find_by_serial(issuer, world.ada.serial_number)
        assert scan.answers[0].state == "nothing", strange


@pytest.mark.parametrize("name", ["Eve,dc=evil", 'Eve "+cn=admin', "#Eve;<x>\\", " Eve=Eve ",
                                  "Eve\0x", "E*v(e)"])
def test_names_of_entries_stay_below_the_base(world, name):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    mail = f"eve,dc=evil+cn={name.encode().hex()}@evil.test"
    certificate = world.authority.issue(name, email=mail)
    done, where = dp.publish_certificate(admin(world), certificate)
    assert done == dp.PUBLISHED
    assert where.endswith(world.one.suffix)
    assert dr.Directories([secure(world)]).find_by_email(mail).found == [certificate]
    found = subprocess.run(["ldapsearch", "-x", "-LLL", "-H", world.one.url, "-b",
                            world.one.suffix, "-s", "one", f"(mail={mail})", "1.1"],
                           check=False, capture_output=True)
    assert found.stdout.count(b"dn:") == 1
    builder = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject)
    crl = builder.last_update(ca.now()).next_update(ca.now() + ca.HOUR).sign(
        world.authority.key, hashes.SHA256())
    assert dp.publish_crl(admin(world), crl)[0] == dp.PUBLISHED
    assert dr.Directories([secure(world)]).fetch_crls(certificate.subject).all == [crl]


@pytest.mark.parametrize("address", ["", "ada", "@x", "a b@x", "a\n@x", "ä@x", "a" * 300 + "@x"])
def test_what_is_no_address_is_not_asked_for(address):
    with pytest.raises(UsageError):
        dq.by_email(address)


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
    with pytest.raises(UsageError, match="no password in its first line"):
        dp.publish_certificate(
            dataclasses.replace(admin(world), password_file=str(empty)), world.ada)
    (tmp_path / "gone").mkdir()
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
    ({"url": "ldap://h:99999"}, "not an address"), ({"url": "ldap://u@h"}, "give ldaps://"),
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
        directories = dr.Directories([secure(world), at(slapd.free_port(), "down")])
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
url = "ldap://127.0.0.1:{slapd.free_port()}"
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
