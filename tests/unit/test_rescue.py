"""tools/dcmx_rescue.py, the second implementation of the format, over all vectors."""

import ast
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import sys

import cbor2
import foreign_keys
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

import dicomcrypt as dc

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
TOOL = ROOT / "tools" / "dcmx_rescue.py"


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# make_vectors imports the tool by its name, so both share one module and its Failure class.
rescue = load("dcmx_rescue", TOOL)
make_vectors = load("dcmx_make_vectors", VECTORS / "make_vectors.py")

DOCUMENT = json.loads((VECTORS / "objects.json").read_text())
ENTRIES = DOCUMENT["objects"]
CASES = json.loads((VECTORS / "block-layer-v1.json").read_text())["cases"]
PASSPHRASE = make_vectors.PASSPHRASE
FAST = settings(database=None, deadline=None, max_examples=80)


def entry_id(entry):
    return pathlib.Path(entry["file"]).stem + (f"-{entry['part']}" if entry["part"] else "")


@pytest.fixture
def keys(tmp_path):
    """Key files by name."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, line in DOCUMENT["identities"].items():
        (folder / name).write_text(f"# {name}\n\n{line}\n")
    (folder / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    return folder


def options(entry, keys):
    result = []
    for name in entry["identities"]:
        result += ["-i", str(keys / name)]
    if entry["passphrase"] is not None:
        (keys / "used").write_text(entry["passphrase"], encoding="utf-8")
        result += ["--passphrase-file", str(keys / "used")]
    return result + (["--part", entry["part"]] if entry["part"] else [])


# ---- Vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=entry_id)
def test_object(entry, keys, tmp_path, capsys):
    out = tmp_path / "out" / "file"
    out.parent.mkdir()
    arguments = [str(VECTORS / entry["file"]), "-o", str(out), *options(entry, keys)]
    status = rescue.main(arguments)
    error = capsys.readouterr().err
    assert status == (0 if entry.get("cms") else entry["exit"]), error  # it leaves the CMS alone
    if entry.get("cms") or "signed" in entry:
        assert error.count("\n") == 1
        assert "signed, and the signature itself was not verified" in error
        assert out.exists()
        error = ""
    if status:
        assert list(out.parent.iterdir()) == []
        assert error.count("\n") == 1
        assert f"{entry['file']}: {entry['failure']}: " in error
    elif "cms" in entry:
        assert entry["failure"] == "damaged"
    elif "link" in entry:
        assert os.readlink(out) == entry["link"]
    else:
        data = out.read_bytes()
        assert len(data) == entry["size"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert error == ""


def test_vectors_are_complete():
    listed = {entry["file"] for entry in ENTRIES}
    stored = {f"objects/{path.name}" for path in (VECTORS / "objects").iterdir()}
    assert listed == stored
    size = sum(path.stat().st_size for path in VECTORS.rglob("*") if path.suffix != ".pyc")
    assert size < 3_000_000
    assert {entry["failure"] for entry in ENTRIES if entry["exit"]} == {
        "damaged",
        "no-identity",
        "refused-header",
        "refused-version",
    }


def test_vectors_are_reproducible(tmp_path):
    """All but the slots of public keys, which the library randomises."""
    out = make_vectors.Collection(tmp_path)
    make_vectors.good_objects(out)
    make_vectors.good_frame_run_limits(out)
    make_vectors.key_files(out)
    make_vectors.bad_objects(out)
    make_vectors.other_keys(out)
    make_vectors.signed_objects(out)
    assert out.entries == ENTRIES
    for path in (tmp_path / "objects").iterdir():
        new, old = path.read_bytes(), (VECTORS / "objects" / path.name).read_bytes()
        assert len(new) == len(old)
        try:
            obj = rescue.DcmxObject(io.BytesIO(new))
        except rescue.Failure:
            continue
        streams = 72 + 2 * obj.capacity
        assert new[:72] == old[:72]
        assert new[streams:] == old[streams:]
        kinds = {s[0] for slot in obj.slots for s in slot[1]}
        if obj.slots and not kinds - {5, 6, 7, 200}:
            assert new == old


def plaintext(case):
    recipe = case["plaintext"]
    if "period" in recipe:
        return bytes(i % recipe["period"] for i in range(case["size"]))
    return hashlib.shake_256(recipe["shake256"].encode()).digest(case["size"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_block_layer(case):
    plain, key = plaintext(case), bytes.fromhex(case["key"])
    if case["transformed"] is not None:
        data = bytes.fromhex(case["transformed"])
    else:
        methods = bytes.fromhex(case["methods"])
        named = {name: i for i, name in enumerate(make_vectors.METHOD_NAMES)}
        forced = None if case["method"] == "randomized" else named[case["method"]]
        data, chosen = make_vectors.transform(
            key, plain, case["runs"], forced, case["sample_bytes"]
        )
        assert chosen == methods
    assert hashlib.sha256(data).hexdigest() == case["sha256"]
    layer = rescue.BlockLayer(key)
    out = bytearray(data)
    units = rescue.read_runs(case["runs"], bytes.fromhex(case["methods"]), len(data))
    for number, (offset, length, *shape) in enumerate(units):
        end = offset + length
        out[offset:end] = layer.decrypt_unit(number, data[offset:end], *shape)
    assert bytes(out) == plain


def test_number_of_units_is_bounded():
    """No vector could be large enough for this one."""
    for runs in ([[0, 2**26 + 1, 1, 1, 1]], [[0, 2**62]]):
        with pytest.raises(rescue.Failure, match="too many units"):
            next(rescue.read_runs(runs, b"", 2**63))


# ---- Chunks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 32768, 50000])
def test_chunks_of_cryptography_open(size):
    key, context, plain = os.urandom(32), os.urandom(77), os.urandom(size)
    encryptor = Cobblestone256Encryptor(key, context)
    sealed = encryptor.update(plain) + encryptor.finalize()
    assert len(sealed) == 56 + size + 16 * (size // 16384 + 1)
    stream = rescue.Stream(io.BytesIO(b"before" + sealed + b"behind"), 6, len(sealed), key, context)
    assert stream.size == size
    assert stream.read(0, size) == plain
    stream.verify_end()
    for at, length in ((0, 1), (16380, 10), (16384, 1), (20000, 20000)):
        if at + length <= size:
            assert stream.read(at, length) == plain[at : at + length]


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 50000])
def test_cryptography_opens_chunks_of_the_encoder(size):
    writer = make_vectors.Writer("cobblestone", {})
    key, plain = os.urandom(32), os.urandom(size)
    sealed = writer.chunked(4, key, plain)
    decryptor = Cobblestone256Decryptor(key, rescue.label(b"stream", 4, writer.core))
    assert decryptor.update(sealed) + decryptor.finalize() == plain


def test_chunk_of_another_key_or_context():
    key = os.urandom(32)
    encryptor = Cobblestone256Encryptor(key, b"context")
    sealed = encryptor.update(b"text") + encryptor.finalize()
    for wrong in ((os.urandom(32), b"context"), (key, b"context2")):
        with pytest.raises(rescue.Failure, match="commitment"):
            rescue.Stream(io.BytesIO(sealed), 0, len(sealed), *wrong)


@pytest.mark.parametrize("length", [*range(72), 72 + 16384, 87 + 16384])
def test_impossible_stream_length(length):
    with pytest.raises(rescue.Failure, match="length"):
        rescue.Stream(io.BytesIO(bytes(length)), 0, length, bytes(32), b"")


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_hpke_of_cryptography_opens(name):
    person = make_vectors.PEOPLE[name]
    (identity,) = rescue.parse_identities(person.identity, "key")
    assert identity.public == person.public
    sealed = person.suite.encrypt(b"secret", person.sealing_key, info=b"info")
    enc, ciphertext = sealed[: identity.enc_size], sealed[identity.enc_size :]
    assert identity.open(enc, ciphertext, b"info") == b"secret"
    with pytest.raises(InvalidTag):
        identity.open(enc, ciphertext, b"other")


# ---- CBOR ------------------------------------------------------------------------------------

scalars = (
    st.integers(-(2**64), 2**64 - 1) | st.integers(-300, 300) | st.binary(max_size=300) | st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=15)
maps = st.dictionaries(st.integers(0, 2**64 - 1) | st.integers(0, 30), values, max_size=30)


@FAST
@given(maps)
def test_cbor_round_trip(value):
    raw = make_vectors.cbor_encode(value)
    assert raw == cbor2.dumps(value, canonical=True)
    assert rescue.cbor_decode(raw) == value
    assert list(rescue.cbor_decode(raw)) == sorted(value)


def decodes_only_canonical(raw):
    try:
        value = rescue.cbor_decode(raw)
    except rescue.Failure:
        return
    assert make_vectors.cbor_encode(value) == raw


@FAST
@given(st.binary(max_size=200))
def test_cbor_any_bytes(raw):
    decodes_only_canonical(raw)
    decodes_only_canonical(b"\xa1\x00" + raw)


@FAST
@given(maps, st.data())
def test_cbor_changed_bytes(value, data):
    raw = bytearray(make_vectors.cbor_encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    decodes_only_canonical(bytes(raw))
    decodes_only_canonical(bytes(raw[:at]))


def test_cbor_depth_and_counts():
    for raw in (
        b"\xa1\x00" + b"\x81" * 100_000 + b"\x00",
        b"\xa1\x00\x9b" + b"\xff" * 8,
        b"\xbb" + b"\xff" * 8,
        b"\xa1\x00\x5b" + b"\xff" * 8,
        b"\xa1\x00\x1c",
        b"\xa1\x20\x00",
    ):
        with pytest.raises(rescue.Failure):
            rescue.cbor_decode(raw)


# ---- Damage anywhere -------------------------------------------------------------------------


def opened(data, keyring):
    obj = rescue.DcmxObject(io.BytesIO(data))
    obj.open(keyring)
    parts = []
    obj.write_streams(rescue.streams_wanted(obj, None), parts.append)
    return b"".join(parts)


def test_no_changed_byte_changes_the_file():
    """A changed byte is noticed, or lies in the slot that is not used."""
    writer = make_vectors.Writer("flips", make_vectors.native("flips", 5, 3), capacity=512)
    data = writer.to("alice").build()
    (identity,) = rescue.parse_identities(DOCUMENT["identities"]["alice"], "key")
    keyring = rescue.Keyring([identity])
    assert opened(data, keyring) == writer.original()
    unused = range(72 + 512, 72 + 1024)
    for at in range(len(data)):
        if at in unused and at % 50:
            continue
        changed = make_vectors.flip(data, at)
        if at in unused:
            assert opened(changed, keyring) == writer.original()
        else:
            with pytest.raises(rescue.Failure):
                opened(changed, keyring)
    for size in range(0, len(data), 7):
        with pytest.raises(rescue.Failure):
            opened(data[:size], keyring)


# ---- The command line ------------------------------------------------------------------------


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
