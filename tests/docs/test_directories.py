"""docs/directories.md: its commands with real directories, the last with its own certificate."""

import contextlib

import authority as ca
import pytest
import slapd
from doc_commands import Rule, page

from tests.conftest import need, require_module

PAGE = "docs/directories.md"
BASE, REGION = "dc=hospital,dc=example", "dc=region,dc=example"


@pytest.fixture
def servers(tmp_path):
    """Folders for slapd; every server ends with the test."""
    require_module("pyasn1_modules", "ldap")
    if slapd.find_slapd() is None:
        need("slapd", "slapd")
    with contextlib.ExitStack() as stack:
        yield lambda name, suffix, **more: stack.enter_context(
            slapd.serve(tmp_path / name, suffix, **more))


def test_the_page_runs_from_top_to_bottom(scene, servers):
    tls = ca.Authority("TLS")
    hospital = servers("hospital", BASE, pem=tls.server("127.0.0.1"))
    region = servers("region", REGION)
    scene.dicom("ct.dcm")
    for line in ('pki init ca/ --organisation "Klinikum Nord" --passphrase-file words',
                 "pki request -o ada --name Lovelace --first-name Ada"
                 " --email ada@hospital.example --no-passphrase",
                 "pki issue ada.csr --ca ca/ --for both --passphrase-file words"):
        scene.write("words", "of the authority\n", 0o600)
        assert scene.shell(f"dicomcrypt {line}") == 0, scene.err

    def configure(s, text):
        for word, other in {"ldaps://ldap.hospital.example": hospital.tls_url,
                            "ldap://ldap.region.example": region.url, "cn=publisher": "cn=admin",
                            "o=region": REGION}.items():
            assert word in text
            text = text.replace(word, other)
        s.configure(text)
        (s.config.parent / "hospital-ca.pem").write_bytes(ca.pem(tls.certificate))
        password = s.config.parent / "ldap-password"
        password.write_text("secret\n")
        password.chmod(0o600)

    def serves(s):
        pem = (s.folder / "ldap.crt").read_bytes() + (s.folder / "ldap.key").read_bytes()
        own = servers("own", BASE, pem=pem)
        status = s.shell("dicomcrypt pki find --email nobody@hospital.example --ca hospital-ca.pem"
                         f" --directory {own.tls_url} --base {BASE}")
        assert status == 1  # it was asked over TLS, and answered
        assert f"{own.tls_url}: has none" in s.err

    scene.run(page(PAGE), [
        Rule(r"\[directories.hospital\]", do=configure),
        Rule("fetch -o trust", after=lambda s: _files(s.folder / "trust", 2)),
        Rule("pki issue ldap.csr", replace={"--dns": "--ip", "ldap.hospital.example": "127.0.0.1"}),
        Rule("> hospital-ca.pem", after=serves),
    ], replies={"passphrase": "of the authority"})


def _files(folder, number):
    assert len(list(folder.iterdir())) == number
