"""Who may be given as a recipient or identity on the command line, and what is said of it."""

import json
import os
import subprocess
import sys
import threading

import foreign_keys as make
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import dicomcrypt as dc

USES = ("key_agreement",)
KIND = "hpke-p256"


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a study")
    return path


@pytest.fixture
def people(tmp_path):
    """Certificates and keys as files of other programs."""
    (tmp_path / "doc.crt").write_bytes(make.pem(make.certificate(KIND, uses=USES)))
    (tmp_path / "doc.key").write_bytes(make.private_pem(KIND))
    (tmp_path / "sealed.key").write_bytes(make.private_pem(KIND, make.PASSPHRASE))
    (tmp_path / "doc.p12").write_bytes(
        make.packed(KIND, make.certificate(KIND), passphrase=make.PASSPHRASE))
    (tmp_path / "word").write_text(make.PASSPHRASE + "\n", encoding="utf-8")
    (tmp_path / "wrong").write_text("another\n")
    for kind in ("rsa-oaep-sha256", "x25519", "mlkem768"):
        (tmp_path / f"{kind}.pub").write_bytes(make.public_pem(kind))
        (tmp_path / f"{kind}.key").write_bytes(make.private_pem(kind))
    return tmp_path


@pytest.fixture
def configure(tmp_path, monkeypatch):
    def put(text):
        (tmp_path / "config.toml").write_text(text)
        monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))

    return put


def types_of(path):
    return [entry["type"] for entry in dc.inspect(path)["recipients"]]


# ---- certificates and keys ----------------------------------------------------


def test_a_certificate_encrypts_and_its_key_decrypts(call, study, people):
    out = people / "a.dcmx"
    assert call("encrypt", study, "-r", people / "doc.crt", "-o", out).status == 0
    assert types_of(out) == ["P-256"]
    assert "P-256" in call("inspect", out).out
    for words in (["doc.key"], ["sealed.key", "--passphrase-file", people / "word"],
                  ["doc.p12", "--passphrase-file", people / "word"]):
        done = call("decrypt", out, "-i", people / words[0], *words[1:], "-f", "-o",
                    people / "back")
        assert done.status == 0, done.err
        assert (people / "back").read_bytes() == b"a study"
    for name in ("sealed.key", "doc.p12"):
        done = call("verify", out, "-i", people / name, "--passphrase-file", people / "wrong")
        assert (done.status, "wrong passphrase" in done.err) == (3, True)
        done = call("verify", out, "-i", people / name)
        assert (done.status, "no terminal to ask" in done.err) == (2, True)


def test_scoped_recipients_take_the_same_forms(call, people, dicom):
    out = people / "ct.dcmx"
    done = call("encrypt", dicom, "-r", people / "doc.crt", "--tags-to",
                people / "rsa-oaep-sha256.pub", "--pixels-to", people / "x25519.pub", "-o", out)
    assert done.status == 0, done.err
    assert types_of(out) == ["P-256", "RSA-OAEP", "X25519"]
    whole = people / "whole"
    assert call("decrypt", out, "-i", people / "doc.key", "-o", whole).status == 0
    parts = b""
    for part, name in (("tags", "rsa-oaep-sha256"), ("pixels", "x25519")):
        done = call("decrypt", out, "-i", people / f"{name}.key", "--part", part, "-o",
                    people / part)
        assert done.status == 0, done.err
        parts += (people / part).read_bytes()
    assert whole.read_bytes() == dicom.read_bytes()
    assert len(parts) == len(dicom.read_bytes())
    done = call("decrypt", out, "-i", people / "x25519.key", "-o", people / "no")
    assert done.status == 3


def test_rewrap_takes_them_too(call, study, people):
    out = people / "a.dcmx"
    call("encrypt", study, "-r", people / "doc.crt", "-o", out)
    add = ["rewrap", out, "-i", people / "doc.key", "--add"]
    assert call(*add, people / "rsa-oaep-sha256.pub").status == 0
    assert types_of(out) == ["P-256", "RSA-OAEP"]
    done = call(*add, people / "mlkem768.pub")
    assert (done.status, "as weak as" in done.err) == (2, True)
    assert call(*add, people / "mlkem768.pub", "--allow-classical").status == 0
    assert call("verify", out, "-i", people / "mlkem768.key").status == 0
    done = call("rewrap", out, "-i", people / "rsa-oaep-sha256.key", "--remove",
                people / "doc.crt", "--add", people / "rsa-oaep-sha256.pub", "--add",
                people / "mlkem768.pub", "--allow-classical")
    assert done.status == 0, done.err
    assert types_of(out) == ["RSA-OAEP", "ML-KEM-768"]


def test_a_tree_by_workers_and_every_kind_of_key(call, people, study):
    tree = people / "tree"
    tree.mkdir()
    for name in "ab":
        (tree / name).write_bytes(name.encode() * 999)
    (people / "team").write_text("file doc.crt\nfile rsa-oaep-sha256.pub\n")
    done = call("encrypt", tree, "-r", people / "team", "-o", people / "safe", "-j", "2")
    assert done.status == 0, done.err
    for name in ("doc", "rsa-oaep-sha256"):
        done = call("decrypt", people / "safe", "-i", people / f"{name}.key", "-o",
                    people / name, "-j", "2")
        assert done.status == 0, done.err
        assert (people / name / "b").read_bytes() == b"b" * 999


@pytest.mark.parametrize(("name", "data", "status", "says"), [
    ("short", lambda: make.public_pem("rsa-1024"), 5, "1024 bits"),
    ("sign", lambda: make.pem(make.certificate(KIND, uses=("digital_signature",))), 5, "keyUsage"),
    ("secret", lambda: make.private_pem(KIND), 2, "secret key"),
    ("cut", lambda: make.public_pem(KIND)[:90], 2, "copied whole"),
    ("ed", lambda: make.public_pem("ed25519"), 2, "can be encrypted to"),
    ("p12", lambda: make.packed(KIND, make.certificate(KIND), passphrase="x"), 2,  # noqa: S106
     "no terminal to ask"),
    ("noise", lambda: b"\x30\x82\x05\x00" + bytes(500), 2, "not known here"),
])  # fmt: skip
def test_bad_recipients_are_refused_and_nothing_is_written(
    name, data, status, says, call, study, tmp_path
):
    (tmp_path / name).write_bytes(data())
    done = call("encrypt", study, "-r", tmp_path / name)
    assert (done.status, says in done.err) == (status, True), done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.txt", name])


# ---- defaults, recovery, groups ---------------------------------------------------


WARNING = "no recovery recipient is set"


def test_default_and_recovery_recipients_of_the_configuration(call, study, people, configure):
    configure('[recipients]\ndefault = "doc.crt"\nrecovery = ["x25519.pub"]\n'
              '[groups]\nct = ["rsa-oaep-sha256.pub"]\n')
    done = call("encrypt", study)
    assert done.status == 0, done.err
    assert "no recipient given: doc.crt, by [recipients] default of" in done.err
    assert WARNING not in done.err
    assert types_of(people / "a.txt.dcmx") == ["P-256", "X25519"]
    for quiet in ("-q", "--json"):
        assert call("encrypt", study, "-f", quiet).err == ""
    call("encrypt", study, "-f", "-r", "@ct")
    assert types_of(people / "a.txt.dcmx") == ["RSA-OAEP", "X25519"]
    call("encrypt", study, "-f", "-r", people / "x25519.pub")
    assert types_of(people / "a.txt.dcmx") == ["X25519"]
    done = call("encrypt", study, "-f", "--no-recovery")
    assert WARNING not in done.err
    assert types_of(people / "a.txt.dcmx") == ["P-256"]
    done = call("encrypt", study, "-f", "--recovery", people / "rsa-oaep-sha256.pub")
    assert types_of(people / "a.txt.dcmx") == ["P-256", "X25519", "RSA-OAEP"]
    done = call("encrypt", study, "-f", "--recovery", people / "x25519.pub", "--no-recovery")
    assert done.status == 2


def test_a_default_is_never_beside_a_passphrase(call, study, people, configure):
    configure('[recipients]\ndefault = "doc.crt"\n')
    words = ["encrypt", study, "-f", "--passphrase-file", people / "word", "--kdf", "scrypt"]
    assert call(*words).status == 0
    assert types_of(people / "a.txt.dcmx") == ["passphrase (scrypt)"]
    configure('[recipients]\nrecovery = "doc.crt"\n')
    done = call(*words)
    assert (done.status, "beside recovery recipients" in done.err) == (2, True)
    assert call(*words, "--allow-mixed").status == 0
    assert types_of(people / "a.txt.dcmx") == ["P-256", "passphrase (scrypt)"]
    assert call(*words, "--no-recovery").status == 0


def test_the_warning_without_a_recovery_recipient_comes_once(call, study, people, configure):
    tree = people / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    words = ["encrypt", study, tree, "-r", people / "doc.crt", "-o", people / "safe", "-f"]
    assert call(*words).err.count(WARNING) == 1
    done = call(*words, "--json")
    assert done.err == ""
    assert WARNING in json.loads(done.out)["summary"]["warnings"][0]
    assert call(*words, "-q").err == ""
    assert WARNING not in call(*words, "--no-recovery").err
    configure("[recipients]\nwarn_recovery = false\n")
    assert WARNING not in call(*words).err
    assert "warnings" not in json.loads(call(*words, "--json").out)["summary"]
    configure("[recipients]\nwarn_recovery = 3\n")
    assert call(*words).status == 2


def test_without_anybody_it_is_a_usage_error(call, study, configure):
    assert call("encrypt", study).status == 2
    configure("[recipients]\ndefault = []\n")
    assert call("encrypt", study).status == 2
    configure('[recipients]\ndefault = "gone.pub"\n')
    done = call("encrypt", study)
    assert (done.status, "gone.pub" in done.err) == (2, True)


# ---- addresses -----------------------------------------------------------------------


def test_addresses_are_asked_of_the_directories(call, study, tmp_path, monkeypatch, configure):
    from dicomcrypt.pki import directory

    configure("[directories.house]\n")
    asked = []
    certificate = make.certificate(KIND, uses=USES, email="doc@hospital.example")

    def find_by_email(address, *, check):
        asked.append(address)
        return [certificate] if address == "doc@hospital.example" else []

    with monkeypatch.context() as patch:
        patch.setattr(directory, "find_by_email", find_by_email)
        assert call("encrypt", study, "-r", "doc@hospital.example").status == 0
        assert types_of(tmp_path / "a.txt.dcmx") == ["P-256"]
        (tmp_path / "team").write_text("email doc@hospital.example\n")
        assert call("encrypt", study, "-f", "-r", tmp_path / "team").status == 0
        done = call("encrypt", study, "-f", "-r", "nobody@hospital.example")
    assert (done.status, "no certificate for" in done.err) == (2, True)
    assert asked == ["doc@hospital.example"] * 2 + ["nobody@hospital.example"]
    configure("")
    done = call("encrypt", study, "-f", "-r", "doc@hospital.example")
    assert done.status == 2
    assert "[directories.NAME] in the configuration" in done.err
    assert "--directory" not in done.err


def test_keys_that_give_no_secret_are_refused_by_name(call, study, tmp_path):
    from cryptography.hazmat.primitives.asymmetric import rsa, x25519

    from dicomcrypt.keys.hybrid import HybridIdentity
    from dicomcrypt.keys.keyfile import _line

    numbers = make.private("rsa-oaep-sha256").public_key().public_numbers()
    hybrid = HybridIdentity.generate().recipient.public_bytes
    cases = {
        "ours": _line("dcmx-recipient-1", "x25519", bytes(32)).encode(),
        "hybrid": _line("dcmx-recipient-1", "mlkem768-x25519", hybrid[:-32] + bytes(32)).encode(),
        "point": x25519.X25519PublicKey.from_public_bytes(bytes(32)).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "rsa": rsa.RSAPublicNumbers((1 << 300) + 1, numbers.n).public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        done = call("encrypt", study, "-r", tmp_path / name, "--json")
        assert done.status == 5, (name, done.err)
        assert name in done.err.splitlines()[-1]
        assert done.out == ""


@pytest.mark.parametrize(("data", "status", "said"), [
    (make.certificate(KIND).public_bytes(Encoding.DER)[:200], 4, "the certificate is malformed"),
    (make.private_der(KIND, "x"), 2, "a secret key is in it"),
    (make.private_pem(KIND, "x"), 2, "a secret key is in it"),
    (make.private_der(KIND), 2, "a secret key is in it"),
    (make.public_pem("secp256k1"), 5, "secp256k1"),
    (make.public_pem("ed25519"), 2, "Ed25519"),
    (b"# nobody\n\nsome junk\n", 2, "line 3: not a recipient line"),
    (b"file a\0b\n", 2, "NUL"),
], ids=["cut", "sealed der", "sealed pem", "private", "curve", "kind", "junk", "nul"])  # fmt: skip
def test_what_is_wrong_with_a_recipient_file_is_said(call, study, tmp_path, data, status, said):
    (tmp_path / "file").write_bytes(data)
    done = call("encrypt", study, "-r", tmp_path / "file")
    assert done.status == status, done.err
    assert said in done.err
    assert "no recovery" not in done.err  # the fault alone is said


def test_a_chain_of_files_names_the_last(call, study, tmp_path):
    for name, text in (("a", "file b"), ("b", "file c"), ("c", "junk")):
        (tmp_path / name).write_text(text)
    done = call("encrypt", study, "-r", tmp_path / "a")
    assert done.err.count("recipient file") == 1
    assert repr(str(tmp_path / "c")) in done.err


def test_a_pin_comes_from_one_place(call, study, tmp_path):
    done = call("decrypt", study, "-o", tmp_path / "x", "--pin-file", "pin", "-i",
                "pkcs11:token=a?module-path=m.so&pin-source=file:pin")
    assert (done.status, "give one of them" in done.err) == (2, True)
    done = call("decrypt", study, "-o", tmp_path / "x", "-i", "pkcs11:token")
    assert (done.status, "no NAME=VALUE" in done.err) == (2, True)


def test_a_json_document_ends_whatever_happens(capsys):
    from dicomcrypt.cli.console import Report

    panic = type("PanicException", (BaseException,), {})
    for error, said in ((dc.PolicyError("refused"), "refused"),
                        (KeyboardInterrupt(), "interrupted"), (ValueError("secret"), "ValueError"),
                        (panic("secret"), "PanicException")):
        with pytest.raises(type(error)):
            with Report("encrypt", as_json=True, quiet=False, verbose=False):
                raise error
        summary = json.loads(capsys.readouterr().out)["summary"]
        assert summary["error"] == said
        assert summary["exit_status"] != 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_key_may_come_from_a_pipe_and_the_wait_for_it_ends(call, study, people, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert call("encrypt", study, "-r", people / "doc.crt").status == 0
    thread = threading.Thread(target=lambda: fifo.write_bytes((people / "doc.key").read_bytes()))
    thread.start()
    done = call("decrypt", f"{study}.dcmx", "-i", fifo, "-o", tmp_path / "back")
    thread.join()
    assert done.status == 0, done.err
    waiting = subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", "decrypt", f"{study}.dcmx", "-i", str(fifo)],
        stderr=subprocess.PIPE,
    )
    writer = os.open(fifo, os.O_WRONLY)  # there when it is open at the other end
    waiting.terminate()
    assert waiting.wait(100) == 130
    os.close(writer)
    waiting.stderr.close()
