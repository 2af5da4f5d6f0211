"""Other programs agree: dcmtk reads what comes back, the rescue tool opens what is made."""

import importlib.util
import io
import os
import pathlib
import stat
import subprocess
import sys

import pytest

import dicomcrypt as dc
from tests.conftest import METHODS, need

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORDS = "a passphrase of \u4e24 words"


def _load(name, path):
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rescue():
    return _load("dcmx_rescue", ROOT / "tools" / "dcmx_rescue.py")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    from dicomcrypt.keys import keyfile

    folder = tmp_path_factory.mktemp("keys")
    made = {}
    for name, kind in (("doctor", "mlkem768-x25519"), ("index", "mlkem768-x25519"),
                       ("study", "x25519"), ("classical", "x25519"), ("other", "x25519")):
        made[name] = keyfile.ALGORITHMS[kind].generate()
        (folder / f"{name}.key").write_text(keyfile.identity_text(made[name]))
    (folder / "passphrase").write_text(WORDS + "\n", encoding="utf-8")
    made["folder"] = folder
    return made


def identity(keys, name):
    return ["-i", str(keys["folder"] / f"{name}.key")]


def run(rescue, capsys, *arguments):
    status = rescue.main([str(a) for a in arguments])
    return status, capsys.readouterr().err


# ---- dcmtk ------------------------------------------------------------------


def dcmdump(path, **options):
    return subprocess.run(["dcmdump", path], check=False, capture_output=True, **options)


def test_dcmdump_shows_the_same_of_every_decrypted_file(corpus, keys, tmp_path):
    need("dcmdump", "dcmtk")
    back = tmp_path / "back"
    batch = dc.Batch([keys["doctor"].recipient])
    shown = 0
    for path in corpus[::4]:
        before = dcmdump(path)
        back.write_bytes(dc.decrypt(batch.encrypt(path.read_bytes()), [keys["doctor"]]))
        after = dcmdump(back)
        assert after.returncode == before.returncode, path
        assert after.stdout.replace(bytes(back), bytes(path)) == before.stdout, path
        shown += before.returncode == 0
    assert shown > 30


def test_dcmdump_reads_the_pipe(corpus, keys, tmp_path):
    need("dcmdump", "dcmtk")
    path = next(p for p in corpus if p.name == "CT_small.dcm")
    dc.encrypt_file(path, tmp_path / "ct.dcmx", [keys["doctor"].recipient])
    line = '"$0" -m dicomcrypt decrypt "$1" -i "$2" -o - | dcmdump -'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, sys.executable, tmp_path / "ct.dcmx",
         keys["folder"] / "doctor.key"], check=False, capture_output=True, cwd=ROOT,
        env={n: v for n, v in os.environ.items() if n != "PYTHONUNBUFFERED"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"PatientName" in done.stdout
    body = [line for line in dcmdump(path).stdout.splitlines() if line.startswith(b"(")]
    assert [line for line in done.stdout.splitlines() if line.startswith(b"(")] == body


# ---- the second implementation --------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_rescue_tool_opens_every_file_of_the_corpus(corpus, keys, tmp_path, rescue, capsys,
                                                        method):
    """Each file with one of the methods, in trees; the largest are left out."""
    number = METHODS.index(method)
    chosen = [p for p in corpus[number :: len(METHODS)] if p.stat().st_size < 1 << 19]
    safe, back = tmp_path / "safe", tmp_path / "back"
    safe.mkdir()
    batch = dc.Batch([keys["doctor"].recipient, keys["index"].recipient], method=method,
                     batch=number % 2 == 0)
    for count, path in enumerate(chosen):
        batch.encrypt_file(path, safe / f"{count}.dcmx")
    status, err = run(rescue, capsys, safe, *identity(keys, "index"), "-o", back)
    assert (status, err) == (0, "")
    found = {p.read_bytes() for p in back.rglob("*") if p.is_file()}
    assert found == {p.read_bytes() for p in chosen}
    assert len(chosen) > 30


def test_the_rescue_tool_restores_mode_and_time(corpus, keys, tmp_path, rescue, capsys):
    source = tmp_path / "ct"
    source.write_bytes(corpus[0].read_bytes())
    source.chmod(0o640)
    dc.encrypt_file(source, tmp_path / "ct.dcmx", [keys["doctor"].recipient])
    out = tmp_path / "back"
    status, err = run(rescue, capsys, tmp_path / "ct.dcmx", *identity(keys, "doctor"), "-o", out,
                      "--attributes")
    assert (status, err) == (0, "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert out.stat().st_mtime_ns == source.stat().st_mtime_ns


@pytest.mark.parametrize("kdf", ["argon2id", "scrypt"])
def test_the_rescue_tool_opens_passphrases(corpus, keys, tmp_path, rescue, capsys, kdf):
    path = next(p for p in corpus if p.name == "CT_small.dcm")
    parameters = {"memory_kib": 64, "passes": 1} if kdf == "argon2id" else {"log2_n": 15}
    dc.encrypt_file(path, tmp_path / "o.dcmx", [dc.Passphrase(WORDS, kdf=kdf, **parameters)])
    status, err = run(rescue, capsys, tmp_path / "o.dcmx", "--passphrase-file",
                      keys["folder"] / "passphrase", "-o", tmp_path / "back")
    assert (status, err) == (0, "")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("batch", [True, False])
def test_the_rescue_tool_opens_scopes_as_the_package_does(corpus, keys, tmp_path, rescue, capsys,
                                                          batch):
    path = next(p for p in corpus if p.name == "CT_small.dcm")
    writer = dc.Batch(
        [keys["doctor"].recipient], tags_to=[keys["index"].recipient],
        pixels_to=[keys["study"].recipient], allow_classical=True, batch=batch,
    )  # fmt: skip
    writer.encrypt_file(path, tmp_path / "o.dcmx")
    blob = (tmp_path / "o.dcmx").read_bytes()
    for name, part in (("index", "tags"), ("study", "pixels"), ("doctor", "tags")):
        out = tmp_path / f"{name}-{part}"
        status, err = run(rescue, capsys, tmp_path / "o.dcmx", *identity(keys, name), "--part",
                          part, "-o", out)
        assert (status, err) == (0, "")
        assert out.read_bytes() == dc.decrypt(blob, [keys[name]], part=part)
    status, err = run(rescue, capsys, tmp_path / "o.dcmx", *identity(keys, "index"), "-o",
                      tmp_path / "no")
    assert status == 3
    assert not (tmp_path / "no").exists()


def test_the_rescue_tool_opens_rewrapped_and_piped_objects(corpus, keys, tmp_path, rescue, capsys):
    path, obj = corpus[1], tmp_path / "o.dcmx"
    with open(obj, "wb") as file, dc.ObjectWriter(file, [keys["classical"].recipient]) as writer:
        for piece in iter(io.BytesIO(path.read_bytes()).read1, b""):
            writer.write(piece)
    dc.rewrap(obj, [keys["classical"]], add=[keys["other"].recipient])
    dc.rewrap(obj, [keys["other"]], remove=[keys["classical"].recipient])
    for name, expected in (("other", 0), ("classical", 3)):
        status, _ = run(rescue, capsys, obj, *identity(keys, name), "-o", tmp_path / name)
        assert status == expected
    assert (tmp_path / "other").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("place", [0, 9, 40, 66, 80, 0.4, 0.7, 0.95, -20, "cut", "longer"])
def test_both_refuse_what_is_damaged(corpus, keys, tmp_path, rescue, capsys, place):
    path = next(p for p in corpus if p.name == "CT_small.dcm")
    data = bytearray(dc.encrypt(path.read_bytes(), [keys["doctor"].recipient]))
    if place == "cut":
        del data[-5000:]
    elif place == "longer":
        data += b"\0"
    else:
        data[int(place * len(data)) if isinstance(place, float) else place] ^= 0x10
    (tmp_path / "o.dcmx").write_bytes(data)
    with pytest.raises(dc.DamagedError):
        dc.decrypt(bytes(data), [keys["doctor"]])
    status, err = run(rescue, capsys, tmp_path / "o.dcmx", *identity(keys, "doctor"), "-o",
                      tmp_path / "back")
    assert status == 4, err
    assert not (tmp_path / "back").exists()
