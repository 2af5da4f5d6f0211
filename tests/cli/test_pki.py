"""`dicomcrypt pki`: from an empty folder to a certificate that is refused."""

import json
import os
import stat

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from refusals import CASES

from dicomcrypt.pki import files


@pytest.fixture(scope="module")
def folder(tmp_path_factory, command):
    """An authority, a holder's key, request and certificate."""
    place = tmp_path_factory.mktemp("pki")
    (place / "words").write_text("secret words\n")
    (place / "wrong").write_text("other words\n")
    p = ("--passphrase-file", "words")
    for line in (
        ("init", "ca", "--organisation", "Klinikum Nord", "--type", "p256", *p),
        ("request", "-o", "anna", "--name", "Arzt", "--first-name", "Anna", "--type", "p256",
         "--email", "anna@klinikum.example", "--role", "pharmacist", *p),
        ("issue", "anna.csr", "--ca", "ca", "--role", "physician", "--for", "both", *p),
    ):  # fmt: skip
        done = command("pki", *line, cwd=place)
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def pki(folder, call, monkeypatch):
    """Run `dicomcrypt pki` in that folder."""
    monkeypatch.chdir(folder)

    def run(*words, status=0):
        done = call("pki", *words)
        assert done.status == status, done.err
        return done

    return run


TRUST = ("--root", "ca/root.crt", "--intermediate", "ca/issuing.crt")
WORDS = ("--passphrase-file", "words")


def serial(pki, path):
    return json.loads(pki("show", path, "--json").out)["serial"]


def test_the_key_is_secret_and_the_request_is_not(folder):
    assert stat.S_IMODE(os.stat(folder / "anna.key").st_mode) == 0o600
    assert b"ENCRYPTED" in (folder / "anna.key").read_bytes()
    assert stat.S_IMODE(os.stat(folder / "anna.crt").st_mode) & 0o044
    assert stat.S_IMODE(os.stat(folder / "ca").st_mode) == 0o700


def test_the_operator_decides_and_sees_what_was_asked_for(folder, pki):
    done = pki("issue", "anna.csr", "--ca", "ca", "--role", "physician", "--for", "encryption",
               "--department", "Radiologie", "--days", "30", "-o", "second.crt", *WORDS)
    lines = [line.split() for line in done.out.splitlines()]
    assert ["role", "pharmacist", "physician"] in lines
    assert ["department", "-", "Radiologie"] in lines
    told = json.loads(pki("show", "second.crt", "--json").out)
    assert (told["role"], told["department"], told["authority"]) == (
        "physician", "Radiologie", False)  # fmt: skip
    assert (told["name"], told["first_name"], told["email"]) == (
        "Arzt", "Anna", "anna@klinikum.example")  # fmt: skip


def test_what_a_request_may_not_ask_for_is_not_taken(folder, pki):
    from certificates import key
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name.from_rfc4514_string("CN=Mallory"))
    for value in (x509.BasicConstraints(True, None), x509.SubjectAlternativeName(
            [x509.DNSName("bank.example"), x509.RFC822Name("m@b.example")])):
        builder = builder.add_extension(value, True)
    csr = builder.sign(key(), hashes.SHA256()).public_bytes(Encoding.DER)
    (folder / "mallory.csr").write_bytes(csr)
    done = json.loads(pki("issue", "mallory.csr", "--ca", "ca", "--for", "signing", "--json",
                          *WORDS).out)
    assert done["not_taken"] == ["basicConstraints", "DNSName bank.example"]
    assert (done["authority"], done["role"]) == (False, None)
    assert b"bank.example" not in files.load_certificate(folder / "mallory.crt").public_bytes(
        Encoding.DER)


def test_a_good_certificate_is_taken(pki):
    done = pki("verify", "anna.crt", *TRUST, "--crl", "ca/issuing.crl", "--for", "encrypt",
               "--role", "physician")
    assert "'Anna Arzt'" in done.err
    assert "is taken for encrypt" in done.err
    told = json.loads(pki("verify", "anna.crt", *TRUST, "--json").out)
    assert (told["valid"], told["role"], len(told["path"])) == (True, "physician", 3)


def test_trust_of_the_configuration(pki, folder, monkeypatch):
    pki("verify", "anna.crt", status=2)
    (folder / "config.toml").write_text(
        '[trust]\nroots = ["ca/root.crt"]\nintermediates = ["ca/issuing.crt"]\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(folder / "config.toml"))
    pki("verify", "anna.crt")


@pytest.mark.parametrize("name", CASES)
def test_every_refusal_has_a_sentence_and_status_5(name, pki, tmp_path):
    certificate, trust, options = CASES[name].make()
    words = ["verify", tmp_path / "it.pem"]
    beside = options.get("intermediates", [])
    (tmp_path / "it.pem").write_bytes(files.pem([certificate, *beside]))
    if "moment" in options:
        words += ["--at", f"{options['moment']:%Y-%m-%dT%H:%M:%SZ}"]
    for what, option, found in (("roots", "--root", trust.roots),
                                ("between", "--intermediate", trust.intermediates)):
        if found:
            (tmp_path / what).write_bytes(files.pem(list(found)))
            words += [option, tmp_path / what]
    if trust.crls:
        (tmp_path / "crls").write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in trust.crls))
        words += ["--crl", tmp_path / "crls"]
    words += ["--require-crl"] * trust.require_crl
    words += ["--for", options.get("purpose", "any")]
    words += ["--role", options["role"]] if "role" in options else []
    status = 4 if CASES[name].reason == "malformed" else 5
    done = pki(*words, status=status)
    assert done.err.startswith("dicomcrypt: ")
    assert done.err.count("\n") == 1
    told = json.loads(pki(*words, "--json", status=status).out)
    assert (told["valid"], told["reason"]) == (False, CASES[name].reason)


def test_revoked_and_told(pki, folder):
    pki("issue", "anna.csr", "--ca", "ca", "--for", "both", "-o", "gone.crt", *WORDS)
    number = serial(pki, "gone.crt")
    pki("revoke", number, "--ca", "ca", "--reason", "superseded")
    pki("verify", "gone.crt", *TRUST, "--crl", "ca/issuing.crl")  # the list is from before
    pki("crl", "--ca", "ca", "-o", "public.crl", "-f", *WORDS)
    done = pki("verify", "gone.crt", *TRUST, "--crl", "public.crl", status=5)
    assert "was revoked on" in done.err
    assert "another one replaced it" in done.err
    done = pki("verify", "gone.crt", *TRUST, "--crl", "public.crl", "--for", "decrypt")
    assert "remark: certificate of 'Anna Arzt'" in done.err
    rows = json.loads(pki("list", "--ca", "ca", "--status", "revoked", "--json").out)
    assert [row["serial"] for row in rows] == [number]
    assert json.loads(pki("show", "public.crl", "--json").out)["revoked"] == [number]
    assert number in pki("list", "--ca", "ca").out
    pki("revoke", number, "--ca", "ca", status=2)
    pki("revoke", "1234", "--ca", "ca", status=2)
    pki("revoke", "xyz", "--ca", "ca", status=2)


def test_renewed(pki):
    pki("renew", serial(pki, "anna.crt"), "--ca", "ca", "-o", "again.crt", "--days", "10", *WORDS)
    first, again = (json.loads(pki("show", p, "--json").out) for p in ("anna.crt", "again.crt"))
    assert {k for k in first if first[k] != again[k]} <= {"serial", "begin", "end", "constructed"}
    pki("match", "anna.key", "again.crt", *WORDS)


def test_key_and_certificate_match(pki, folder):
    pki("match", "anna.key", "anna.crt", *WORDS)
    done = pki("match", "ca/issuing.key", "anna.crt", "--json", *WORDS, status=3)
    assert json.loads(done.out)["match"] is False
    done = pki("match", "anna.key", "anna.crt", "--passphrase-file", "wrong", status=3)
    assert "passphrase is wrong" in done.err
    pki("match", "anna.crt", "anna.crt", *WORDS, status=2)
    pki("match", "anna.key", "anna.key", *WORDS, status=2)


def test_exported(pki, folder):
    p12 = ("--p12-passphrase-file", "wrong")
    pki("export", "anna.crt", "--key", "anna.key", "--chain", "ca/issuing.crt", "-o", "anna.p12",
        *WORDS, *p12)
    assert stat.S_IMODE(os.stat(folder / "anna.p12").st_mode) == 0o600
    key, certificate, above = pkcs12.load_key_and_certificates(
        (folder / "anna.p12").read_bytes(), b"other words")
    assert certificate == files.load_certificate(folder / "anna.crt")
    assert key.public_key() == certificate.public_key()
    assert above == [files.load_certificate(folder / "ca/issuing.crt")]
    pki("export", "anna.crt", "--key", "ca/issuing.key", "-o", "x.p12", *WORDS, *p12, status=3)
    pki("export", "anna.crt", "-o", "x.p12", status=2)
    pki("export", "anna.crt", "-o", "anna.p12", "--key", "anna.key", *WORDS, *p12, status=1)
    pki("export", "anna.crt", "--format", "der", "-o", "anna.cer")
    pki("verify", "anna.cer", *TRUST)
    pki("export", "anna.crt", "--format", "chain", "--chain", "ca/issuing.crt", "-o", "chain.pem")
    pki("verify", "chain.pem", "--root", "ca/root.crt")


def test_wrong_passphrases_and_existing_files(pki, folder):
    done = pki("issue", "anna.csr", "--ca", "ca", "--for", "both", "-o", "new.crt",
               "--passphrase-file", "wrong", status=3)
    assert "passphrase is wrong" in done.err
    assert not (folder / "new.crt").exists()
    before = len(json.loads(pki("list", "--ca", "ca", "--json").out))
    pki("issue", "anna.csr", "--ca", "ca", "--for", "both", *WORDS, status=1)
    assert len(json.loads(pki("list", "--ca", "ca", "--json").out)) == before
    pki("request", "-o", "anna", "--name", "Arzt", "--no-passphrase", status=1)
    pki("request", "-o", "b", "--name", "B", "--no-passphrase", *WORDS, status=2)
    pki("request", "-o", "b", "--no-passphrase", status=2)
    pki("request", "-o", "b", "--name", "B", "--type", "dsa", "--no-passphrase", status=2)
    pki("init", "ca", "--organisation", "X", *WORDS, status=1)
    pki("list", "--ca", ".", status=2)
    pki("issue", "anna.csr", "--ca", "ca", "--for", "tls-server", "-o", "t.crt", *WORDS, status=2)


@pytest.mark.parametrize(("kind", "use"), [("x25519", "encryption"), ("ml-kem-768", "encryption"),
                                           ("ml-dsa-65", "signing")])
def test_kinds_of_keys(pki, folder, kind, use):
    pki("request", "-o", kind, "--name", "Arzt", "--type", kind, "--no-passphrase")
    form = "csr" if kind == "ml-dsa-65" else "pub.pem"
    pki("issue", f"{kind}.{form}", "--ca", "ca", "--name", "Arzt", "--for", use, "-o",
        f"{kind}.crt", *WORDS)
    purpose = "sign" if use == "signing" else "encrypt"
    pki("verify", f"{kind}.crt", *TRUST, "--for", purpose)
    pki("match", f"{kind}.key", f"{kind}.crt")
    done = pki("export", f"{kind}.crt", "--key", f"{kind}.key", "-o", "x.p12",
               "--p12-passphrase-file", "words", status=2)
    assert "PKCS#12" in done.err


def test_a_server_with_names(pki, folder):
    pki("request", "-o", "pacs", "--name", "PACS", "--type", "p256", "--no-passphrase")
    pki("issue", "pacs.csr", "--ca", "ca", "--role", "application", "--for", "tls-server",
        "--dns", "pacs.example", "--ip", "127.0.0.1", "--chain", *WORDS)
    pki("verify", "pacs.crt", "--root", "ca/root.crt", "--for", "tls-server")
    pki("may", "pacs.crt", "serve", "--root", "ca/root.crt")
    for bad in (("--dns", "päcs.example"), ("--ip", "300.1.1.1")):
        pki("issue", "pacs.csr", "--ca", "ca", "--for", "tls-server", *bad, "-f", *WORDS, status=2)


def test_attribute_certificates_and_rights(pki, need_module):
    need_module("asn1crypto", "pki")
    trust = (*TRUST, "--intermediate", "ca/attribute.crt")
    pki("attribute", "issue", "anna.crt", "--ca", "ca", "--may", "dispense", "--days", "30", "-o",
        "anna.attr", *WORDS)
    told = json.loads(pki("attribute", "show", "anna.attr", "--json").out)
    assert told["permissions"] == ["dispense"]
    assert "dispense" in pki("attribute", "show", "anna.attr").out
    pki("attribute", "verify", "anna.attr", "--holder", "anna.crt", *trust)
    done = pki("may", "anna.crt", "dispense", *trust, status=5)
    assert "is of role physician and may not dispense" in done.err
    pki("may", "anna.crt", "dispense", "--attribute", "anna.attr", *trust)
    pki("may", "anna.crt", "prescribe", *trust)
    pki("revoke", told["serial"], "--ca", "ca", "--reason", "privilegeWithdrawn")
    pki("crl", "--ca", "ca", "--issuer", "attribute", *WORDS)
    listed = (*trust, "--crl", "ca/attribute.crl")
    done = pki("attribute", "verify", "anna.attr", "--holder", "anna.crt", *listed, status=5)
    assert "was revoked" in done.err
    told = json.loads(pki("may", "anna.crt", "dispense", "--attribute", "anna.attr", "--json",
                          *listed, status=5).out)
    assert told["allowed"] is False
    assert any("was revoked" in remark for remark in told["remarks"])
    done = pki("attribute", "verify", "anna.attr", "--holder", "second.crt"
               if os.path.exists("second.crt") else "ca/issuing.crt", *trust, status=5)
    assert "is not for certificate" in done.err


def test_revoking_names_the_list_and_other_certificates_of_the_key(pki, folder):
    for name in ("one", "two"):
        pki("issue", "anna.csr", "--ca", "ca", "--for", "both", "-o", f"{name}.crt", *WORDS)
    pki("request", "-o", "lost", "--name", "L", "--type", "p256", "--no-passphrase")
    for name in ("lost", "lost2", "lost3"):
        pki("issue", "lost.csr", "--ca", "ca", "--for", "both", "-o", f"{name}.crt", *WORDS)
    first, second, third = (serial(pki, f"{n}.crt") for n in ("lost", "lost2", "lost3"))
    done = pki("revoke", first, "--ca", "ca", "--reason", "keyCompromise")
    assert second in done.err
    assert third in done.err
    assert "--all-of-key" in done.err
    assert "pki crl --ca ca --issuer issuing" in done.err
    told = json.loads(pki("revoke", second, "--ca", "ca", "--reason", "keyCompromise",
                          "--all-of-key", "--json").out)
    assert told["also"] == [third]
    assert told["same_key"] == []
    done = pki("issue", "lost.csr", "--ca", "ca", "--for", "both", "-o", "x.crt", *WORDS, status=5)
    assert "no longer secret" in done.err
    assert not (folder / "x.crt").exists()


def test_nothing_is_issued_to_where_nothing_can_be_written(pki, folder):
    before = pki("list", "--ca", "ca", "--json").out
    pki("issue", "anna.csr", "--ca", "ca", "--for", "both", "-o", "none/x.crt", *WORDS, status=1)
    pki("renew", serial(pki, "anna.crt"), "--ca", "ca", "-o", "none/x.crt", *WORDS, status=1)
    assert pki("list", "--ca", "ca", "--json").out == before


def test_a_list_newer_than_the_database(pki, folder):
    database = (folder / "ca/ca.sqlite").read_bytes()
    pki("crl", "--ca", "ca", *WORDS)
    (folder / "ca/ca.sqlite").write_bytes(database)
    done = pki("crl", "--ca", "ca", *WORDS, status=5)
    assert "--force" in done.err
    told = json.loads(pki("crl", "--ca", "ca", "--force", "--json", *WORDS).out)
    assert told["number"] > 2


def test_a_key_that_the_policy_refuses_is_not_made(pki, folder, monkeypatch):
    (folder / "bsi.toml").write_text('[policy]\npreset = "bsi"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(folder / "bsi.toml"))
    for kind in ("ml-dsa-65", "x25519"):
        done = pki("request", "-o", "no", "--name", "X", "--type", kind, "--no-passphrase",
                   status=5)
        assert kind in done.err
    assert not (folder / "no.key").exists()
    pki("request", "-o", "yes", "--name", "X", "--type", "p256", *WORDS)


def test_who_interrupts_it_is_not_told_that_it_goes_on(pki, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("dicomcrypt.pki.authority.Authority.listing", interrupted)
    done = pki("list", "--ca", "ca", status=130)
    assert done.err.strip() == "dicomcrypt: interrupted"


def test_remarks_keep_their_reason(pki):
    pki("issue", "anna.csr", "--ca", "ca", "--for", "signing", "-o", "sign.crt", *WORDS)
    done = pki("verify", "sign.crt", *TRUST, "--for", "decrypt")
    assert "its key usage has no key agreement" in done.err


def test_dates_without_end(pki):
    for words in (("--begin", "0001-01-01"), ("--end", "1949-01-01"),
                  ("--begin", "9999-12-01", "--days", "99")):
        pki("issue", "anna.csr", "--ca", "ca", "--for", "both", "-o", "d.crt", *words, *WORDS,
            status=2)
    for moment in ("0001-01-01", "9999-12-31T23:59:59"):
        pki("verify", "anna.crt", *TRUST, "--crl", "ca/issuing.crl", "--at", moment, status=5)


def test_pkcs12_takes_the_chain_of_the_certificate_s_file(pki, folder):
    pki("issue", "anna.csr", "--ca", "ca", "--for", "both", "-o", "chain.crt", "--chain", *WORDS)
    pki("export", "chain.crt", "--key", "anna.key", "-o", "chain.p12", *WORDS,
        "--p12-passphrase-file", "wrong")
    _, _, above = pkcs12.load_key_and_certificates(
        (folder / "chain.p12").read_bytes(), b"other words")
    assert above == [files.load_certificate(folder / "ca/issuing.crt")]


def test_what_shows_and_what_does_not(pki, folder):
    assert "role asked for" in pki("show", "anna.csr").out
    assert "Klinikum Nord Root CA" in pki("show", "ca/root.crt").out
    pki("show", "ca/root.crl")
    pki("show", "words", status=2)
    pki("show", "nothing", status=2)
    (folder / "bad.der").write_bytes(b"\x30\x03abc")
    assert "Parse" not in pki("show", "bad.der", status=4).err
