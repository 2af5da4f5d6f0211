"""tools/dcmx_rescue.py as a program: options, keys, trees, and what it refuses."""

import ast
import hashlib
import pathlib
import shutil
import stat
import struct
import subprocess
import sys

import foreign_keys
import pytest
from rescue_tool import DOCUMENT, ENTRIES, PASSPHRASE, TOOL, VECTORS, make_vectors, rescue

import dicomcrypt as dc


def vector(name):
    return str(VECTORS / "objects" / f"{name}.dcmx")


def expected(name):
    return next(e for e in ENTRIES if e["file"] == f"objects/{name}.dcmx")["sha256"]


def test_as_a_program(keys, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-W", "error", str(TOOL), vector("x-wing"), "-o", str(out)]
    for name, status in (("mallory", 3), ("bob", 0), ("bob", 2)):
        done = subprocess.run([*command, "-i", str(keys / name)], capture_output=True, check=False)
        assert done.returncode == status, done.stderr
        assert done.stderr.count(b"\n") == (status > 0)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == expected("x-wing")


def test_refuses_to_overwrite(keys, tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("mine")
    assert rescue.main([vector("text"), "-i", str(keys / "alice"), "-o", str(out)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert out.read_text() == "mine"
    out.unlink()
    out.symlink_to("nowhere")
    assert rescue.main([vector("text"), "-i", str(keys / "alice"), "-o", str(out)]) == 2
    assert out.is_symlink()


def test_name_taken_meanwhile(keys, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(rescue.os.path, "lexists", lambda path: False)
    out.write_text("mine")
    assert rescue.main([vector("text"), "-i", str(keys / "alice"), "-o", str(out)]) == 2
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [[], ["x"], ["x", "-o", "y"], ["x", "-i", "k"], ["x", "-o", "y", "-i", "k", "--part", "tail"]],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        rescue.main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "dcmx-identity-1:x25519:AAAA",
        "dcmx-identity-1:rsa:AAAA",
        "dcmx-identity-2:x25519:AAAA",
        "dcmx-identity-1:x25519:!!!!",
        DOCUMENT["identities"]["alice"][:-1] + "_",
        DOCUMENT["identities"]["alice"].replace("x25519", "mlkem768-x25519"),
        DOCUMENT["recipients"]["alice"],
    ],
)
def test_wrong_key_file(text, tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text(text)
    assert rescue.main([vector("text"), "-i", str(key), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_key_file_that_is_missing_or_binary(tmp_path, capsys):
    key = tmp_path / "key"
    arguments = [vector("text"), "-i", str(key), "-o", str(tmp_path / "out")]
    assert rescue.main(arguments) == 2
    key.write_bytes(b"\xff\xfe\x00")
    assert rescue.main(arguments) == 2


def test_key_file_under_a_passphrase(keys, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [vector("scopes"), "-i", vector("key-file"), "--part", "pixels", "-o", str(out)]
    assert rescue.main(arguments) == 2
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    assert rescue.main([*arguments, "--passphrase-file", str(wrong)]) == 3
    assert "key-file.dcmx" in capsys.readouterr().err
    damaged = bytearray(pathlib.Path(vector("key-file")).read_bytes())
    damaged[-100] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    changed = [arguments[0], "-i", str(tmp_path / "damaged"), *arguments[3:]]
    assert rescue.main([*changed, "--passphrase-file", str(keys / "passphrase")]) == 4
    assert not out.exists()
    assert rescue.main([*arguments, "--passphrase-file", str(keys / "passphrase")]) == 0
    entry = next(e for e in ENTRIES if e["what"] == "by the pixels key")
    assert hashlib.sha256(out.read_bytes()).hexdigest() == entry["sha256"]


def test_passphrase_prompt(tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(rescue.getpass, "getpass", lambda prompt: PASSPHRASE)
    assert rescue.main([vector("argon2id"), "-p", "-o", str(out)]) == 0
    assert hashlib.sha256(out.read_bytes()).hexdigest() == expected("argon2id")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_passphrase_file_may_end_with_a_line_end(end, tmp_path):
    file = tmp_path / "passphrase"
    file.write_bytes((PASSPHRASE + end).encode())
    arguments = [vector("argon2id"), "--passphrase-file", str(file), "-o", str(tmp_path / "out")]
    assert rescue.main(arguments) == 0


def test_part_that_is_not_there(keys, tmp_path, capsys):
    arguments = [vector("no-pixels"), "-i", str(keys / "alice"), "-o", str(tmp_path / "out")]
    assert rescue.main([*arguments, "--part", "pixels"]) == 1
    assert "has no pixels" in capsys.readouterr().err


def test_attributes(keys, tmp_path):
    out = tmp_path / "out"
    arguments = [vector("attributes"), "-i", str(keys / "alice"), "-o", str(out), "--attributes"]
    assert rescue.main(arguments) == 0
    entry = next(e for e in ENTRIES if "mode" in e)
    assert stat.S_IMODE(out.stat().st_mode) == entry["mode"]
    assert out.stat().st_mtime_ns == entry["mtime_ns"]
    out.unlink()
    assert rescue.main([vector("mode-max"), *arguments[1:]]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o777


def test_list(capsys):
    assert rescue.main([vector("scopes"), "--list"]) == 0
    shown = capsys.readouterr().out
    for word in ("generation 2", "mlkem768-x25519, tags", "x25519, pixels", "pixels:", "tail:"):
        assert word in shown
    assert rescue.main([vector("unknown-stanza"), "--list"]) == 0
    assert "type 200" in capsys.readouterr().out
    assert rescue.main([vector("bad-version-2"), "--list"]) == 4
    assert rescue.main([str(TOOL), "--list"]) == 4
    assert rescue.main([str(TOOL) + "x", "--list"]) == 1


def write_object(path, content=b"content", **closing):
    writer = make_vectors.Writer(
        str(path.name),
        {4: make_vectors.linear(content)},
        closing={int(k[1:]): v for k, v in closing.items()},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(writer.to("alice").build())


def test_tree(keys, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    write_object(source / "a" / "plain.txt.dcmx", b"one")
    write_object(source / "x1.dcmx", b"two", k8=b"deep/er/name.dcm")
    write_object(source / "a" / "x2.dcmx", b"three", k8=b"base.dcm")
    write_object(source / "x3.dcmx", b"", k8=b"a/link", k11=b"plain.txt")
    (source / "notes.txt").write_text("left alone")
    arguments = [str(source), "-i", str(keys / "alice"), "-o", str(out)]
    assert rescue.main(arguments) == 0
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert files == {
        "a/plain.txt": b"one",
        "deep/er/name.dcm": b"two",
        "a/base.dcm": b"three",
        "a/link": b"one",
    }
    assert rescue.main([*arguments[:-1], str(tmp_path / "out2")]) == 0
    assert rescue.main(arguments) == 1
    assert capsys.readouterr().err.count("not overwritten") == 4
    shutil.copy(vector("bad-chunk-flipped"), source / "bad.dcmx")
    assert rescue.main([*arguments[:-1], str(tmp_path / "out3")]) == 1
    assert not (tmp_path / "out3" / "bad").exists()
    assert (tmp_path / "out3" / "a" / "plain.txt").read_bytes() == b"one"
    assert rescue.main([str(source), "--list"]) == 0
    (tmp_path / "nothing").mkdir()
    assert rescue.main([str(tmp_path / "nothing"), *arguments[1:-1], str(tmp_path / "out4")]) == 1


@pytest.mark.parametrize(
    "name",
    [
        b"../escaped",
        b"/escaped",
        b"a/../../escaped",
        b"a//b",
        b"a/",
        b"./a",
        b"a/\0b",
        b"",
        b".",
        b"..",
        b"out/x",
    ],
)
def test_tree_does_not_write_outside(name, keys, tmp_path):
    source, out, outside = tmp_path / "in", tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    out.mkdir()
    (out / "out").symlink_to(outside)
    write_object(source / "x.dcmx", b"evil", k8=name)
    assert rescue.main([str(source), "-i", str(keys / "alice"), "-o", str(out)]) == 1
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == b"evil"] == []
    assert list(outside.iterdir()) == []


def test_nothing_is_left_when_writing_fails(keys, tmp_path, monkeypatch, capsys):
    def full(self, wanted, out):
        out(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rescue.DcmxObject, "write_streams", full)
    out = tmp_path / "o" / "out"
    out.parent.mkdir()
    assert rescue.main([vector("text"), "-i", str(keys / "alice"), "-o", str(out)]) == 1
    assert list(out.parent.iterdir()) == []
    assert "No space left" in capsys.readouterr().err


def test_kdf_is_not_run_out_of_limits(monkeypatch):
    """The parameters are checked first: no stanza may choose how much memory is taken."""
    keyring = rescue.Keyring((), "x")
    bad = [(5, bytes([n])) for n in (0, 14, 21, 255)]
    for values in ((7, 1, 1), (2**21 + 1, 1, 1), (2**32 - 1, 1, 1), (64, 0, 1), (64, 1, 17)):
        bad.append((6, struct.pack("<IBB", *values)))
    for kind, parameters in bad:
        with pytest.raises(rescue.Failure, match="out of range"):
            keyring.run_kdf(kind, parameters, bytes(16))


def test_needs_nothing_but_cryptography():
    tree = ast.parse(TOOL.read_text(), feature_version=(3, 9))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names - {"cryptography"} <= sys.stdlib_module_names


# ---- Keys of other programs ------------------------------------------------------------------


@pytest.mark.parametrize("kind", foreign_keys.KINDS)
def test_private_keys_of_other_programs_open_objects(kind, tmp_path, capsys):
    key, word, path = tmp_path / "key", tmp_path / "word", tmp_path / "o.dcmx"
    word.write_text(foreign_keys.PASSPHRASE, encoding="utf-8")
    key.write_bytes(foreign_keys.public_pem(kind))
    path.write_bytes(dc.encrypt(b"a study", dc.load_recipients(key)))
    forms = [(foreign_keys.private_pem(kind), []), (foreign_keys.private_der(kind), []),
             (foreign_keys.private_pem(kind, foreign_keys.PASSPHRASE), [word]),
             (foreign_keys.private_der(kind, foreign_keys.PASSPHRASE), [word])]
    if kind in foreign_keys.PACKABLE:
        certificate = foreign_keys.certificate(kind)
        forms.append((foreign_keys.packed(kind, certificate), []))
        forms.append(
            (foreign_keys.packed(kind, certificate, passphrase=foreign_keys.PASSPHRASE), [word])
        )
    for number, (data, words) in enumerate(forms):
        key.write_bytes(data)
        out = tmp_path / f"out{number}"
        command = [str(path), "-i", str(key), "-o", str(out)]
        for name in words:
            assert rescue.main(command) == 3
            command += ["--passphrase-file", str(name)]
        assert rescue.main(command) == 0, capsys.readouterr().err
        assert out.read_bytes() == b"a study"


def test_keys_that_cannot_decrypt_or_are_cut(tmp_path, capsys):
    key = tmp_path / "key"
    command = [vector("text"), "-i", str(key), "-o", str(tmp_path / "out")]
    whole = foreign_keys.private_pem("hpke-p256")
    for data, status in ((foreign_keys.private_pem("ed25519"), 2), (whole[:-30], 3),
                         (foreign_keys.private_pem("secp256k1"), 2), (b"0\x82\x01\x00" * 99, 3),
                         (foreign_keys.private_pem("rsa-1024"), 2), (b"-----BEGIN " * 9999, 3),
                         (foreign_keys.public_pem("hpke-p256"), 3)):
        key.write_bytes(data)
        assert rescue.main(command) == status
        assert capsys.readouterr().err.count("\n") == 1
