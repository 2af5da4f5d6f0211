"""openssl agrees: on what we make, and we on what it makes."""

import subprocess

import pytest

from dicomcrypt.errors import CertificateRefusedError
from dicomcrypt.pki import files, names
from dicomcrypt.pki.authority import Authority
from dicomcrypt.pki.checking import Trust, check_certificate
from dicomcrypt.pki.names import Role, Subject
from tests.conftest import need

ANNA = Subject("Arzt", "Anna", "Klinikum Nord", "Radiologie", "anna@klinikum.example",
               Role.PHYSICIAN)  # fmt: skip


WORDS = "words"


@pytest.fixture(scope="module")
def openssl(tmp_path_factory):
    """Run openssl in a folder of its own."""
    path, folder = need("openssl", "openssl"), tmp_path_factory.mktemp("openssl")

    def run(*words, status=0, **options):
        done = subprocess.run([path, *words], cwd=folder, capture_output=True, text=True,
                              check=False, **options)
        assert status is None or done.returncode == status, done.stderr + done.stdout
        return done.stdout + done.stderr

    run.folder = folder
    return run


@pytest.fixture(scope="module", params=["p384", "rsa-3072"])
def ca(request, openssl):
    with Authority.create(openssl.folder / request.param, organisation="Klinikum Nord",
                          passphrase=WORDS, kind=request.param) as authority:
        yield authority


def issued(ca, openssl, **options):
    """openssl makes key and request, we the certificate."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "k.pem", "-out", "r.csr", "-subj", "/CN=Anna")
    public = files.load_request(openssl.folder / "r.csr").public_key()
    made = ca.issue(public, ANNA, ["both"], lambda: "words", **options)
    (openssl.folder / "leaf.pem").write_bytes(files.pem([made]))
    return made


def chain(ca):
    return ["-CAfile", f"{ca.folder}/root.crt", "-untrusted", f"{ca.folder}/issuing.crt"]


def test_openssl_verifies_what_we_issue_and_refuses_what_we_revoked(ca, openssl):
    made = issued(ca, openssl)
    strict = ["verify", "-x509_strict", "-policy_check", *chain(ca)]
    assert openssl(*strict, "leaf.pem").strip() == "leaf.pem: OK"
    assert "OK" in openssl(*strict, f"{ca.folder}/attribute.crt")
    lists = b"".join((ca.folder / f"{i}.crl").read_bytes() for i in ("root", "issuing"))
    (openssl.folder / "lists.pem").write_bytes(lists)
    checked = [*strict, "-crl_check_all", "-CRLfile", "lists.pem", "leaf.pem"]
    assert "OK" in openssl(*checked)
    ca.revoke(made.serial_number, "keyCompromise")
    ca.make_crl("issuing", lambda: "words")
    lists = b"".join((ca.folder / f"{i}.crl").read_bytes() for i in ("root", "issuing"))
    (openssl.folder / "lists.pem").write_bytes(lists)
    assert "certificate revoked" in openssl(*checked, status=2)


def test_openssl_reads_every_field(ca, openssl):
    made = issued(ca, openssl)
    text = openssl("x509", "-in", "leaf.pem", "-noout", "-text", "-nameopt", "RFC2253")
    for words in ("SN=Arzt", "GN=Anna", "OU=Radiologie", "O=Klinikum Nord",
                  "email:anna@klinikum.example", "CA:FALSE", "Key Agreement", "E-mail Protection",
                  names.CONSTRUCTED.dotted_string, names.ROLE.dotted_string):
        assert words in text, words
    tree = openssl("asn1parse", "-in", "leaf.pem")
    assert names.ROLE.dotted_string in tree
    assert f"{made.serial_number:X}" in tree
    value = openssl("asn1parse", "-in", "leaf.pem", "-strparse", _offset(tree, names.ROLE))
    assert "UTF8STRING        :physician" in value
    value = openssl("asn1parse", "-in", "leaf.pem", "-strparse", _offset(tree, names.CONSTRUCTED))
    assert "GENERALIZEDTIME" in value


def _offset(tree, oid):
    """Where the octet string after an identifier is."""
    lines = tree.splitlines()
    at = next(n for n, line in enumerate(lines) if line.endswith(oid.dotted_string))
    return lines[at + 1].split(":")[0].strip()


def test_openssl_reads_our_list_and_our_key(ca, openssl):
    text = openssl("crl", "-in", f"{ca.folder}/issuing.crl", "-noout", "-text", "-CAfile",
                   f"{ca.folder}/issuing.crt")
    assert "verify OK" in text
    assert "X509v3 CRL Number" in text
    openssl("pkey", "-in", f"{ca.folder}/issuing.key", "-passin", "pass:words", "-noout")
    openssl("pkey", "-in", f"{ca.folder}/issuing.key", "-passin", "pass:other", "-noout", status=1)


def test_openssl_takes_our_request(openssl, tmp_path):
    from dicomcrypt.cli.pki_files import request

    request.callback(str(openssl.folder / "ours"), "p384", "Arzt", "Anna", None, None,
                     "anna@klinikum.example", "physician", False, None, True, True, True)
    text = openssl("req", "-in", "ours.csr", "-noout", "-verify", "-text")
    assert "verify OK" in text
    assert "email:anna@klinikum.example" in text


CONFIG = """
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment, keyAgreement
authorityKeyIdentifier = keyid
subjectAltName = email:berta@klinikum.example
[odd]
basicConstraints = CA:FALSE
1.2.3.4 = critical, ASN1:UTF8String:what
"""


@pytest.mark.parametrize("kind", ["ec:secp384r1", "rsa:2048", "rsa-pss", "ec:prime256v1"])
def test_we_take_what_openssl_makes(openssl, kind):
    (openssl.folder / "c.cnf").write_text(CONFIG)
    name, _, size = kind.partition(":")
    new = ["-newkey", f"rsa:{size or 2048}"]
    if name == "ec":
        new = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{size}"]
    sign = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
    sign = sign if name == "rsa-pss" else []
    openssl("req", "-x509", *new, "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
            "-subj", "/O=Elsewhere/CN=Root", "-config", "c.cnf", "-extensions", "ca", *sign)
    openssl("req", *new, "-nodes", "-keyout", "b.key", "-out", "b.csr", "-config", "c.cnf",
            "-subj", "/O=Elsewhere/SN=Apothekerin/GN=Berta/CN=Berta Apothekerin")

    def certificate(section, *words):
        openssl("x509", "-req", "-in", "b.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days",
                "10", "-extfile", "c.cnf", "-extensions", section, "-out", "b.pem",
                "-CAcreateserial", *sign, *words)
        return files.load_certificate(openssl.folder / "b.pem")

    def reason(made):
        with pytest.raises(CertificateRefusedError) as caught:
            check_certificate(made, trust, purpose="encrypt")
        return caught.value.reason

    trust = Trust.from_files([str(openssl.folder / "ca.pem")])
    made = certificate("leaf")
    check_certificate(made, trust, purpose="encrypt")
    check_certificate(made, trust, purpose="verify-signature")
    facts = names.facts(made)
    assert (facts.name, facts.first_name, facts.email) == (
        "Apothekerin", "Berta", "berta@klinikum.example")  # fmt: skip
    assert reason(certificate("odd")) == "unknown-critical-extension"
    if name == "rsa":
        for digest in ("-sha1", "-md5"):
            assert reason(certificate("leaf", digest)) == "algorithm"
            found = check_certificate(certificate("leaf", digest), trust, purpose="decrypt")
            assert "is signed with" in found.remarks[0]
    openssl("pkcs8", "-topk8", "-in", "b.key", "-out", "b.sealed", "-passout", "pass:words")
    sealed = files.load_private_key(openssl.folder / "b.sealed", lambda: "words")
    assert sealed.public_key() == made.public_key()


def test_a_list_of_openssl_counts(openssl):
    (openssl.folder / "c.cnf").write_text(CONFIG + """
[store]
database = index.txt
crlnumber = number
default_md = sha256
default_crl_days = 30
policy = any
new_certs_dir = .
serial = serial
x509_extensions = leaf
default_days = 10
[any]
commonName = supplied
""")
    for name, text in (("index.txt", ""), ("number", "01\n"), ("serial", "0102\n")):
        (openssl.folder / name).write_text(text)
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "c.cnf"]
    openssl("req", "-x509", *new, "-keyout", "s.key", "-out", "s.pem", "-days", "30", "-subj",
            "/CN=Store", "-extensions", "ca")
    openssl("req", *new, "-keyout", "c.key", "-out", "c.csr", "-subj", "/CN=Clara")
    by = ["ca", "-config", "c.cnf", "-name", "store", "-keyfile", "s.key", "-cert", "s.pem"]
    openssl(*by, "-batch", "-in", "c.csr", "-out", "c.pem", "-notext")
    made = files.load_certificate(openssl.folder / "c.pem")

    def judge():
        openssl(*by, "-gencrl", "-out", "s.crl")
        trust = Trust.from_files([str(openssl.folder / "s.pem")],
                                 crls=[str(openssl.folder / "s.crl")], require_crl=True)
        return check_certificate(made, trust, purpose="encrypt")

    assert judge().remarks[0].startswith("not revoked by the list of 'Store'")
    openssl(*by, "-revoke", "c.pem", "-crl_reason", "affiliationChanged")
    with pytest.raises(CertificateRefusedError, match="affiliation changed") as caught:
        judge()
    assert caught.value.reason == "revoked"
