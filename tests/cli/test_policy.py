"""`dicomcrypt policy`, and the policy in other commands."""

import json
import subprocess

import pytest

import dicomcrypt as dc
from dicomcrypt import policy

DOCUMENT = {"dcmx-policy": 1, "name": "hospital", "issuer": "Security officer", "sequence": 3,
            "valid-from": "2026-01-01T00:00:00Z", "base": "bsi"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    yield tmp_path
    policy.listen(None)


@pytest.fixture
def preset(place):
    return lambda name: (place / "config.toml").write_text(f'[policy]\npreset = "{name}"\n')


@pytest.fixture
def openssl(need_command):
    program = need_command("openssl", "openssl")
    return lambda *words: subprocess.run([program, *map(str, words)], check=True,
                                         capture_output=True)


@pytest.fixture
def officer(place, openssl):
    """A pair of keys that another program made."""
    openssl("genpkey", "-algorithm", "ed25519", "-out", place / "officer.key")
    openssl("pkey", "-in", place / "officer.key", "-pubout", "-out", place / "officer.pem")
    return place / "officer"


def write(place, **change):
    (place / "h.json").write_text(json.dumps({**DOCUMENT, **change}, indent=2))
    return place / "h.json"


def signed(call, place, **change):
    path = write(place, **change)
    assert call("policy", "sign", path, "-k", place / "officer.key", "-f").status == 0
    return path, "--signature", place / "h.sig", "--signer", place / "officer.pem"


@pytest.mark.parametrize("name", policy.PRESETS)
def test_show_names_sources_and_says_what_it_is_not(call, name):
    result = call("policy", "show", "--preset", name)
    assert result.status == 0
    assert "validates nothing" in result.err
    assert "source: " in result.out
    facts = json.loads(call("policy", "show", "--preset", name, "--json").out)
    assert facts["policy"] == name
    assert "certifies nothing" in facts["caution"]
    states = {row["algorithm"]: row["state"] for row in facts["algorithms"]}
    assert states["sha1"] == states["3des"] == "decrypt-only"


def test_the_help_says_what_a_preset_is_not(call):
    for words in (["policy", "--help"], ["policy", "show", "--help"], ["policy", "set", "--help"]):
        text = " ".join(call(*words).out.split())
        assert "validate" in text
        assert "Examples:" in text


def test_a_policy_is_signed_set_and_not_rolled_back(call, place, officer, keys):
    words = signed(call, place)
    refused = call("policy", "set", *words)
    assert refused.status == 5
    assert "--trust-signer" in refused.err
    assert not (place / "policy.json").exists()
    facts = json.loads(call("policy", "set", *words, "--trust-signer", "--json").out)
    assert facts["sequence"] == 3
    assert (place / "policy.json").stat().st_mode & 0o777 == 0o600
    again = call("policy", "set", *words)
    assert again.status == 5
    assert "not taken back" in again.err
    assert call("policy", "set", *signed(call, place, sequence=2)).status == 5
    assert call("policy", "set", *signed(call, place, sequence=4)).status == 0
    assert "hospital" in call("policy", "show").out


def test_a_signature_of_openssl_is_taken(call, place, officer, openssl):
    path = write(place)
    data = json.loads(path.read_text())
    (place / "signed").write_bytes(
        b"dcmx/1 policy\0" + json.dumps(data, sort_keys=True, separators=(",", ":")).encode())
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", f"{officer}.key", "-in", place / "signed",
            "-out", place / "h.sig")
    assert call("policy", "set", path, "--signature", place / "h.sig", "--signer",
                f"{officer}.pem", "--trust-signer").status == 0
    call("policy", "sign", path, "-k", f"{officer}.key", "-o", place / "own.sig")
    openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", f"{officer}.pem", "-in",
            place / "signed", "-sigfile", place / "own.sig")


def test_forged_unsigned_and_odd_policies(call, place, officer, openssl):
    words = signed(call, place)
    write(place, sequence=5)
    forged = call("policy", "set", *words, "--trust-signer")
    assert (forged.status, "signature" in forged.err) == (4, True)
    (place / "h.sig").write_bytes(b"")
    assert call("policy", "set", *words, "--trust-signer").status == 4
    write(place, more=1)
    odd = call("policy", "set", *words, "--trust-signer")
    assert (odd.status, "unknown field 'more'" in odd.err) == (2, True)
    weak = call("policy", "sign", write(place, algorithms={"sha1": {"state": "allowed"}}), "-k",
                f"{officer}.key", "-f")
    assert (weak.status, "read at most" in weak.err) == (5, True)
    assert not (place / "policy.json").exists()
    words = signed(call, place)
    call("policy", "set", *words, "--trust-signer")
    openssl("genpkey", "-algorithm", "ed25519", "-out", f"{officer}.key")
    openssl("pkey", "-in", f"{officer}.key", "-pubout", "-out", f"{officer}.pem")
    other = call("policy", "set", *signed(call, place, sequence=9), "--trust-signer")
    assert (other.status, "not trusted" in other.err) == (5, True)


def test_a_changed_store_stops_every_command(call, place, officer, keys, dicom):
    call("policy", "set", *signed(call, place), "--trust-signer")
    kept = place / "policy.json"
    kept.write_text(kept.read_text().replace('"base":"bsi"', '"base":"default"'))
    for words in (["policy", "show"], ["encrypt", dicom, "-r", keys / "doctor.pub", "-o",
                                       place / "x"]):
        assert call(*words).status == 4
    assert not (place / "x").exists()


@pytest.mark.parametrize(("name", "encrypt", "decrypt"), [
    ("default", 0, 0), ("bsi", 5, 0), ("fips", 5, 5)])
def test_a_classical_key_under_each_preset(call, place, preset, keys, dicom, name, encrypt,
                                           decrypt):
    blob = dc.encrypt(dicom.read_bytes(), dc.load_recipients(keys / "classical.pub"))
    (place / "old.dcmx").write_bytes(blob)
    preset(name)
    made = call("encrypt", dicom, "-r", keys / "classical.pub", "-o", place / "new")
    assert made.status == encrypt
    assert ("not permitted to encrypt" in made.err) == bool(encrypt)
    read = call("decrypt", place / "old.dcmx", "-i", keys / "classical.key", "-o", place / "back")
    assert read.status == decrypt
    assert (place / "back").exists() == (decrypt == 0)
    assert ("is only read" in read.err) == (name == "bsi")


def test_a_tree_under_a_policy_is_remarked_once_and_refused_with_5(
    command, place, preset, keys, dicom
):
    blob = dc.encrypt(dicom.read_bytes(), dc.load_recipients(keys / "classical.pub"))
    (place / "tree").mkdir()
    for n in range(8):
        (place / f"tree/{n}.dcmx").write_bytes(blob)
    preset("bsi")
    environment = {**command.environment(), "DICOMCRYPT_CONFIG": str(place / "config.toml")}
    words = ["decrypt", place / "tree", "-i", keys / "classical.key", "-j", "2"]
    done = command(*words, "-o", place / "out", env=environment)
    assert done.returncode == 0
    assert done.stderr.decode().count("is only read") == 1
    preset("fips")
    assert command(*words, "-o", place / "no", env=environment).returncode == 5


def test_sealed_keys_are_read_under_fips_and_no_longer_made(call, place, preset, keys):
    words = ["keygen", "-p", "--passphrase-file", keys / "passphrase", "-o"]
    words.remove("-p")
    assert call(*words, place / "sealed.key").status == 0
    dc.encrypt_file(place / "config.toml", place / "x.dcmx",
                    dc.load_recipients(place / "sealed.pub"))
    preset("fips")
    read = call("decrypt", place / "x.dcmx", "-i", place / "sealed.key", "--passphrase-file",
                keys / "passphrase", "-o", place / "back")
    assert read.status == 0
    assert "argon2id is only read" in read.err
    assert call(*words, place / "new.key").status == 5
    assert not (place / "new.key").exists()


def test_check(call, place, keys, openssl):
    blob = dc.encrypt(b"data", dc.load_recipients(keys / "classical.pub"))
    (place / "old.dcmx").write_bytes(blob)
    good = call("policy", "check", place / "old.dcmx", keys / "doctor.pub")
    assert good.status == 0
    assert "mlkem768-x25519" in good.out
    bad = call("policy", "check", place / "old.dcmx", "--preset", "fips", "--json")
    assert bad.status == 5
    rows = json.loads(bad.out)["found"]
    assert [(r["algorithm"], r["state"]) for r in rows] == [
        ("x25519", "refused"), ("aes-256-gcm", "preferred")]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", place / "c.key", "-out", place / "c.pem", "-subj", "/CN=x")
    rows = json.loads(call("policy", "check", place / "c.pem", "--json").out)["found"]
    assert {r["algorithm"] for r in rows} == {"hpke-p256", "ecdsa-p256-sha256", "ecdsa-sha256"}
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-sha1", "-keyout", place / "w.key",
            "-out", place / "w.pem", "-subj", "/CN=x")
    weak = call("policy", "check", place / "w.pem", "--json")
    rows = {r["algorithm"]: (r["bits"], r["state"]) for r in json.loads(weak.out)["found"]}
    assert rows == {"rsa-oaep-sha256": (1024, "decrypt-only"),
                    "rsa-pss-sha256": (1024, "decrypt-only"), "sha1": (None, "decrypt-only")}
    assert call("policy", "check", place / "w.pem", "--preset", "fips", "-q").status == 5
    openssl("genpkey", "-algorithm", "ed25519", "-out", place / "e.key")
    openssl("pkey", "-in", place / "e.key", "-pubout", "-outform", "DER", "-out", place / "e.der")
    assert "ed25519" in call("policy", "check", place / "e.der").out


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nxx\n",
                                  b"DCMX" * 3, b"\0" * 1000])
def test_check_of_garbage_names_the_file(call, place, data):
    (place / "g").write_bytes(data)
    result = call("policy", "check", place / "g")
    assert result.status in (2, 4)
    assert f"{str(place / 'g')!r}" in result.err


def test_without_a_configuration_there_is_no_place(call, place, officer, monkeypatch):
    words = signed(call, place)
    monkeypatch.setenv("DICOMCRYPT_CONFIG", "")
    assert call("policy", "set", *words, "--trust-signer").status == 2


def test_algorithms_that_nobody_has_are_named(call, place, officer):
    path = write(place, algorithms={"x25591": {"state": "refused"}})
    words = ("policy", "sign", path, "-k", f"{officer}.key", "-f")
    done = call(*words)
    assert done.status == 2
    assert "'x25591': is x25519 meant?" in done.err
    assert call(*words, "--allow-unknown", "x25591").status == 0
    set_ = ("policy", "set", path, "--signature", place / "h.sig", "--signer",
            f"{officer}.pem", "--trust-signer")
    assert call(*set_).status == 2
    assert not (place / "policy.json").exists()
    assert call(*set_, "--allow-unknown", "x25591").status == 0
