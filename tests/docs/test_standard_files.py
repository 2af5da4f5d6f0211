"""docs/standard-files.md: signatures with dcmsign, Secure DICOM Files with openssl, TLS, audit."""

import authority as ca
import pytest
from certificates import Maker
from doc_commands import Rule, page
from practice import key_pem

from tests.conftest import need, require_module

PAGE = "docs/standard-files.md"


@pytest.fixture
def authority(scene):
    """ca.pem and ca.crl, and the files of scanner, doctor and node."""
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    root = Maker.root("Klinikum")
    scene.write("ca.pem", ca.pem(root.certificate))
    scene.write("ca.crl", ca.pem(root.crl()))
    scanner = root.leaf("CT 1", uses=["signing"], kind="rsa-2048")
    scene.write("scanner.p12", pkcs12.serialize_key_and_certificates(
        None, scanner.key, scanner.certificate, None, NoEncryption()), 0o600)
    doctor = root.leaf("Doctor", uses=["encryption"], kind="rsa-2048")
    node = root.leaf("node", uses=["tls-server", "tls-client"], role="hospital",
                     extra=[(ca.x509.SubjectAlternativeName([ca.x509.DNSName("localhost")]),
                             False)])
    for name, who in {"scanner": scanner, "doctor": doctor}.items():
        scene.write(f"{name}.crt", ca.pem(who.certificate))
        scene.write(f"{name}-key.pem", key_pem(who.key), 0o600)
    scene.write("node.pem", ca.pem(node.certificate) + key_pem(node.key), 0o600)
    return root


@pytest.fixture
def ae():
    """A DICOM node whose server takes a port of its own; `associate` finds it there."""
    require_module("pynetdicom", "gateway")
    from pynetdicom import AE

    class Node(AE):
        at = None

        def start_server(self, address, **options):
            assert address == ("0.0.0.0", 2762)  # noqa: S104 - what the page says
            self.at = super().start_server(("127.0.0.1", 0), **options)
            return self.at

        def associate(self, host, port, **options):
            assert port == 2762
            return super().associate("127.0.0.1", self.at.server_address[1], **options)

    node = Node()
    node.add_supported_context("1.2.840.10008.1.1")
    node.add_requested_context("1.2.840.10008.1.1")
    yield node
    if node.at:
        node.at.shutdown()


def audit_log(path):
    from dicomcrypt.audit import AuditLog

    with AuditLog.open(path) as log:
        log.record("encrypt", actor="uid:1000", objects=["0d91b1c27a5b8f3e"], outcome="ok")


def test_the_page_runs_from_top_to_bottom(scene, authority, ae):
    need("dcmsign", "dcmtk")
    ct = scene.dicom("ct.dcm").read_bytes()
    audit_log(scene.folder / "audit.log")
    scene.space |= {"ae": ae, "host": "localhost"}
    scene.run(page(PAGE), [
        Rule("audit export", after=lambda s: _says((s.folder / "messages.xml").read_text(),
                                                   "<AuditMessage>")),
    ])
    assert scene.space["found"].signatures
    assert scene.space["association"].is_established
    scene.space["association"].release()
    for name in ("back.dcm", "by-openssl.dcm"):
        assert (scene.folder / name).read_bytes() == ct


def _says(text, words):
    assert words in text, text
