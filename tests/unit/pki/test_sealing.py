"""Keys under a passphrase: what others read of them, and how much work a guess is."""

import subprocess

import pytest
from certificates import Maker, key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_form

from dicomcrypt import policy
from dicomcrypt.errors import PolicyError, UsageError
from dicomcrypt.pki import sealing


@pytest.mark.parametrize("kind", ["p256", "rsa-2048", "x25519", "ml-dsa-65"])
@pytest.mark.parametrize("words", ["w", "corr\u00e8ct horse \u96fb\u6c60", "x" * 1023])
def test_the_library_reads_every_kind(kind, words):
    text = sealing.private_pem(key(kind), words)
    again = load_pem_private_key(text, words.encode())
    assert again.public_key() == key(kind).public_key()
    with pytest.raises(ValueError, match=r".+"):
        load_pem_private_key(text, b"other")


def test_openssl_reads_it_and_shows_the_rounds(tmp_path, need_command, few_rounds, monkeypatch):
    openssl = need_command("openssl", "openssl")
    assert few_rounds >= 600_000
    monkeypatch.setattr(sealing, "ROUNDS", few_rounds)
    (tmp_path / "key").write_bytes(sealing.private_pem(key(), "words"))
    leaf = Maker.root().leaf()
    (tmp_path / "p12").write_bytes(
        sealing.pkcs12(b"name", key(), leaf.certificate, [], "words"))

    def run(*words):
        return subprocess.run([openssl, *words], capture_output=True, text=True, check=True,
                              cwd=tmp_path)

    parsed = run("asn1parse", "-in", "key").stdout
    assert f":{few_rounds:06X}" in parsed
    assert "PBKDF2" in parsed
    assert "hmacWithSHA256" in parsed
    assert "aes-256-cbc" in parsed
    run("pkey", "-in", "key", "-passin", "pass:words", "-noout")
    shown = run("pkcs12", "-in", "p12", "-passin", "pass:words", "-info", "-noout").stderr
    assert shown.count(f"AES-256-CBC, Iteration {few_rounds}, PRF hmacWithSHA256") == 2
    assert "MAC: sha256" in shown


def test_pkcs12_comes_back():
    leaf, root = Maker.root().leaf(), Maker.root()
    data = sealing.pkcs12(b"x", key(), leaf.certificate, [root.certificate], "words")
    again = pkcs12_form.load_key_and_certificates(data, b"words")
    assert again[1:] == (leaf.certificate, [root.certificate])
    with pytest.raises(UsageError, match="PKCS#12"):
        sealing.pkcs12(b"x", key("x25519"), leaf.certificate, [], "words")


def test_passphrases_that_cannot_be():
    for words in ("", "x" * 1024):
        with pytest.raises(UsageError, match="1 to 1023"):
            sealing.private_pem(key(), words)


def test_the_policy_is_asked():
    base = policy.preset("bsi")
    rules = dict(base) | {"pbkdf2-sha256": policy.rules.Rule("refused")}
    policy.use(policy.Policy("strict", "test", rules, "refused"))
    try:
        with pytest.raises(PolicyError, match="pbkdf2-sha256"):
            sealing.private_pem(key(), "words")
        sealing.private_pem(key(), None)
    finally:
        policy.use(None)
