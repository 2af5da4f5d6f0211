"""TLS by PS3.15 B.12: against dcmtk's storescu and storescp, and openssl for what those cannot."""

import contextlib
import functools
import gc
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from types import SimpleNamespace

import pydicom
import pytest
from certificates import DAY, Maker
from pydicom.uid import CTImageStorage

from dicomcrypt.errors import CertificateRefusedError, UsageError
from dicomcrypt.pki.checking import Trust
from dicomcrypt.standard.tls import PeerRefusedError, client_context, server_context
from tests.conftest import need, require_module

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
#: Of servers that judge nobody.
PLAIN = type("Plain", (ssl.SSLSocket,), {"peer": None})
#: What openssl needs to offer what nobody should take.
OLD = ("-cipher", "ALL:@SECLEVEL=0")


@functools.cache
def dcmtk(name):
    """The path of a program of dcmtk: pynetdicom brings others of these names."""
    for folder in os.get_exec_path():
        path = shutil.which(name, path=folder)
        if path and b"dcmtk" in subprocess.run([path, "--version"], check=False,
                                               capture_output=True).stdout:
            return path
    return need(f"dcmtk-{name}", "dcmtk")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Certificates of all kinds as files: one PEM of key and chain each, and the roots."""
    folder = tmp_path_factory.mktemp("tls")
    root = Maker.root("Root", begin=-60 * DAY)
    issuer = root.authority("Issuer", begin=-60 * DAY)
    stranger = Maker.root("Stranger", begin=-60 * DAY)
    both = ["tls-server", "tls-client"]
    made = {
        "node": issuer.leaf("node", uses=both),
        "hospital": issuer.leaf("hospital", uses=both, role="hospital"),
        "doctor": issuer.leaf("doctor", uses=both, role="physician"),
        "rsa": issuer.leaf("rsa", uses=both, kind="rsa-2048"),
        "expired": issuer.leaf("expired", uses=both, begin=-30 * DAY, end=-DAY),
        "revoked": issuer.leaf("revoked", uses=both),
        "stranger": stranger.leaf("stranger", uses=both),
        "signer": issuer.leaf("signer", uses=["signing"]),
        "server-only": issuer.leaf("server", uses=["tls-server"]),
    }
    for name, one in made.items():
        above = issuer.pem() if name != "stranger" else b""
        (folder / f"{name}.pem").write_bytes(one.key_pem() + one.pem() + above)
        (folder / f"{name}.key").write_bytes(one.key_pem())
        (folder / f"{name}.crt").write_bytes(one.pem() + above)
    (folder / "ca.pem").write_bytes(root.pem() + issuer.pem())
    (folder / "strangers.pem").write_bytes(stranger.pem())
    crl = issuer.crl(made["revoked"])
    trust = Trust((root.certificate,), (issuer.certificate,), (crl,))
    return SimpleNamespace(file=lambda name: folder / name, trust=trust,
                           strangers=Trust((stranger.certificate,)))


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
    thread.join(10)


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


def client(world, name="node", **options):
    options = {"trust": world.trust, "check_hostname": False, **options}
    return client_context(world.file(f"{name}.pem"), **options)


def server(world, name="node", **options):
    return server_context(world.file(f"{name}.pem"), **{"trust": world.trust, **options})


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


@pytest.fixture(autouse=True)
def what_pynetdicom_leaves():
    """Sockets of associations that came to nothing are closed when they are collected."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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
                stdin=subprocess.DEVNULL, timeout=20,
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
                capture_output=True, stdin=subprocess.DEVNULL, timeout=20,
            )  # fmt: skip
            assert b"welcome" in done.stdout, (words, done.stderr)


@contextlib.contextmanager
def openssl_server(world, *words):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [need("openssl", "openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert",
         world.file("node.pem"), "-quiet", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE,
    )  # fmt: skip
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("words", [
    ("-tls1", *OLD), ("-tls1_1", *OLD),
    ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
], ids=lambda words: " ".join(words[:1] + words[2:3]))  # fmt: skip
def test_our_client_refuses_them_too(world, words):
    with openssl_server(world, *words) as port, pytest.raises(OSError):  # noqa: PT011
        greeting(port, client(world))


# ---- dcmtk -----------------------------------------------------------------------


@pytest.fixture
def ct(corpus):
    return next(p for p in corpus if p.name == "CT_small.dcm")


@contextlib.contextmanager
def our_scp(context):
    require_module("pynetdicom", "gateway")
    from pynetdicom import AE, evt

    stored = []
    ae = AE("OURS")
    ae.add_supported_context(CTImageStorage)
    ae.network_timeout = ae.acse_timeout = 10
    handlers = [(evt.EVT_C_STORE, lambda event: stored.append(event.dataset.PatientID) or 0)]
    scp = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context,
                          evt_handlers=handlers)
    yield SimpleNamespace(port=scp.server_address[1], stored=stored)
    ae.shutdown()


def storescu(world, port, name, ct, *words, ca="ca.pem"):
    return subprocess.run(
        [dcmtk("storescu"), "+tls", world.file(f"{name}.key"), world.file(f"{name}.crt"), "+cf",
         world.file(ca), *words, "127.0.0.1", str(port), ct], check=False, capture_output=True,
        timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "words"), [("node", ()), ("rsa", ("+px",)),
                                             ("hospital", ("+pz",))])
def test_storescu_stores_with_us(world, ct, name, words):
    with our_scp(server(world, "rsa" if name == "rsa" else "node")) as ours:
        done = storescu(world, ours.port, name, ct, *words)
        assert done.returncode == 0, done.stderr
        assert ours.stored == ["1CT1"]


@pytest.mark.parametrize("name", ["expired", "stranger", "revoked", "server-only"])
def test_storescu_with_such_a_certificate_stores_nothing(world, ct, name):
    with our_scp(server(world)) as ours:
        assert storescu(world, ours.port, name, ct).returncode != 0
        assert ours.stored == []
        assert storescu(world, ours.port, "node", ct).returncode == 0  # it serves on


@pytest.mark.parametrize("suite", ["TLS_RSA_WITH_AES_128_CBC_SHA",
                                   "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"])
def test_storescu_with_weak_suites_alone_stores_nothing(world, ct, suite):
    """+pn begins without any suite but the null one, which does not get through either."""
    with our_scp(server(world, "rsa")) as ours:
        assert storescu(world, ours.port, "rsa", ct, "+pn", "+cs", suite).returncode != 0
        assert ours.stored == []


def test_storescu_and_the_role_that_is_wanted(world, ct):
    with our_scp(server(world, roles=["hospital"])) as ours:
        assert storescu(world, ours.port, "doctor", ct).returncode != 0
        assert ours.stored == []
        assert storescu(world, ours.port, "hospital", ct).returncode == 0
        assert ours.stored == ["1CT1"]


def test_storescu_refuses_us_if_it_does_not_know_our_issuer(world, ct):
    with our_scp(server(world)) as ours:
        assert storescu(world, ours.port, "node", ct, ca="strangers.pem").returncode != 0
        assert ours.stored == []


@contextlib.contextmanager
def storescp(world, folder, name, *words):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [dcmtk("storescp"), "+tls", world.file(f"{name}.key"), world.file(f"{name}.crt"), "+cf",
         world.file("ca.pem"), "-od", folder, *words, str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def store(port, context, ct):
    """Whether a C-STORE by pynetdicom came through."""
    require_module("pynetdicom", "gateway")
    from pynetdicom import AE

    ae = AE("OURS")
    ae.acse_timeout = ae.connection_timeout = ae.network_timeout = 10
    ae.add_requested_context(CTImageStorage)
    association = ae.associate("127.0.0.1", port, tls_args=(context, "localhost"))
    if not association.is_established:
        left = getattr(association.dul.socket, "socket", None)
        if left is not None:
            left.close()
        return False
    try:
        return association.send_c_store(pydicom.dcmread(ct)).Status == 0
    finally:
        association.release()


@pytest.mark.parametrize("name", ["node", "rsa"])
def test_we_store_with_storescp(world, ct, tmp_path, name):
    with storescp(world, tmp_path, name) as port:
        assert store(port, client(world, name), ct)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["expired", "stranger", "revoked", "doctor"])
def test_we_store_nothing_with_such_a_storescp(world, ct, tmp_path, name):
    with storescp(world, tmp_path, name) as port:
        assert not store(port, client(world), ct)
    assert list(tmp_path.iterdir()) == []


def test_storescp_refuses_strangers_of_ours(world, ct, tmp_path):
    with storescp(world, tmp_path, "node") as port:
        context = client(world)
        context.load_cert_chain(world.file("stranger.pem"))
        assert not store(port, context, ct)
    assert list(tmp_path.iterdir()) == []
