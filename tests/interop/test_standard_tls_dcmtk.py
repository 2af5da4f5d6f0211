"""TLS by PS3.15 B.12: pynetdicom with ours against dcmtk's storescu and storescp."""

import contextlib
import gc
import subprocess
import warnings
from types import SimpleNamespace

import pydicom
import pytest
from dcmtk import dcmtk
from ports import free_port, listening
from pydicom.uid import CTImageStorage
from tls_world import client, make_world, server

from tests.conftest import require_module

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def what_pynetdicom_leaves():
    """Sockets of associations that came to nothing are closed when they are collected."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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
        timeout=100,
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


def storescp(world, folder, name, *words):
    port = free_port()
    return listening(
        [dcmtk("storescp"), "+tls", world.file(f"{name}.key"), world.file(f"{name}.crt"), "+cf",
         world.file("ca.pem"), "-od", folder, *words, str(port)], port)


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
