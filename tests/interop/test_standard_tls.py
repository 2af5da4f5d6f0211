"""TLS by PS3.15 B.12: both sides of ours, and openssl for what dcmtk cannot."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
from ports import free_port, listening
from tls_world import client, make_world, server

from dicomcrypt.errors import CertificateRefusedError, UsageError
from dicomcrypt.pki.checking import Trust
from dicomcrypt.standard.tls import PeerRefusedError, client_context, server_context
from tests.conftest import need

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
#: Of servers that judge nobody.
PLAIN = type("Plain", (ssl.SSLSocket,), {"peer": None})
#: What openssl needs to offer what nobody should take.
OLD = ("-cipher", "ALL:@SECLEVEL=0")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def serving(context):
    """A server that greets whoever comes through, and keeps what went wrong."""
    listener = socket.create_server(("127.0.0.1", 0))
    told = SimpleNamespace(port=listener.getsockname()[1], errors=[], roles=[])

    def serve():
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            taken.settimeout(10)
            try:
                with context.wrap_socket(taken, server_side=True) as connection:
                    connection.sendall(b"welcome\n")
                    told.roles.append(connection.peer and connection.peer.role)
            except OSError as error:
                told.errors.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield told
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(100)


def greeting(port, context):
    with (socket.create_connection(("127.0.0.1", port), 10) as raw,
          context.wrap_socket(raw, server_hostname="localhost") as connection):
        return connection.recv(100), connection.version()


def nothing_said(port, context):
    """Whether a server says nothing to a client, however it ends the connection."""
    try:
        return greeting(port, context)[0] == b""
    except OSError:
        return True


def wait_for(errors):
    for _ in range(500):
        if errors:
            return errors[0]
        time.sleep(0.01)
    raise AssertionError("nothing went wrong")


def ungated(world, name):
    """A client that shows a certificate which `client_context` would not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(world.file(f"{name}.pem"))
    return context


# ---- one with the other --------------------------------------------------------


@pytest.mark.parametrize("name", ["node", "rsa", "hospital"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("profile", ["bcp195", "bcp195-modified"])
def test_both_sides_meet_in_tls_1_3(world, name, late, profile):
    with serving(server(world, name, late=late, profile=profile)) as told:
        assert greeting(told.port, client(world, name, profile=profile)) == \
            (b"welcome\n", "TLSv1.3")
    assert told.errors == []


def test_tls_1_2_is_taken_too(world):
    context = client(world)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(server(world)) as told:
        assert greeting(told.port, context) == (b"welcome\n", "TLSv1.2")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("name", "reason"), [
    ("expired", None), ("stranger", None), ("revoked", "revoked"), ("signer", None),
    ("server-only", None),
])  # fmt: skip
def test_clients_with_such_certificates_get_nothing(world, name, reason, late):
    with serving(server(world, late=late)) as told:
        assert nothing_said(told.port, ungated(world, name))
        error = wait_for(told.errors)
    if reason:  # OpenSSL finds nothing wrong with it
        assert isinstance(error, PeerRefusedError)
        assert error.reason == reason
        assert "revoked" in str(error)
    assert told.roles == []


def test_a_client_without_a_certificate_gets_nothing(world):
    context = client_context(trust=world.trust, check_hostname=False)
    with serving(server(world)) as told:
        assert nothing_said(told.port, context)
        wait_for(told.errors)


def test_roles_of_clients_are_enforced(world):
    with serving(server(world, roles=["hospital", "application"])) as told:
        assert greeting(told.port, client(world, "hospital"))[0] == b"welcome\n"
        assert nothing_said(told.port, client(world, "doctor"))
        error = wait_for(told.errors)
        assert isinstance(error, PeerRefusedError)
        assert error.reason == "role"
        assert "of role physician, where application, hospital is needed" in str(error)
    assert told.roles == ["hospital"]


@pytest.mark.parametrize(("name", "reason"), [
    ("expired", None), ("stranger", None), ("revoked", "revoked"), ("doctor", "role"),
])  # fmt: skip
def test_clients_leave_servers_with_such_certificates(world, name, reason):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world.file(f"{name}.pem"))
    context.sslsocket_class = PLAIN
    with serving(context) as told:
        with pytest.raises(ssl.SSLError) as caught:
            greeting(told.port, client(world))
        if reason:
            assert caught.value.reason == reason


def test_a_server_must_have_the_name_it_is_called_by(world):
    with serving(server(world)) as told, pytest.raises(ssl.SSLCertVerificationError):
        greeting(told.port, client(world, check_hostname=True))


@pytest.mark.parametrize("name", ["expired", "stranger", "revoked", "signer"])
def test_nobody_starts_with_such_a_certificate_of_its_own(world, name):
    for make in (server, client):
        with pytest.raises(CertificateRefusedError, match="not started"):
            make(world, name)


def test_calls_that_cannot_be_meant_are_refused(world):
    with pytest.raises(UsageError, match="no TLS profile"):
        server(world, profile="basic")
    with pytest.raises(UsageError, match="nobody is trusted"):
        client_context(trust=Trust(()))
    with pytest.raises(UsageError, match="roles are of clients"):
        server(world, trust=None, roles=["hospital"])
    with pytest.raises(UsageError, match="do not fit"):
        server_context(world.file("node.crt"), world.file("rsa.key"), trust=world.trust)


def test_asyncio_s_connections_are_judged_as_well(world):
    import asyncio

    async def greet(reader, writer):
        writer.write(b"welcome\n")
        writer.close()

    async def meet(shown):
        ours = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server(world))
        port = ours.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=shown, server_hostname="localhost")
            try:
                return await asyncio.wait_for(reader.read(100), 10)
            finally:
                writer.close()
        finally:
            ours.close()

    assert asyncio.run(meet(client(world))) == b"welcome\n"
    with contextlib.suppress(OSError):
        assert asyncio.run(meet(ungated(world, "revoked"))) == b""


# ---- openssl: what must not be ---------------------------------------------------


@pytest.mark.parametrize("words", [
    ("-tls1", *OLD), ("-tls1_1", *OLD),
    *(("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0") for suite in (
        "AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-RSA-AES128-SHA256", "eNULL", "aNULL")),
], ids=lambda words: " ".join(words[:1] + words[2:3]))  # fmt: skip
def test_old_versions_and_weak_suites_are_refused(world, words):
    openssl = need("openssl", "openssl")
    name = "rsa" if "RSA" in words[-1] or words[-1].startswith("AES") else "node"
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.sslsocket_class = PLAIN
    lax.set_ciphers("ALL:eNULL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        lax.minimum_version = ssl.TLSVersion.TLSv1
    lax.load_cert_chain(world.file(f"{name}.pem"))
    for context, taken in ((lax, True), (server(world, name), False)):
        with serving(context) as told:
            done = subprocess.run(
                [openssl, "s_client", "-connect", f"127.0.0.1:{told.port}", "-cert",
                 world.file(f"{name}.pem"), "-quiet", *words], check=False, capture_output=True,
                stdin=subprocess.DEVNULL, timeout=100,
            )  # fmt: skip
            assert (b"welcome" in done.stdout) == taken, done.stderr


def test_openssl_comes_through_with_what_is_permitted(world):
    openssl = need("openssl", "openssl")
    with serving(server(world)) as told:
        for words in (("-tls1_3",), ("-tls1_2",),
                      ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
                      ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305")):  # fmt: skip
            done = subprocess.run(
                [openssl, "s_client", "-connect", f"127.0.0.1:{told.port}", "-cert",
                 world.file("node.pem"), "-quiet", *words], check=False,
                capture_output=True, stdin=subprocess.DEVNULL, timeout=100,
            )  # fmt: skip
            assert b"welcome" in done.stdout, (words, done.stderr)


def openssl_server(world, *words):
    port = free_port()
    return listening([need("openssl", "openssl"), "s_server", "-accept", f"127.0.0.1:{port}",
                      "-cert", world.file("node.pem"), "-quiet", *words], port)


@pytest.mark.parametrize("words", [
    ("-tls1", *OLD), ("-tls1_1", *OLD),
    ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
], ids=lambda words: " ".join(words[:1] + words[2:3]))  # fmt: skip
def test_our_client_refuses_them_too(world, words):
    with openssl_server(world, *words) as port, pytest.raises(OSError):  # noqa: PT011
        greeting(port, client(world))
