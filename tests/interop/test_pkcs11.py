"""Identities in a token: SoftHSM, with keys that OpenSC's pkcs11-tool makes in it."""

import contextlib
import hashlib
import os
import pathlib
import pickle
import subprocess
import sys

import pytest
from certificates import Maker, build, common_name
from confidential import file_of, small
from cryptography.hazmat.primitives import serialization

import dicomcrypt as dc
from dicomcrypt.container.stanza import stanza_info
from dicomcrypt.keys import dhkem, spki
from tests.conftest import absent, need, require_module

PIN, WRONG = "493817", "111222"
MODULES = [pathlib.Path(p) for p in ("/usr/lib/softhsm/libsofthsm2.so",
           "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so")]
PACKAGE = pathlib.Path(dc.__file__).resolve().parents[1]
CORE = bytes(64)


@pytest.fixture(scope="module")
def module():
    require_module("pkcs11", "pkcs11")
    need("softhsm2-util", "softhsm2")
    found = next((str(path) for path in MODULES if path.exists()), None)
    if found is None:
        absent("the module of softhsm2 missing: apt-get install softhsm2")
    return found


@pytest.fixture(scope="module")
def token(module, tmp_path_factory):
    """A folder with public keys, PIN files, and a token `ward` in SoftHSM's own format."""
    tool = need("pkcs11-tool", "opensc")
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n"
        "log.level = ERROR\n"
    )
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")

    def run(*words):
        subprocess.run(words, check=True, capture_output=True, timeout=100)

    def keys(*words):
        run(tool, "--module", module, "--token-label", "ward", "--login", "--pin", PIN, *words)

    for label in ("ward", "twin", "twin"):
        run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN,
            "--so-pin", "12345678")
    for number, (name, kind, use) in enumerate((
        ("p256", "EC:prime256v1", "--usage-derive"), ("p521", "EC:secp521r1", "--usage-derive"),
        ("rsa", "rsa:2048", "--usage-decrypt"), ("signing", "EC:prime256v1", "--usage-sign"),
    ), 1):  # fmt: skip
        keys("--keypairgen", "--key-type", kind, "--id", f"0{number}", "--label", name, use)
        keys("--read-object", "--type", "pubkey", "--id", f"0{number}",
             "-o", str(folder / f"{name}.der"))
    (folder / "pin").write_text(PIN + "\n")
    (folder / "wrong").write_text(WRONG + "\n")
    yield folder
    if "dicomcrypt.keys.token" in sys.modules:
        sys.modules["dicomcrypt.keys.token"].close_all()
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def uri(module):
    return lambda what="token=ward;object=p256": f"pkcs11:{what}?module-path={module}"


@pytest.fixture
def command(token, tmp_path):
    """The command line as a process, in `tmp_path`."""

    def start(*words):
        done = subprocess.run(
            [sys.executable, "-m", "dicomcrypt", *map(str, words)], capture_output=True, text=True,
            cwd=tmp_path, timeout=100, stdin=subprocess.DEVNULL, check=False,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )  # fmt: skip
        assert PIN not in done.stdout + done.stderr
        assert WRONG not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return start


@pytest.fixture
def sealed(token, tmp_path):
    """Make an object for a key of the token; returns its path."""

    def make(name="p256"):
        path = tmp_path / f"{name}.dcmx"
        path.write_bytes(dc.encrypt(b"a study", dc.load_recipients(token / f"{name}.der")))
        return path

    return make


# ---- HPKE around a token's ECDH ------------------------------------------------


def test_hpke_after_rfc_9180_opens_its_vector():
    """Appendix A.3.1: DHKEM(P-256, HKDF-SHA256), its shared secret out of the parts."""
    from cryptography.hazmat.primitives.asymmetric import ec

    # skRm, pkRm, enc and shared_secret of A.3.1.1
    private = ec.derive_private_key(int(
        "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2", 16), ec.SECP256R1())
    public = bytes.fromhex(
        "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f6"
        "2fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0")
    enc = bytes.fromhex(
        "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f95"
        "1c0900be863c403ce65c9bfcb9382657222d18c4")
    dh = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), enc))
    assert dhkem.shared_secret(dhkem.GROUPS[2], dh, enc, public).hex() == (
        "c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8")


@pytest.mark.parametrize("kind", [spki.P256Recipient, spki.P384Recipient, spki.P521Recipient])
def test_it_opens_what_the_library_sealed_and_nothing_else(kind):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = ec.generate_private_key(kind.curve())
    recipient = spki.recipient_of(private.public_key())
    stanza, group = recipient.wrap(bytes(32), 1, CORE), dhkem.GROUPS[recipient.stanza_type]
    point = ec.EllipticCurvePublicKey.from_encoded_point(
        private.curve, stanza.body[: group.point])
    dh = private.exchange(ec.ECDH(), point)
    own = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    info = stanza_info(stanza.type, 1, CORE)
    assert dhkem.open_sealed(group, dh, own, stanza.body, info) == bytes(32)
    flipped = stanza.body[:-1] + bytes([stanza.body[-1] ^ 1])
    for parts in ((dh, own, flipped, info), (dh, own, stanza.body, info + b"x"),
                  (dh[::-1], own, stanza.body, info), (dh, own[::-1], stanza.body, info)):
        with pytest.raises(InvalidTag):
            dhkem.open_sealed(group, *parts)


# ---- the token opens objects ------------------------------------------------------


@pytest.mark.parametrize("name", ["p256", "p521"])
def test_a_key_in_the_token_opens_an_object(name, token, command, sealed, uri, tmp_path):
    path = sealed(name)
    words = ["decrypt", path, "-i", uri(f"token=ward;object={name}"), "-o", "out"]
    done = command(*words, "--pin-file", token / "pin")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == b"a study"


def test_the_pin_may_come_by_the_uri(token, command, sealed, uri, tmp_path):
    done = command("verify", sealed(), "-i", uri("id=%01") + f"&pin-source=file:{token / 'pin'}",
                   "-i", uri("token=ward;id=%02"), "--pin-file", token / "wrong")
    assert done.returncode == 2  # without token= the twins fit too
    done = command("verify", sealed(), "-i",
                   uri("token=ward;id=%01") + f"&pin-source=file:{token / 'pin'}")
    assert done.returncode == 0, done.stderr


def test_workers_of_a_tree_log_in_for_themselves(token, command, uri, tmp_path):
    for number in range(6):
        (tmp_path / "tree").mkdir(exist_ok=True)
        (tmp_path / "tree" / f"{number}").write_bytes(os.urandom(3000))
    done = command("encrypt", "tree", "-r", token / "p256.der", "-o", "safe", "-j", "2")
    assert done.returncode == 0, done.stderr
    done = command("decrypt", "safe", "-i", uri(), "--pin-file", token / "pin", "-o", "back",
                   "-j", "2")
    assert done.returncode == 0, done.stderr
    for number in range(6):
        digests = [hashlib.sha256((tmp_path / folder / f"{number}").read_bytes()).digest()
                   for folder in ("tree", "back")]
        assert digests[0] == digests[1]


def test_rewrap_by_a_token(token, command, sealed, uri, tmp_path):
    path, other = sealed(), dc.X25519Identity.generate()
    from dicomcrypt.keys.keyfile import recipient_text

    (tmp_path / "other.pub").write_text(recipient_text(other.recipient))
    done = command("rewrap", path, "-i", uri(), "--pin-file", token / "pin", "--add", "other.pub")
    assert done.returncode == 0, done.stderr
    assert dc.decrypt(path.read_bytes(), [other]) == b"a study"


def test_an_identity_in_this_process_pickles_and_reopens(token, uri):
    from dicomcrypt.keys import token as tokens

    [recipient] = dc.load_recipients(token / "p256.der")
    identity = tokens.load_token_identity(uri(), lambda name: PIN)
    assert tokens.in_use()
    assert identity.recipient == recipient
    assert (identity.algorithm, identity.stanza_type, identity.hint) == (
        "hpke-p256", 2, recipient.hint)
    assert PIN not in repr(identity)
    stanza = recipient.wrap(bytes(32), 1, CORE)
    copy = pickle.loads(pickle.dumps(identity))  # noqa: S301
    second = tokens.load_token_identity(uri(), lambda name: pytest.fail("logged in already"))
    for one in (identity, copy, second):
        assert one.unwrap(stanza, CORE) == bytes(32)
        assert one.unwrap(stanza._replace(scope=2), CORE) is None
        assert one.unwrap(stanza._replace(hint=bytes(8)), CORE) is None
        assert one.unwrap(stanza._replace(body=stanza.body[:-1]), CORE) is None
        off_curve = b"\4" + bytes(63) + b"\1" + stanza.body[65:]
        assert one.unwrap(stanza._replace(body=off_curve), CORE) is None
    tokens.close_all()
    assert not tokens.in_use()
    assert copy.matches(stanza)
    again = tokens.load_token_identity(uri(), lambda name: PIN)
    assert again.unwrap(stanza, CORE) == bytes(32)
    tokens.close_all()


@pytest.mark.parametrize(("entered", "status"), [(PIN, 0), (WRONG, 6)])
def test_the_pin_is_asked_for_on_a_terminal_and_not_shown(entered, status, token, sealed, uri):
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", "verify", sealed(), "-i", uri()], stdin=theirs,
        stdout=theirs, stderr=theirs, env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"PIN of token 'ward': " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, entered.encode() + b"\n")
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 1000):
            shown += piece
    assert process.wait(100) == status, shown
    os.close(ours)
    assert entered.encode() not in shown


# ---- what goes wrong, and how it is said ----------------------------------------


def test_a_token_that_cannot_do_oaep_with_sha_256_says_so(token, command, sealed, uri, tmp_path):
    done = command("decrypt", sealed("rsa"), "-i", uri("token=ward;object=rsa"), "-o", "out",
                   "--pin-file", token / "pin")
    if done.returncode == 0:  # a SoftHSM that can
        assert (tmp_path / "out").read_bytes() == b"a study"
        return
    assert done.returncode == 6
    assert "cannot open RSA-OAEP with SHA-256" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_key_that_may_not_do_ecdh_says_so(token, command, sealed, uri):
    done = command("verify", sealed("signing"), "-i", uri("token=ward;object=signing"),
                   "--pin-file", token / "pin")
    assert done.returncode == 6
    assert "CKA_DERIVE" in done.stderr


def test_wrong_pins_are_counted(token, command, sealed, uri):
    path = sealed()
    for option in (["-i", uri(), "--pin-file", token / "wrong"],
                   ["-i", uri() + f"&pin-source={token / 'wrong'}"]):
        done = command("verify", path, *option)
        assert done.returncode == 6
        assert done.stderr.count("\n") == 1
        assert "token 'ward': wrong PIN" in done.stderr
    assert command("verify", path, "-i", uri(), "--pin-file", token / "pin").returncode == 0


@pytest.mark.parametrize(("what", "status", "says"), [
    ("token=gone", 6, "no token fits"), ("token=ward;serial=1", 6, "the module sees"),
    ("token=ward;object=none", 6, "no private key that fits"),
    ("token=ward", 2, "4 private keys fit"), ("token=twin", 2, "2 tokens fit"),
    ("token=ward;id=%09", 6, "no private key that fits"),
])  # fmt: skip
def test_what_is_not_there_or_not_meant(what, status, says, token, command, sealed, uri):
    done = command("verify", sealed(), "-i", uri(what), "--pin-file", token / "pin")
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr


def test_modules_pin_files_and_terminals_that_are_not_there(token, command, sealed, uri, tmp_path):
    (tmp_path / "text.so").write_text("no module")
    path = sealed()
    for wrong, status, says in (
        (["pkcs11:token=ward?module-path=/no/module.so"], 6, "cannot load"),
        ([f"pkcs11:token=ward?module-path={tmp_path / 'text.so'}"], 6, "cannot load"),
        ([uri()], 2, "give --pin-file"), ([uri(), "--pin-file", "none"], 2, "cannot read PIN"),
        ([uri(), "--pin-file", "empty"], 2, "is empty"),
    ):  # fmt: skip
        (tmp_path / "empty").write_text("")
        done = command("verify", path, "-i", *wrong)
        assert (done.returncode, says in done.stderr) == (status, True), done.stderr


def test_other_identities_are_tried_before_the_token(token, command, sealed, uri, tmp_path):
    """A token that fails is not in the way of a key that fits."""
    other = dc.X25519Identity.generate()
    from dicomcrypt.keys.keyfile import identity_text

    (tmp_path / "o.key").write_text(identity_text(other))
    (tmp_path / "o.dcmx").write_bytes(
        dc.encrypt(b"x", [*dc.load_recipients(token / "rsa.der"), other.recipient]))
    done = command("verify", "o.dcmx", "-i", uri("token=ward;object=rsa"), "-i", "o.key",
                   "--pin-file", token / "pin")
    assert done.returncode == 0, done.stderr


def test_without_the_library_the_extra_is_named(monkeypatch):
    from dicomcrypt.keys import token as tokens

    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(dc.MissingExtraError, match=r"dicomcrypt\[pkcs11\]"):
        tokens.load_token_identity("pkcs11:token=a?module-path=b")



# ---- CMS -----------------------------------------------------------------------


@pytest.mark.parametrize("with_certificate", [False, True])
def test_attribute_confidentiality(with_certificate, command, token, module, uri, tmp_path):
    public = serialization.load_der_public_key((token / "p521.der").read_bytes())
    root = Maker.root("Ward")
    made = build(common_name("Ward"), public, root.certificate.subject, root.key)
    (tmp_path / "ward.crt").write_bytes(made.public_bytes(serialization.Encoding.DER))
    other = root.leaf("Other", uses=["encryption"])
    (tmp_path / "other.pem").write_bytes(other.pem())
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / str(number)).write_bytes(file_of(small(InstanceNumber=number)))
    if with_certificate:
        subprocess.run([need("pkcs11-tool", "opensc"), "--module", module, "--token-label", "ward",
                        "--login", "--pin", PIN, "--write-object", tmp_path / "ward.crt", "--type",
                        "cert", "--id", "02"], check=True, capture_output=True, timeout=100)
    done = command("standard", "protect", "in", "-r", "other.pem", "-r", "ward.crt", "-o", "out")
    assert done.returncode == 0, done.stderr
    words = "standard", "reveal", "out", "-o", "back", "-i", uri("token=ward;object=p521")
    assert command(*words, "--pin-file", token / "wrong").returncode == 6
    done = command(*words, "--pin-file", token / "pin", "-j", "2")
    assert done.returncode == 0, done.stderr
    for number in range(3):
        name = str(number)
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    done = command("standard", "reveal", "out", "-o", "no", "-i", uri(), "--pin-file",
                   token / "pin")
    assert done.returncode == 3
