"""Which certificates are taken, and the sentence with which others are refused."""

import re
import subprocess

import pytest
from certificates import DAY, NOW, Maker, altered, fresh_key, openssl_verdict
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import CASES, chain

from dicomcrypt.errors import CertificateRefusedError, DicomcryptError, UsageError
from dicomcrypt.pki import files, names
from dicomcrypt.pki.checking import Trust, check_certificate


@pytest.fixture(scope="module")
def holder():
    return chain()[1].leaf(role="physician", email="anna@klinikum.example")


@pytest.mark.parametrize("name", CASES)
def test_a_certificate_is_refused_for_its_reason(name, tmp_path, need_command):
    case = CASES[name]
    certificate, trust, options = case.make()
    with pytest.raises(CertificateRefusedError) as caught:
        check_certificate(certificate, trust, **{"purpose": "any", **options})
    error = caught.value
    assert (error.reason, error.exit_status) == (
        case.reason, 4 if case.reason == "malformed" else 5), error
    sentence = str(error)
    assert "\n" not in sentence
    assert not sentence.endswith(".")
    assert len(sentence) < 400
    assert re.match(r"(certificate|the) ", sentence), sentence
    if case.openssl is not None:
        need_command("openssl", "openssl")
        good, words = openssl_verdict(subprocess.run, tmp_path, certificate, trust)
        assert good is case.openssl, words


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa-2048", "ml-dsa-65"])
def test_good_chains_of_every_kind_are_taken(kind):
    root = Maker.root(kind=kind, key=None)
    leaf = root.authority(kind=kind, path_length=0).leaf(role="hospital")
    checked = check_certificate(leaf.certificate, leaf.trust(), purpose="encrypt", role="hospital")
    assert [c.subject for c in checked.path] == [
        m.certificate.subject for m in (leaf, *leaf.above)
    ]
    assert "'Anna Arzt'" in checked.sentence
    assert len(checked.remarks) == 2  # no lists were at hand


@pytest.mark.parametrize(("kind", "uses", "purpose"), [
    ("x25519", ["encryption"], "encrypt"), ("ml-kem-768", ["encryption"], "encrypt"),
    ("rsa-2048", ["both"], "encrypt"), ("rsa-2048", ["signing"], "sign"),
    ("p384", ["both"], "verify-signature"), ("ml-dsa-65", ["signing"], "sign"),
    ("p256", ["tls-server"], "tls-server"), ("p256", ["tls-client"], "tls-client"),
    ("p256", ["tls-server", "tls-client"], "tls-client"), ("p256", (), "encrypt"),
])  # fmt: skip
def test_uses_that_fit_are_taken(kind, uses, purpose):
    leaf = chain()[1].leaf(kind=kind, uses=uses)
    assert check_certificate(leaf.certificate, leaf.trust(), purpose=purpose).purpose == purpose


def test_a_list_that_does_not_name_it_is_said_to_have_been_looked_at():
    root, issuer = chain()
    leaf = issuer.leaf()
    trust = leaf.trust(issuer.crl(issuer.leaf("Other")), root.crl(), require_crl=True)
    remarks = check_certificate(leaf.certificate, trust, purpose="any").remarks
    assert [r.partition(" by ")[0] for r in remarks] == ["not revoked"] * 2


def test_the_newest_list_counts():
    _, issuer = chain()
    leaf = issuer.leaf()
    hold = issuer.crl((leaf, x509.ReasonFlags.certificate_hold, -2 * DAY), begin=-2 * DAY)
    released = issuer.crl(begin=-DAY, number=2)
    check_certificate(leaf.certificate, leaf.trust(hold, released), purpose="any")
    gone = issuer.crl((leaf, x509.ReasonFlags.remove_from_crl, -DAY))
    check_certificate(leaf.certificate, leaf.trust(gone), purpose="any")


def test_what_was_signed_before_a_revocation_counts():
    _, issuer = chain()
    leaf = issuer.leaf(begin=-30 * DAY)
    trust = leaf.trust(issuer.crl((leaf, x509.ReasonFlags.superseded, -DAY)))
    check_certificate(
        leaf.certificate, trust, purpose="verify-signature", moment=NOW - 10 * DAY
    )


@pytest.mark.parametrize("make", [
    lambda i: (i.leaf(begin=-30 * DAY, end=-DAY), None, "expired on"),
    lambda i: (i.leaf(begin=DAY), None, "is valid only from"),
    lambda i: (leaf := i.leaf(), i.crl(leaf), "was revoked on"),
    lambda i: (i.leaf(), i.crl(begin=-30 * DAY, end=-DAY), "was good until"),
    lambda i: (i.leaf(kind="rsa-1024"), None, "1024 bits"),
    lambda i: (i.leaf(uses=["signing"]), None, "is not for encryption"),
])  # fmt: skip
def test_old_data_stays_open_and_that_is_said(make):
    leaf, crl, words = make(chain()[1])
    trust = leaf.trust(*([crl] if crl is not None else []))
    checked = check_certificate(leaf.certificate, trust, purpose="decrypt")
    assert any(words in remark for remark in checked.remarks), checked.remarks
    assert ("though it expired on" in checked.sentence) is (words == "expired on")
    with pytest.raises(CertificateRefusedError):
        check_certificate(leaf.certificate, trust, purpose="encrypt")


def test_old_data_does_not_open_the_door_for_strangers():
    leaf = chain()[1].leaf(begin=-30 * DAY, end=-DAY)
    for trust in (chain()[0].trust(), Trust(())):
        with pytest.raises(CertificateRefusedError) as caught:
            check_certificate(leaf.certificate, trust, purpose="decrypt")
        assert caught.value.reason == "wrong-issuer"


def test_a_patient_is_not_named():
    leaf = chain()[1].leaf("Erika Mustermann", role="patient", begin=-30 * DAY, end=-DAY)
    with pytest.raises(CertificateRefusedError, match="of a patient") as caught:
        check_certificate(leaf.certificate, leaf.trust(), purpose="encrypt")
    assert "Erika" not in str(caught.value)


def test_a_good_way_is_found_beside_bad_ones():
    root, issuer = chain()
    old = root.authority("Issuer of the tests", key=issuer.key, begin=-30 * DAY, end=-DAY)
    stranger = Maker.root("Other").authority("Issuer of the tests")
    forged = altered(issuer.certificate)
    pool = (old.certificate, stranger.certificate, forged, issuer.certificate)
    trust = Trust((root.certificate,), pool)
    path = check_certificate(issuer.leaf().certificate, trust, purpose="any").path
    assert path[1] == issuer.certificate


def test_what_comes_with_a_certificate_is_used_but_not_trusted():
    root, issuer = chain()
    leaf = issuer.leaf().certificate
    check_certificate(leaf, root.trust(), purpose="any", intermediates=[issuer.certificate])
    with pytest.raises(CertificateRefusedError) as caught:
        check_certificate(leaf, chain()[0].trust(), purpose="any",
                          intermediates=[issuer.certificate, root.certificate])
    assert caught.value.reason == "wrong-issuer"


def test_many_authorities_that_vouch_for_each_other_end():
    keys = [fresh_key() for _ in range(7)]
    makers = [Maker.root(f"CA {n}", key=key) for n, key in enumerate(keys)]
    pool = [m.authority(f"CA {n}", key=key).certificate
            for m in makers for n, key in enumerate(keys)]
    with pytest.raises(CertificateRefusedError) as caught:
        check_certificate(makers[0].leaf().certificate, Trust(chain()[0].trust().roots, pool),
                          purpose="any")
    assert caught.value.reason == "chain-too-long"


def test_eight_authorities_are_few_enough():
    maker = Maker.root()
    for number in range(7):
        maker = maker.authority(f"Authority {number}")
    leaf = maker.leaf()
    assert len(check_certificate(leaf.certificate, leaf.trust(), purpose="any").path) == 9


def test_a_long_list_is_looked_through_quickly():
    _, issuer = chain()
    leaf = issuer.leaf()
    crl = issuer.crl(*range(1, 3000), leaf)
    with pytest.raises(CertificateRefusedError, match="was revoked"):
        check_certificate(leaf.certificate, leaf.trust(crl), purpose="any")


def test_trust_comes_from_the_configuration(holder, tmp_path, monkeypatch):
    (tmp_path / "root.pem").write_bytes(holder.above[1].pem())
    (tmp_path / "between.der").write_bytes(holder.above[0].der())
    (tmp_path / "config.toml").write_text(
        '[trust]\nroots = ["root.pem"]\nintermediates = "between.der"\nrequire_crl = true\n'
    )
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    trust = Trust.from_config()
    with pytest.raises(CertificateRefusedError, match="cannot be checked for revocation"):
        check_certificate(holder.certificate, trust, purpose="encrypt")
    (tmp_path / "config.toml").write_text("[trust]\nrequire_crl = 1\n")
    with pytest.raises(UsageError, match="require_crl"):
        Trust.from_config()
    monkeypatch.setenv("DICOMCRYPT_CONFIG", "")
    assert Trust.from_config().roots == ()


def test_a_purpose_or_role_that_there_is_not(holder):
    with pytest.raises(UsageError, match="purpose"):
        check_certificate(holder.certificate, holder.trust(), purpose="all")
    with pytest.raises(UsageError, match="no role"):
        check_certificate(holder.certificate, holder.trust(), purpose="any", role="king")


# ---- bytes that are no certificates ------------------------------------------


@given(data=st.data())
@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
def test_no_mutation_of_a_certificate_is_taken_or_crashes(data, holder):
    der = bytearray(holder.der())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(der) - 1))
        match data.draw(st.sampled_from(["flip", "set", "cut", "insert"])):
            case "flip":
                der[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                der[at] = data.draw(st.integers(0, 255))
            case "cut":
                del der[at:]
            case "insert":
                der[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        if not der:
            return
    if bytes(der) == holder.der():
        return
    try:
        found = files.parse_certificates(bytes(der), "it")
        names.facts(found[0])
        check_certificate(found[0], holder.trust(), purpose="encrypt")
    except DicomcryptError:
        return
    pytest.fail("an altered certificate was taken")


def test_every_bit_of_a_certificate_counts(holder):
    """Each bit turned alone; the trailing ones of signatures included."""
    whole, trust = holder.der(), holder.trust()
    for at in range(len(whole)):
        der = bytearray(whole)
        der[at] ^= 1 << (at % 8)
        with pytest.raises(DicomcryptError):
            check_certificate(files.parse_certificates(bytes(der), "it")[0], trust, purpose="any")


@pytest.fixture(scope="module")
def crl_der(holder):
    return holder.above[0].crl(5, 6).public_bytes(Encoding.DER)


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
def test_no_mutation_of_a_list_is_taken_or_crashes(data, holder, crl_der):
    der = bytearray(crl_der)
    der[data.draw(st.integers(0, len(der) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        crls = files.parse_crls(bytes(der), "it")
        trust = holder.trust(*crls, require_crl=True)
        check_certificate(holder.certificate, trust, purpose="any")
    except DicomcryptError:
        return
    pytest.fail("an altered list was taken")


@pytest.mark.parametrize(("data", "error"), [
    (b"", UsageError), (b"hello", UsageError),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", UsageError),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", CertificateRefusedError),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n", CertificateRefusedError),
    (b"\x30\x82\xff\xff", CertificateRefusedError), (b"\x30\x84\xff\xff\xff\xff", DicomcryptError),
    (b"\x30" * 5000, CertificateRefusedError),
])  # fmt: skip
def test_bytes_that_are_no_certificate(data, error, tmp_path):
    path = tmp_path / "it.pem"
    path.write_bytes(data)
    with pytest.raises(error) as caught:
        files.load_certificates(path)
    assert "it.pem" in str(caught.value)


def test_a_file_too_large_or_missing(tmp_path):
    path = tmp_path / "large.pem"
    path.write_bytes(bytes(files.MAX_FILE + 1))
    with pytest.raises(UsageError, match="too large"):
        files.load_certificates(path)
    with pytest.raises(UsageError, match="cannot read"):
        files.load_certificates(tmp_path / "none.pem")


def test_a_certificate_too_large():
    extra = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(70_000))
    leaf = chain()[1].leaf(extra=[(extra, False)])
    with pytest.raises(CertificateRefusedError, match="too large"):
        check_certificate(leaf.certificate, leaf.trust(), purpose="any")
