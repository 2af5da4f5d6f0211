"""Directories: real slapd servers, one down, one slow, one lying; names that are no filters."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import threading
import time

import authority as ca
import pytest
import slapd
from directory_world import ADA, admin, at, directory, secure, world  # noqa: F401  a fixture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ports import free_port

from dicomcrypt.errors import DirectoryError, PolicyError, UsageError
from dicomcrypt.keys.extensions import key_identifier
from dicomcrypt.pki import directory as dr
from dicomcrypt.pki import directory_publish as dp
from dicomcrypt.pki import directory_queries as dq
from dicomcrypt.pki import ldap_client as ldap

# ruff: noqa: F811  a fixture is named where it is imported and where it is used

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
    assert both.find_by_key_identifier(key_identifier(ada.extensions)).all == [ada]
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
    down = at(free_port(), "down", priority=1)
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
    need_module("asn1crypto", "ldap")
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
        (at(free_port(), "down"), "down", "cannot be reached: connection refused"),
        (at(silent, "slow", timeout=1.0), "slow", "does not answer within the time-out"),
        (at(silent, "slow-tls", "ldaps", timeout=1.0), "slow",
         "does not finish the TLS handshake within the time-out"),
        (at(silent, "slow-starttls", timeout=1.0, start_tls=True), "slow",
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
        (at(cut, "cut-off", timeout=1.0), "slow", "does not answer within the time-out"),
    ]


def test_whoever_fails_is_named_and_the_rest_still_answers(world):
    with contextlib.ExitStack() as stack:
        cases = failing(world, stack)
        started = time.monotonic()
        scan = dr.Directories([*(case[0] for case in cases), secure(world)],
                              deadline=60).find_by_email(ADA)
        seconds = time.monotonic() - started
        assert scan.require().found == [world.ada]
        answers = {answer.directory.name: answer for answer in scan.answers}
        assert seconds < sum(answer.seconds for answer in scan.answers)  # not one after another
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
        slow = dr.Directory("slow", f"ldaps://127.0.0.1:{port}", "dc=x", timeout=100)
        scan = dr.Directories([slow, secure(world)], deadline=3).find_by_email(ADA)
    assert [a.state for a in scan.answers] == ["found", "slow"]
    assert scan.answers[1].sentence == "does not answer within 3 s"
    assert scan.found == [world.ada]


def test_bytes_that_trickle_do_not_keep_the_line_open():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle():
            connection = listener.accept()[0]
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x30\x7f")
                while True:
                    connection.sendall(b"\0")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        line = at(listener.getsockname()[1], "trickle", timeout=0.5)
        assert dr.Directories([line]).find_by_email(ADA).answers[0].state == "slow"


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

    mail = f"eve=evil+cn={name.encode().hex()}@evil.test"
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
