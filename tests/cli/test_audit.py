"""The log that commands write, and `dicomcrypt audit`."""

import csv
import json
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from dicomcrypt.audit import read


@pytest.fixture
def place(tmp_path, monkeypatch):
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "c/audit.key"
    path.parent.mkdir()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    (tmp_path / "audit.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "c/config.toml").write_text(
        '[audit]\nlog = "audit.log"\nkey = "audit.key"\nheads = "../heads"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "c/config.toml"))
    return tmp_path


def events(place):
    return [(e["action"], e["outcome"]) for e in read(place / "c/audit.log")]


def trusted(place):
    return ["--trust", place / "audit.pem", "--heads", place / "heads"]


def test_a_job_is_two_records_and_a_head(call, place, keys, dicom):
    call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    call("decrypt", place / "a.dcmx", "-i", keys / "doctor.key", "-o", place / "back")
    call("decrypt", place / "a.dcmx", "-i", keys / "other.key", "-o", place / "no")
    (place / "a.dcmx").write_bytes((place / "a.dcmx").read_bytes()[:-1])
    call("verify", place / "a.dcmx", "-i", keys / "doctor.key")
    assert events(place) == [
        ("encrypt", "started"), ("encrypt", "ok"), ("decrypt", "started"), ("decrypt", "ok"),
        ("decrypt", "started"), ("decrypt", "no-identity"), ("verify", "started"),
        ("verify", "damaged"),
    ]  # fmt: skip
    object_id = (place / "a.dcmx").read_bytes()[16:32].hex()
    found = list(read(place / "c/audit.log"))
    assert [e["objects"] for e in found] == [[], [object_id]] * 4
    assert len({e["details"]["job"] for e in found}) == 4
    whole = call("audit", "verify", *trusted(place))
    assert whole.status == 0
    assert "heads kept elsewhere: 4 stand in it" in whole.err


def test_a_tree_is_one_job_and_nothing_in_the_log_names_a_file(command, place, keys, dicom):
    (place / "doe^john").mkdir()
    for n in range(20):
        (place / f"doe^john/secret{n}.dcm").write_bytes(dicom.read_bytes())
    environment = {**command.environment(), "DICOMCRYPT_CONFIG": str(place / "c/config.toml")}
    done = command("encrypt", place / "doe^john", "-r", keys / "doctor.pub", "-o", place / "s",
                   "-j", "2", env=environment)
    assert done.returncode == 0
    started, ended = read(place / "c/audit.log")
    assert (started["outcome"], ended["outcome"]) == ("started", "ok")
    assert ended["details"]["done"] == 20
    assert ended["objects"] == []
    assert ended["details"]["bytes-in"] == 20 * dicom.stat().st_size
    text = (place / "c/audit.log").read_text()
    assert "doe" not in text
    assert "secret" not in text


def test_pipes_rewraps_frames_and_rescues_are_recorded(call, command, place, keys, dicom):
    environment = {**command.environment(), "DICOMCRYPT_CONFIG": str(place / "c/config.toml")}
    blob = command("encrypt", "-", "-r", keys / "doctor.pub", input=dicom.read_bytes(),
                   env=environment).stdout
    command("decrypt", "-", "-i", keys / "doctor.key", input=blob, env=environment)
    (place / "a.dcmx").write_bytes(blob)
    call("rewrap", place / "a.dcmx", "-i", keys / "doctor.key", "--add", keys / "other.pub")
    call("frame", place / "a.dcmx", "-i", keys / "doctor.key", "-o", place / "f.raw")
    call("decrypt", place / "a.dcmx", "-i", keys / "doctor.key", "--salvage", "-o", place / "x")
    names = [action for action, _ in events(place)]
    assert names == [n for n in ("encrypt", "decrypt", "rewrap", "frame", "salvage")
                     for _ in range(2)]
    assert {outcome for _, outcome in events(place)} == {"started", "ok"}


def test_what_cannot_be_recorded_is_not_done(call, place, keys, dicom):
    log = place / "c/audit.log"
    words = ["encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx"]
    log.write_bytes(b"garbage\n")
    assert call(*words).status == 4
    log.unlink()
    log.mkdir()
    assert call(*words).status == 2
    log.rmdir()
    (place / "c/audit.key").chmod(0o644)
    readable = call(*words)
    assert (readable.status, "chmod 600" in readable.err) == (2, True)
    (place / "c/audit.key").unlink()
    assert call(*words).status == 2
    assert not (place / "a.dcmx").exists()


@pytest.mark.parametrize("text", ["", "log = 3", 'log = ["a", "b"]', 'logs = "x"',
                                  'log = "x"\nsync = 1', 'key = "x"'])
def test_odd_configurations(call, place, keys, dicom, text):
    (place / "c/config.toml").write_text(f"[audit]\n{text}\n")
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    assert done.status == (2 if text else 0)


def test_without_a_log_nothing_is_imported_for_it(command, tmp_path, keys, dicom):
    program = ("import sys\nfrom dicomcrypt.cli import cli\n"
               "cli.main(sys.argv[1:], standalone_mode=False)\n")
    program = ("import sys, atexit\natexit.register(lambda: print([m for m in sys.modules if "
               "m.startswith(('dicomcrypt.audit', 'dicomcrypt.policy.s', 'cryptography.x509'))"
               " and m != 'dicomcrypt.policy.source']))\n" + program)
    done = subprocess.run(
        [command.words[0], "-c", program, "encrypt", dicom, "-r", keys / "doctor.pub", "-o",
         tmp_path / "a"], check=True, capture_output=True,
        env={**command.environment(), "DICOMCRYPT_CONFIG": ""})
    assert done.stdout == b"[]\n"


# ---- dicomcrypt audit ----------------------------------------------------------


@pytest.fixture
def filled(call, place, keys, dicom):
    call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    call("decrypt", place / "a.dcmx", "-i", keys / "other.key", "-o", place / "no")
    return place


def test_show_filters(call, filled):
    def shown(*words):
        return [(e["action"], e["outcome"]) for e in
                json.loads(call("audit", "show", "--json", *words).out)]

    assert len(shown()) == 4
    assert shown("--action", "decrypt") == [("decrypt", "started"), ("decrypt", "no-identity")]
    assert shown("--outcome", "ok", "--outcome", "no-identity") == [
        ("encrypt", "ok"), ("decrypt", "no-identity")]
    object_id = (filled / "a.dcmx").read_bytes()[16:32].hex()
    assert shown("--object", object_id[:8].upper()) == [
        ("encrypt", "ok"), ("decrypt", "no-identity")]
    assert shown("--since", "2999-01-01") == []
    assert shown("--until", "2999-01-01T00:00+02:00", "--since", "2020-01-01") == shown()
    table = call("audit", "show", filled / "c/audit.log")
    assert "no-identity" in table.out
    for words in (["--since", "soon"], ["--object", "doe"], [filled / "none"]):
        assert call("audit", "show", *words).status == 2


def test_export(call, filled):
    assert call("audit", "export", "-o", filled / "e.csv").status == 0
    with open(filled / "e.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["action"] for r in rows] == ["encrypt"] * 2 + ["decrypt"] * 2
    assert call("audit", "export", "-o", filled / "e.csv").status == 1
    assert call("audit", "export", "-o", filled / "e.txt").status == 2
    words = ["--action", "encrypt", "-f", "-o", filled / "e.jsonl"]
    assert call("audit", "export", *words).status == 0
    lines = [json.loads(x) for x in (filled / "e.jsonl").read_text().splitlines()]
    assert [x["outcome"] for x in lines] == ["started", "ok"]


def test_verify_notices(call, filled):
    log = filled / "c/audit.log"
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    for changed in (whole.replace(b"no-identity", b"ok"), b"".join(lines[:2] + lines[3:]),
                    b"".join([lines[0], lines[2], lines[1], *lines[3:]])):
        log.write_bytes(changed)
        found = call("audit", "verify")
        assert found.status == 4
        assert "damaged or forged at line" in found.err
    log.write_bytes(b"".join(lines[:-2]))
    unseen = call("audit", "verify", "--trust", filled / "audit.pem")
    assert unseen.status == 0
    assert "cannot be told: give --heads" in unseen.err
    cut = call("audit", "verify", *trusted(filled))
    assert (cut.status, "is cut off" in cut.err) == (4, True)
    log.write_bytes(whole + b'{"act')
    torn = call("audit", "verify", "--json", *trusted(filled))
    assert torn.status == 0
    assert json.loads(torn.out)["unfinished"] == 5


def test_a_log_of_another_key_does_not_pass(call, filled, tmp_path):
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "other.pem").write_bytes(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert call("audit", "verify", "--trust", tmp_path / "other.pem").status == 4


def test_an_interrupted_job_says_so(call, place, keys, dicom, monkeypatch):
    def interrupted(path, work):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr("dicomcrypt.cli.crypt.single", interrupted)
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    assert done.status == 130
    assert events(place) == [("encrypt", "started"), ("encrypt", "interrupted")]


def test_heads_without_a_head_are_no_proof(call, place, keys, dicom):
    call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    (place / "empty").touch()
    for heads in (place / "empty", "/dev/null"):
        done = call("audit", "verify", "--trust", place / "audit.pem", "--heads", heads)
        assert done.status in (2, 4)
        assert "whole" not in done.err


def test_what_the_policy_refuses_is_recorded_without_a_job(call, place, keys, dicom):
    with open(place / "c/config.toml", "a") as file:
        file.write('[policy]\npreset = "fips"\n')
    done = call("encrypt", dicom, "-r", keys / "classical.pub", "-o", place / "a.dcmx")
    assert done.status == 5
    assert events(place) == [("encrypt", "refused")]
    assert call("audit", "verify", *trusted(place)).status == 0


def test_words_that_the_log_does_not_have(call, place, keys, dicom):
    call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    for option, known in (("--action", "encrypt"), ("--outcome", "refused")):
        done = call("audit", "show", option, "encrpyt")
        assert done.status == 2
        assert known in done.err
    assert call("audit", "show", "--action", "encrypt").status == 0


def test_a_missing_place_for_heads_is_told_before_the_job(call, place, keys, dicom):
    text = (place / "c/config.toml").read_text()
    (place / "c/config.toml").write_text(text.replace("../heads", "../none/heads"))
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    assert done.status == 1
    assert "none/heads" in done.err
    assert "heads" in done.err
    assert not (place / "a.dcmx").exists()


def test_an_end_that_finds_no_room_says_that_the_job_was_begun(call, place, keys, dicom,
                                                              monkeypatch):
    from dicomcrypt.audit import AuditLog
    from dicomcrypt.errors import DiskFullError

    record = AuditLog.record

    def full(self, action, **fields):
        if fields["outcome"] != "started":
            raise DiskFullError("no room for the audit log: make room there")
        return record(self, action, **fields)

    monkeypatch.setattr(AuditLog, "record", full)
    done = call("encrypt", dicom, "-r", keys / "doctor.pub", "-o", place / "a.dcmx")
    assert done.status == 1
    assert "how it ended (ok) is not in the log" in done.err
    assert (place / "a.dcmx").exists()
