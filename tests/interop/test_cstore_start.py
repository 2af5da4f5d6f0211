"""examples/cstore_receiver.py as it is called, and over TLS."""

import datetime
import os
import socket
import ssl
import subprocess
import sys

import pydicom
import pytest
from cstore import IDENTITY, PACKAGE, RECEIVER, association, send

from dicomcrypt.keys import keyfile
from tests.conftest import require_module

# The threads of pynetdicom's requestor, when both sides end an association at once.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(autouse=True)
def gateway():
    require_module("pynetdicom", "gateway")


def test_help_has_an_example_and_wrong_calls_say_what_is_wrong(tmp_path):
    def call(*words):
        return subprocess.run(
            [sys.executable, RECEIVER, *words], check=False, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)}, timeout=100,
        )  # fmt: skip

    shown = call("--help")
    assert shown.returncode == 0
    assert "-r doctor.pub -o safe/" in shown.stdout
    for words, status in (
        ((), 2),
        (("-r", tmp_path / "none", "-o", tmp_path / "safe"), 2),
        (("-r", RECEIVER, "-o", tmp_path / "safe"), 2),
        (("-r", RECEIVER, "-o", tmp_path / "safe", "--tls-key", "x"), 2),
    ):
        done = call(*words)
        assert done.returncode == status, done.stderr
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def certificate(folder):
    """A key and a certificate for localhost that signs itself, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + made.public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    return path


def test_it_does_not_start_with_an_invalid_certificate_of_its_own(tmp_path):
    from refusals import chain

    public = tmp_path / "it.pub"
    public.write_text(keyfile.recipient_text(IDENTITY.recipient))
    day = datetime.timedelta(days=1)
    leaf = chain()[1].leaf(uses=["tls-server"], begin=-30 * day, end=-day)
    (tmp_path / "own.pem").write_bytes(leaf.key_pem() + leaf.pem() + leaf.above[0].pem())
    (tmp_path / "ca.pem").write_bytes(leaf.above[1].pem())
    done = subprocess.run(
        [sys.executable, RECEIVER, "--port", "0", "-r", public, "-o", tmp_path / "safe",
         "--tls-cert", tmp_path / "own.pem", "--tls-ca", tmp_path / "ca.pem"],
        check=False, capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "not started: own certificate" in done.stderr
    assert "expired on" in done.stderr


def test_storescu_over_tls_with_the_role_that_is_wanted(tmp_path, file_of, receive):
    from certificates import Maker

    root = Maker.root("Root")
    (tmp_path / "ca.pem").write_bytes(root.pem())
    for name, role in (("own", None), ("hospital", "hospital"), ("doctor", "physician")):
        leaf = root.leaf(name, uses=["tls-server", "tls-client"], role=role)
        (tmp_path / f"{name}.pem").write_bytes(leaf.key_pem() + leaf.pem())
    receiver = receive("--tls-cert", tmp_path / "own.pem", "--tls-ca", tmp_path / "ca.pem",
                       "--tls-role", "hospital")
    for name, stored in (("doctor", 0), ("hospital", 1), ("doctor", 1)):
        pem = tmp_path / f"{name}.pem"
        done = send(receiver.port, "+tls", pem, pem, "+cf", tmp_path / "ca.pem",
                    file_of("CT_small.dcm"))
        assert (done.returncode == 0) == (name == "hospital"), done.stderr
        assert len(receiver.files()) == stored


def test_tls_with_certificates_of_both_sides(tmp_path, file_of, receive):
    path = certificate(tmp_path)
    receiver = receive("--tls-cert", path, "--tls-ca", path)
    context = ssl.create_default_context(cafile=path)
    context.check_hostname = False
    context.load_cert_chain(path)
    dataset = pydicom.dcmread(file_of("CT_small.dcm"))
    with association(receiver.port, tls_args=(context, "localhost")) as assoc:
        for _ in range(3):
            assert assoc.send_c_store(dataset).Status == 0
    assert len(receiver.files()) == 3
    assert send(receiver.port, file_of("CT_small.dcm")).returncode != 0
    assert len(receiver.files()) == 3
    with socket.create_connection(("127.0.0.1", receiver.port)):  # and never a word
        with association(receiver.port, tls_args=(context, "localhost")) as assoc:
            assert assoc.send_c_store(dataset).Status == 0
