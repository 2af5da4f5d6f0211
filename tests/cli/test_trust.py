"""Certificates of recipients and signers, judged where objects are made and read."""

import json

import pytest
from certificates import DAY, Maker, fresh_key
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
    from dicomcrypt.keys import signing

    checked = signing._check_certificate
    signing._check_certificate = lambda certificate: None
    try:
        for name in ("good", "strange", "expired", "revoked"):
            done = call("encrypt", "plain.bin", "-r", keys / "doctor.pub", "-o", f"{name}.dcmx",
                        "--sign-with", f"{name}.pem")
            assert done.status == 0, done.err
    finally:
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
