"""Certificates of recipients and signers, judged where objects are made and read."""

import json

import pytest
from certificates import DAY, Maker, build, common_name, fresh_key, unknown_extension
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

ROOT = Maker.root("Trusted Root")
ISSUING = ROOT.authority()
PEM = serialization.Encoding.PEM


def crl_pem(crl):
    return crl.public_bytes(PEM)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with certificates: of a trusted root, of a stranger's, expired, revoked; and a
    configuration file that is empty so far."""
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text("[recipients]\nwarn_recovery = false\n")
    (tmp_path / "root.crt").write_bytes(ROOT.pem())
    (tmp_path / "issuing.crt").write_bytes(ISSUING.pem())
    (tmp_path / "plain.bin").write_bytes(b"whatever it is" * 99)
    stranger = Maker.root("Strange Root")
    made = {
        "good": ISSUING.leaf("Anna Arzt"),
        "strange": stranger.leaf("Sam Strange", key=fresh_key()),
        "expired": ISSUING.leaf("Olaf Old", begin=-9 * DAY, end=-DAY),
        "revoked": ISSUING.leaf("Rita Revoked"),
        "signing": ISSUING.leaf("Sign Only", uses=["signing"]),
    }
    for name, leaf in made.items():
        above = b"".join(m.pem() for m in leaf.above[:-1])
        (tmp_path / f"{name}.crt").write_bytes(leaf.pem() + above)
        (tmp_path / f"{name}.pem").write_bytes(leaf.key_pem() + leaf.pem() + above)
        (tmp_path / f"{name}.p12").write_bytes(pkcs12.serialize_key_and_certificates(
            b"x", leaf.key, leaf.certificate, None, serialization.NoEncryption()))
    crls = crl_pem(ISSUING.crl(made["revoked"])) + crl_pem(ROOT.crl())
    (tmp_path / "lists.crl").write_bytes(crls)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trust(place, more=""):
    (place / "config.toml").write_text(
        "[recipients]\nwarn_recovery = false\n[trust]\n"
        f'roots = ["root.crt"]\nintermediates = ["issuing.crt"]\ncrls = ["lists.crl"]\n{more}'
    )


def test_without_a_root_dates_and_use_count_and_the_rest_is_said(place, call):
    done = call("encrypt", "plain.bin", "-r", "strange.crt", "-r", "good.crt", "-o", "a.dcmx")
    assert done.status == 0
    assert done.err.count("nobody vouches for the recipients' certificates: name a root") == 1
    done = call("encrypt", "plain.bin", "-r", "expired.crt", "-o", "b.dcmx")
    assert done.status == 5
    assert "'Olaf Old'" in done.err
    assert "expired on" in done.err
    assert call("encrypt", "plain.bin", "-r", "signing.crt", "-o", "c.dcmx").status == 5
    assert not (place / "b.dcmx").exists()
    assert not (place / "c.dcmx").exists()


@pytest.mark.parametrize(("name", "why"), [
    ("strange", "for whom no trusted root vouches"), ("expired", "expired on"),
    ("revoked", "was revoked on"), ("signing", "keyUsage"),
])  # fmt: skip
@pytest.mark.parametrize("option", ["-r", "--tags-to", "--recovery"])
def test_an_invalid_recipient_is_refused(place, call, name, why, option):
    trust(place)
    words = [] if option == "-r" else ["-r", "good.crt"]
    done = call("encrypt", "plain.bin", *words, option, f"{name}.crt", "-o", "a.dcmx")
    assert done.status == 5, done.err
    assert why in done.err
    assert not (place / "a.dcmx").exists()


def test_a_root_can_be_given_with_the_command(place, call):
    done = call("encrypt", "plain.bin", "-r", "good.crt", "--trust-root", "root.crt",
                "-o", "a.dcmx")
    assert (done.status, "vouches" in done.err) == (0, False)
    assert call("encrypt", "plain.bin", "-r", "strange.crt", "--trust-root", "root.crt",
                "-o", "b.dcmx").status == 5
    assert call("encrypt", "plain.bin", "-r", "good.crt", "--trust-root", "plain.bin",
                "-o", "c.dcmx").status == 2
    done = call("decrypt", "a.dcmx", "-i", "good.p12", "-o", "back")
    assert done.status == 0, done.err
    assert (place / "back").read_bytes() == (place / "plain.bin").read_bytes()


def test_a_group_or_default_of_the_configuration_is_judged_too(place, call):
    trust(place, '[groups]\nward = ["good.crt", "revoked.crt"]\n')
    assert call("encrypt", "plain.bin", "-r", "@ward", "-o", "a.dcmx").status == 5
    (place / "config.toml").write_text('[recipients]\nwarn_recovery = false\ndefault = '
                                       '["expired.crt"]\n[trust]\nroots = ["root.crt"]\n')
    assert call("encrypt", "plain.bin", "-o", "a.dcmx").status == 5


def test_old_data_is_read_with_an_expired_or_revoked_certificates_key(place, call, monkeypatch):
    from dicomcrypt.cli import trust as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "check_recipients", lambda found: None)  # as if it were valid still
        for name in ("expired", "revoked"):
            assert call("encrypt", "plain.bin", "-r", f"{name}.crt", "-o", name).status == 0
    trust(place)
    for name, said in (("expired", "'Olaf Old'"), ("revoked", "was revoked on")):
        done = call("decrypt", name, "-i", f"{name}.p12", "-o", f"{name}.back")
        assert done.status == 0, done.err
        assert said in done.err
        assert "old data can still be decrypted" in done.err
        assert (place / f"{name}.back").read_bytes() == (place / "plain.bin").read_bytes()
    # Who is no longer to read it can be taken away, whatever his certificate is worth.
    done = call("rewrap", "expired", "-i", "expired.p12", "--add", "good.crt",
                "--remove", "expired.crt")
    assert done.status == 0, done.err
    assert call("rewrap", "revoked", "-i", "revoked.p12", "--add", "strange.crt").status == 5


@pytest.fixture
def signed(place, call, keys):
    """Objects signed by several; nobody was trusted then."""
    from dicomcrypt.cli import trust as module
    from dicomcrypt.keys import signing

    patch = pytest.MonkeyPatch()
    patch.setattr(module, "check_signer", lambda signer: None)
    checked = signing._check_certificate
    signing._check_certificate = lambda certificate: None
    try:
        for name in ("good", "strange", "expired", "revoked"):
            done = call("encrypt", "plain.bin", "-r", keys / "doctor.pub", "-o", f"{name}.dcmx",
                        "--sign-with", f"{name}.pem")
            assert done.status == 0, done.err
    finally:
        patch.undo()
        signing._check_certificate = checked
    return place


@pytest.mark.parametrize(("name", "status", "why"), [
    ("good", 0, ""), ("strange", 5, "for whom no trusted root vouches"),
    ("expired", 5, "expired on"), ("revoked", 5, "was revoked on"),
])  # fmt: skip
@pytest.mark.parametrize("jobs", [None, "2"])
def test_signers_are_judged_on_every_read(signed, call, keys, name, status, why, jobs):
    trust(signed)
    what, more = f"{name}.dcmx", []
    if jobs:  # the judge goes to worker processes
        (signed / "tree").mkdir()
        (signed / "tree" / what).write_bytes((signed / what).read_bytes())
        what, more = "tree", ["-j", jobs]
    for words in (["verify", what, *more], ["decrypt", what, "-o", "back", *more]):
        done = call(*words, "-i", keys / "doctor.key")
        assert done.status == status, done.err
        assert why in done.err
    if status == 0 and not jobs:
        done = call("verify", what, "-i", keys / "doctor.key", "--json")
        assert json.loads(done.out)["files"][0]["signature"]["trust"] == "checked"
    else:
        found = signed / "back"
        assert status == 0 or not found.exists() or not list(found.iterdir())


def test_a_signer_who_is_named_needs_no_root(signed, call, keys):
    trust(signed)
    assert call("verify", "strange.dcmx", "-i", keys / "doctor.key", "--signer",
                "strange.crt").status == 0
    done = call("verify", "strange.dcmx", "-i", keys / "doctor.key", "--signer", "good.crt")
    assert done.status == 5
    assert "none of the given signers" in done.err


def test_who_signs_must_be_trusted_where_somebody_is(place, call, keys):
    trust(place)
    for name, status in (("good", 0), ("strange", 5), ("revoked", 5)):
        done = call("encrypt", "plain.bin", "-r", keys / "doctor.pub", "-o", f"{name}.dcmx",
                    "--sign-with", f"{name}.pem")
        assert done.status == status, done.err


def test_the_policy_judges_signatures_too(place, call, keys):
    key = fresh_key("ed25519")
    leaf = ISSUING.leaf("Ed", uses=["signing"], key=key)
    (place / "ed.pem").write_bytes(leaf.key_pem() + leaf.pem() + ISSUING.pem())
    words = ["encrypt", "plain.bin", "-r", keys / "doctor.pub", "--sign-with", "ed.pem"]
    assert call(*words, "-o", "ed.dcmx").status == 0
    with open(place / "config.toml", "a") as file:
        file.write('[policy]\npreset = "bsi"\n')
    done = call(*words, "-o", "refused.dcmx")
    assert done.status == 5, done.err
    assert "ed25519 is not permitted to sign" in done.err
    assert call("verify", "ed.dcmx", "-i", keys / "doctor.key").status == 0  # it reads on


def test_a_root_and_what_lies_between_on_the_command_line(call, place, keys):
    (place / "alone.crt").write_bytes(ISSUING.leaf("Anna Arzt").pem())
    words = ("encrypt", place / "plain.bin", "-r", place / "alone.crt", "--allow-classical", "-o",
             place / "out.dcmx", "--trust-root", place / "root.crt")
    assert call(*words).status == 5
    assert call(*words, "--trust-intermediate", place / "issuing.crt").status == 0


@pytest.mark.parametrize("section", ["require_crl = true", 'crls = ["lists.crl"]'])
def test_lists_without_a_root_are_refused(place, call, section):
    (place / "config.toml").write_text(f"[trust]\n{section}\n")
    words = ["encrypt", "plain.bin", "-r", "good.crt", "-o", "a.dcmx"]
    done = call(*words)
    assert (done.status, "but no roots" in done.err) == (2, True)
    assert "no roots" not in call(*words, "--trust-root", "root.crt").err


@pytest.mark.parametrize("how", ["signer", "root", "nobody"])
def test_a_signature_that_anybody_can_make_is_remarked(signed, call, keys, how):
    words = {"signer": ["--signer", "good.crt"], "nobody": [],
             "root": ["--trust-root", "root.crt"]}[how]
    for command in (["decrypt", "-o", "back"], ["verify"], ["frame", "-o", "x.png"],
                    ["decrypt", "-o", "back", "-f", "--json"]):
        done = call(*command, "good.dcmx", "-i", keys / "doctor.key", "--require-signature", *words)
        assert done.err.count("nobody vouches for signers") == (how == "nobody"), command
    if how == "nobody":
        done = call("verify", "-q", "good.dcmx", "-i", keys / "doctor.key", "--require-signature")
        assert done.err == ""


@pytest.mark.parametrize("jobs", [None, "1", "2"])
def test_decrypt_says_in_json_who_signed(signed, call, keys, jobs):
    what = ["good.dcmx"]
    if jobs:
        (signed / "tree").mkdir()
        (signed / "tree" / "good.dcmx").write_bytes((signed / "good.dcmx").read_bytes())
        what = ["tree", "-j", jobs]
    done = call("decrypt", *what, "-i", keys / "doctor.key", "-o", "back", "--json")
    assert done.status == 0, done.err
    (row,) = json.loads(done.out)["files"]
    assert row["signature"]["signer"] == "CN=Anna Arzt"


def flawed(subject="Fay Flaw", **options):
    """A certificate of a key, which a library or RFC 5280 may not like."""
    secret = fresh_key()
    made = build(common_name(subject), secret.public_key(), ISSUING.certificate.subject,
                 ISSUING.key, **options)
    return Maker(made, secret)


FLAWS = {
    "critical": {"extensions": [(unknown_extension(), True)]},
    "other uses": {"extensions": [
        (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.TIME_STAMPING]), False)]},
}  # fmt: skip


def odd_forms():
    """DER of certificates that no library makes: a doubled extension, a subject that is no text."""
    leaf = flawed("Fay Flaw", extensions=[(unknown_extension("1.2.3.14"), False)])
    plain = leaf.der()
    double = plain.replace(bytes.fromhex("2a030e"), bytes.fromhex("551d0e"), 1)
    at = plain.index(b"Fay Flaw")
    text = plain[:at] + b"\xff\xfe\xfd\xff\xff\xff\xff\xff" + plain[at + 8 :]
    serial = plain[:15] + bytes([plain[15] | 0x80]) + plain[16:]
    return leaf, {"subject": text, "serial": serial, "double": double}


def pem_of(der):
    import base64

    return (b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der)
            + b"-----END CERTIFICATE-----\n")


@pytest.mark.parametrize("flaw", FLAWS)
def test_who_signs_is_judged_without_a_root_too(place, call, keys, flaw):
    leaf = flawed(**FLAWS[flaw])
    (place / "fay.pem").write_bytes(leaf.key_pem() + leaf.pem())
    done = call("encrypt", "plain.bin", "-r", keys / "doctor.pub", "-o", "a", "--sign-with",
                "fay.pem")
    assert done.status == 5, done.err
    assert not (place / "a").exists()


def test_ones_own_certificate_never_locks_out(place, call):
    leaf, forms = odd_forms()
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (place / "fay.pub").write_bytes(leaf.key.public_key().public_bytes(PEM, public))
    assert call("encrypt", "plain.bin", "-r", "fay.pub", "-o", "a").status == 0
    stranger = Maker.root("Strange Root")
    forms["stranger"] = stranger.leaf(key=leaf.key).der()
    for flaw, options in FLAWS.items():
        forms[flaw] = build(common_name("Fay"), leaf.key.public_key(),
                            ISSUING.certificate.subject, ISSUING.key, **options).public_bytes(
                                serialization.Encoding.DER)
    for trusting in (False, True):
        if trusting:
            trust(place)
        for name, der in forms.items():
            (place / "fay.pem").write_bytes(leaf.key_pem() + pem_of(der))
            done = call("decrypt", "a", "-i", "fay.pem", "-o", "back", "-f")
            assert done.status == 0, (name, done.err)
            if name == "critical":
                assert done.err.count("is not understood here; old data can still be") == 1


@pytest.mark.parametrize("form", ["subject", "serial", "double"])
def test_malformed_certificates_are_one_line(place, call, keys, form):
    leaf, forms = odd_forms()
    (place / "fay.crt").write_bytes(pem_of(forms[form]))
    (place / "fay.pem").write_bytes(leaf.key_pem() + pem_of(forms[form]))
    to = ["encrypt", "plain.bin", "-o", "a", "-r", keys / "doctor.pub"]
    for words in ([*to[:4], "-r", "fay.crt"], [*to, "--sign-with", "fay.pem"]):
        done = call(*words)
        assert done.status in (4, 5), done.err
        assert "malformed" in done.err
    assert not (place / "a").exists()
