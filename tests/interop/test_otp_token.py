"""The key of the codes in a token: SoftHSM, with a key that softhsm2-util puts into it."""

import os
import pathlib
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dicomcrypt.errors import TokenError, UsageError
from dicomcrypt.otp.code import CodeKey
from tests.conftest import absent, need, require_module

PIN = "493817"
MODULES = [pathlib.Path(p) for p in ("/usr/lib/softhsm/libsofthsm2.so",
           "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so")]


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """The file's key, and the beginning of URIs for the token that has the same one."""
    require_module("pkcs11", "pkcs11")
    util, openssl = need("softhsm2-util", "softhsm2"), need("pkcs11-tool", "opensc")
    module = next((str(path) for path in MODULES if path.exists()), None)
    if module is None:
        absent("the module of softhsm2 missing: apt-get install softhsm2")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n"
        "log.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")

    def run(*words):
        subprocess.run(words, check=True, capture_output=True, timeout=100)

    key = rsa.generate_private_key(65537, 2048)
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    run(util, "--init-token", "--free", "--label", "otp", "--pin", PIN, "--so-pin", "12345678")
    run(util, "--import", str(folder / "key.pem"), "--token", "otp", "--label", "codes", "--id",
        "01", "--pin", PIN)
    run(openssl, "--module", module, "--token-label", "otp", "--login", "--pin", PIN,
        "--keypairgen", "--key-type", "EC:prime256v1", "--id", "02", "--label", "curve")
    from dicomcrypt.keys import token as tokens

    tokens.close_all()
    yield key, lambda name: f"pkcs11:token=otp;object={name}?module-path={module}"
    tokens.close_all()
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def test_a_token_makes_the_codes_of_the_same_key_in_a_file(token):
    from dicomcrypt.keys.tokensigner import TokenSigningKey

    key, uri = token
    in_token = CodeKey(TokenSigningKey(uri("codes"), lambda name: PIN))
    in_file = CodeKey(key)
    for issued in (0, 1_800_000_000_000):
        about = ("open", "ab" * 16, "cd" * 16, bytes(16), issued)
        assert in_token.code(*about) == in_file.code(*about)


def test_other_keys_and_ways_are_refused(token):
    from dicomcrypt.keys.tokensigner import TokenSigningKey

    _, uri = token
    with pytest.raises(TokenError, match="not an RSA key"):
        TokenSigningKey(uri("curve"), lambda name: PIN)
    signer = TokenSigningKey(uri("codes"), lambda name: PIN)
    with pytest.raises(TokenError, match=r"PKCS#1 v1\.5"):
        signer.sign(b"", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    with pytest.raises((TokenError, UsageError)):
        TokenSigningKey(uri("nothing"), lambda name: PIN)


def test_a_folder_with_a_key_in_a_token_opens_links(token, tmp_path):
    require_module("sqlalchemy", "otp")
    from otp_world import World

    from dicomcrypt.otp import home

    home.create(tmp_path / "template", code_key=token[1]("codes"))
    assert not (tmp_path / "template" / "code.key").exists()
    (tmp_path / "template" / "pin").write_text(PIN + "\n")
    settings = tmp_path / "template" / "otp.toml"
    settings.write_text('pin_file = "pin"\n' + settings.read_text())
    world = World(tmp_path / "template", tmp_path / "otp")
    link = world.anna()
    assert world.service.open("anna", world.send(link), token=link).scope == "all"
    world.home.close()
