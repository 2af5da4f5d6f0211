"""The audit log: what is noticed, what is mended, and what does not get in."""

import json
import os
import subprocess
import sys
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomcrypt.audit import AuditLog, present_actor, read, read_heads, records, verify
from dicomcrypt.audit import log as writing
from dicomcrypt.audit.reading import part_files
from dicomcrypt.errors import DamagedError, DiskFullError, UsageError
from dicomcrypt.policy.signing import Signer

OBJECT = "00112233445566778899aabbccddeeff"


@pytest.fixture(scope="module")
def signer():
    return Signer(ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.log"


def fill(path, count=3, signer=None, **options):
    with AuditLog.open(path, signer, sync=False, **options) as log:
        for n in range(count):
            log.record("decrypt", actor="uid:1000", objects=[OBJECT], outcome="ok",
                       details={"done": n})
    return log


def noticed(path, **how):
    """Whether `verify` refuses a log or reports that its end is torn."""
    try:
        return verify(path, **how).unfinished > 0
    except DamagedError:
        return True


def test_a_log_is_read_back_as_it_was_written(path, signer):
    fill(path, 5, signer)
    fill(path, 2, signer)
    assert [e["details"]["done"] for e in read(path)] == [0, 1, 2, 3, 4, 0, 1]
    report = verify(path, [signer.verifier])
    assert (report.first, report.last, report.events, report.heads) == (0, 9, 7, 2)
    assert (report.signed_to, report.unsigned) == (9, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert all(records.parse(line) for line in path.read_bytes().splitlines())


def flipped(path, bits):
    """Flip bits of a file, `bits(at)` of each byte, one at a time; yield which. In its place: to
    write the file anew each time takes twenty times as long."""
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(whole):
            for bit in bits(at):
                os.pwrite(file.fileno(), bytes((byte ^ 1 << bit,)), at)
                yield at, bit
            os.pwrite(file.fileno(), bytes((byte,)), at)
    assert path.read_bytes() == whole


def test_every_bit_flip_is_noticed_by_everybody(path):
    fill(path, 1)
    for where in flipped(path, lambda at: range(8)):
        assert noticed(path), where


def test_a_flip_in_every_byte_of_a_signed_log_is_noticed_without_its_key(path, signer):
    fill(path, 1, signer)
    for where in flipped(path, lambda at: [at % 8]):
        assert noticed(path), where


def test_every_removal_exchange_and_doubling_inside_is_noticed(path, signer):
    fill(path, 4, signer)
    lines = path.read_bytes().splitlines(keepends=True)
    for n in range(len(lines) - 1):
        path.write_bytes(b"".join(lines[:n] + lines[n + 1 :]))
        assert noticed(path), n
        for other in range(n + 1, len(lines)):
            mixed = list(lines)
            mixed[n], mixed[other] = mixed[other], mixed[n]
            path.write_bytes(b"".join(mixed))
            assert noticed(path), (n, other)
        path.write_bytes(b"".join([*lines[: n + 1], *lines[n:]]))
        assert noticed(path), n


def test_the_first_bad_record_is_named(path, signer):
    fill(path, 4, signer)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"decrypt", b"encrypt")
    path.write_bytes(b"".join(lines))
    with pytest.raises(DamagedError, match=r"line 4 \(record 3\): its sum is wrong"):
        verify(path)
    with pytest.raises(DamagedError, match="record 3"):
        list(read(path))


def test_truncation_is_noticed_only_against_heads_kept_elsewhere(path, tmp_path, signer):
    elsewhere = tmp_path / "heads"
    for _ in range(3):
        fill(path, 2, signer, heads=elsewhere)
    heads = read_heads(elsewhere)
    assert len(heads) == 3
    assert verify(path, [signer.verifier], heads).heads_checked == 3
    lines = path.read_bytes().splitlines(keepends=True)
    for end in range(4, len(lines)):  # a head of the first job stands before it
        path.write_bytes(b"".join(lines[:end]))
        assert not noticed(path, trusted=[signer.verifier])
        with pytest.raises(DamagedError, match="cut off: it ends with record"):
            verify(path, [signer.verifier], heads)


def test_who_holds_the_key_rewrites_the_log_unnoticed_but_for_the_heads(path, tmp_path, signer):
    elsewhere = tmp_path / "heads"
    fill(path, 3, signer, heads=elsewhere)
    heads = read_heads(elsewhere)
    os.unlink(path)
    fill(path, 9, signer)
    assert not noticed(path, trusted=[signer.verifier])
    with pytest.raises(DamagedError, match=r"rewritten|another log"):
        verify(path, [signer.verifier], heads)


def chain_anew(lines, signer=None):
    """A log as an attacker makes it who knows the format."""
    prev, out = records.ORIGIN, []
    for n, line in enumerate(lines):
        record = {**json.loads(line), "n": n, "prev": prev}
        record["sum"] = records.sum_of(record)
        prev = record["sum"]
        out.append(records.line_of(record))
    return b"".join(out)


def test_a_log_chained_anew_without_the_key_does_not_pass(path, signer):
    fill(path, 3, signer)
    lines = path.read_bytes().splitlines()
    lines[2] = lines[2].replace(b'"ok"', b'"failed"')
    path.write_bytes(chain_anew(lines))
    assert not noticed(path)  # the chain alone binds nobody
    with pytest.raises(DamagedError, match="wrong signature"):
        verify(path, [signer.verifier])
    path.write_bytes(chain_anew([x for x in lines if b'"head"' not in x]))
    with pytest.raises(DamagedError, match="no head signed by a trusted key"):
        verify(path, [signer.verifier])


def test_heads_of_others_and_unsigned_ones_are_not_trusted(path, tmp_path, signer):
    other = Signer(mldsa.MLDSA44PrivateKey.generate())
    fill(path, 1, other, heads=tmp_path / "h")
    assert verify(path, [other.verifier]).signed_to == 2
    with pytest.raises(DamagedError, match="not trusted"):
        verify(path, [signer.verifier])
    verify(path, [signer.verifier, other.verifier], read_heads(tmp_path / "h"))
    plain = tmp_path / "plain"
    fill(plain, 1, heads=tmp_path / "unsigned")
    verify(plain, heads=read_heads(tmp_path / "unsigned"))
    with pytest.raises(DamagedError, match="is unsigned"):
        verify(plain, [signer.verifier], read_heads(tmp_path / "unsigned"))


def test_every_so_many_records_a_head(path, signer):
    with AuditLog.open(path, signer, every=3, sync=False) as log:
        for _ in range(7):
            log.record("login", actor="uid:0", outcome="ok")
        log.head()
    assert verify(path, [signer.verifier]).heads == 3


@pytest.mark.parametrize("piece", [b"x", b"\0" * 4096, b'{"action":"de', b"\xff" * 70_000])
def test_a_torn_last_line_is_reported_and_the_log_goes_on(path, signer, piece):
    fill(path, 2, signer)
    with open(path, "ab") as file:
        file.write(piece)
    assert verify(path).unfinished == len(piece)
    fill(path, 2, signer)
    report = verify(path, [signer.verifier])
    assert (report.torn, report.unfinished, report.events) == (1, 0, 4)
    whole = path.read_bytes()
    at = whole.index(piece)
    for change in (b"", b"y" + piece[1:], piece + b"z"):
        path.write_bytes(whole[:at] + change + whole[at + len(piece) :])
        assert noticed(path)


def test_a_line_that_only_lacks_its_end_is_taken(path, signer):
    fill(path, 2, signer)
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(path).unfinished
    fill(path, 1, signer)
    report = verify(path, [signer.verifier])
    assert (report.torn, report.events) == (0, 3)


def test_cut_at_every_byte_the_log_goes_on(path, signer):
    fill(path, 2, signer)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in [*range(0, first, 29), *range(first, len(whole), 13)]:
        path.write_bytes(whole[:end])
        fill(path, 1)
        assert verify(path).unfinished == 0, end


def test_a_damaged_end_is_not_written_behind(path, signer):
    fill(path, 2, signer)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10] + b"X" + whole[-9:])
    with pytest.raises(DamagedError, match="keep it, and name another file"):
        AuditLog.open(path)
    path.write_bytes(b"this is no log\n")
    with pytest.raises(DamagedError, match="keep it"):
        AuditLog.open(path)
    path.write_bytes(b"secret key")
    with pytest.raises(DamagedError, match="no audit log"):
        AuditLog.open(path)
    assert path.read_bytes() == b"secret key"


def test_rotation_carries_the_chain_on(path, tmp_path, signer):
    fill(path, 900, signer, limit=65536, heads=tmp_path / "heads")
    files = part_files(path)
    assert len(files) > 3
    assert all(os.path.getsize(f) < 70_000 and os.stat(f).st_mode & 0o777 == 0o600 for f in files)
    heads = read_heads(tmp_path / "heads")
    report = verify(path, [signer.verifier], heads)
    assert (report.events, report.parts) == (900, len(files))
    assert [e["details"]["done"] for e in read(path)] == list(range(900))
    os.rename(files[1], tmp_path / "kept")
    assert noticed(path)
    os.rename(tmp_path / "kept", files[1])
    for name in files[:2]:  # the oldest may be kept elsewhere
        os.unlink(name)
    report = verify(path, [signer.verifier], heads)
    assert report.first > 0
    assert report.heads_before > 0


def test_the_number_told_is_the_one_that_stands_in_the_log(path, signer):
    with AuditLog.open(path, signer, every=10**6, sync=False, limit=65536) as log:
        told = [log.record("read", actor="uid:1", outcome="ok") for _ in range(400)]
    assert len(part_files(path)) > 1
    assert told == [event["n"] for event in read(path)]


def test_power_fails_between_two_files(path, signer):
    fill(path, 300, signer, limit=65536)
    aside, count = part_files(path)[0], verify(path).last
    assert count
    os.rename(path, path.with_name("audit.log.000002"))
    fill(path, 1, signer)
    assert verify(path, [signer.verifier]).events == 301
    os.truncate(path, 50)
    fill(path, 1, signer)
    assert verify(path, [signer.verifier]).events == 301
    assert os.path.exists(aside)


def test_several_processes_write_one_log(path, tmp_path):
    program = (
        "import sys\nfrom dicomcrypt.audit import AuditLog\n"
        "with AuditLog.open(sys.argv[1], heads=sys.argv[2], every=7, sync=False,"
        " limit=65536) as log:\n"
        "    for n in range(150):\n"
        "        log.record('read', actor='uid:' + sys.argv[3], outcome='ok',"
        " details={'number': n})\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, path, tmp_path / "heads", str(n)])
               for n in range(3)]
    with AuditLog.open(path, sync=False) as log:
        threads = [threading.Thread(target=lambda: [
            log.record("store", actor="uid:9", outcome="ok") for _ in range(40)])
            for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [process.wait(60) for process in running] == [0, 0, 0]
    report = verify(path, heads=read_heads(tmp_path / "heads"))
    assert report.events == 3 * 150 + 80
    found = list(read(path))
    for n in range(3):
        assert [e["details"]["number"] for e in found if e["actor"] == f"uid:{n}"] == list(
            range(150))


def test_a_full_disk_leaves_nothing_of_a_record(path, monkeypatch):
    fill(path)
    before = path.read_bytes()
    log = AuditLog.open(path, sync=False)
    write = os.write
    monkeypatch.setattr(writing.os, "write", lambda fd, data: write(fd, data[:40]))
    with pytest.raises(DiskFullError, match="no room for the audit log"):
        log.record("read", actor="uid:1", outcome="ok")
    assert path.read_bytes() == before
    monkeypatch.undo()
    log.record("read", actor="uid:1", outcome="ok")
    assert verify(path).events == 4


def test_a_link_is_not_followed(path, tmp_path):
    (tmp_path / "other").write_bytes(b"")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"."):
        AuditLog.open(path)


@pytest.mark.parametrize("change", [
    {"action": "Doe^John"}, {"action": "read me"}, {"actor": "Doe^John"}, {"actor": "john"},
    {"actor": "vault"}, {"actor": "uid:john"}, {"actor": "service:john"}, {"actor": None},
    {"outcome": "John"}, {"objects": ["john"]}, {"objects": ["CT1.dcm"]}, {"objects": [7]},
    {"objects": [b"short"]}, {"objects": [OBJECT] * 65}, {"objects": [OBJECT.upper()]},
    {"details": {"name": "Doe"}}, {"details": {"done": "Doe"}}, {"details": {"done": -1}},
    {"details": {"done": True}}, {"details": {"done": 1.5}}, {"details": {"done": 1 << 63}},
    {"details": {"job": "Doe^John"}}, {"details": {"reason": "Doe"}}, {"details": {"role": 1}},
    {"details": {1: 1}}, {"details": {"serial": "a"}}, {"details": {"done": float("nan")}},
])  # fmt: skip
def test_what_is_not_in_the_vocabulary_does_not_get_in_nor_into_the_message(path, change):
    with AuditLog.open(path, sync=False) as log:
        before = path.read_bytes()
        event = {"action": "read", "actor": "uid:1", "outcome": "ok", **change}
        with pytest.raises(UsageError) as caught:
            log.record(**event)
        assert path.read_bytes() == before
    assert "doe" not in str(caught.value).lower()
    assert "john" not in str(caught.value).lower()


def test_actors():
    assert present_actor().startswith(("uid:", "user:"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture],
          deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["encrypt", "table.unlock", "share"]),
                          st.lists(st.binary(min_size=16, max_size=16), max_size=4),
                          st.integers(0, (1 << 63) - 1)), max_size=6),
       st.randoms(use_true_random=False))
def test_any_events_come_back_and_any_other_bytes_are_noticed(tmp_path, events, random):
    path = tmp_path / os.urandom(8).hex()
    with AuditLog.open(path, sync=False) as log:
        for action, objects, number in events:
            log.record(action, actor="service:vault", objects=objects, outcome="refused",
                       details={"number": number, "reason": "expired"})
    assert [(e["action"], e["objects"], e["details"]["number"]) for e in read(path)] == [
        (a, [o.hex() for o in objects], n) for a, objects, n in events]
    whole = path.read_bytes()
    for _ in range(5):
        start = random.randrange(len(whole))
        end = random.randrange(start, len(whole))
        put = random.randbytes(random.randrange(20))
        changed = whole[:start] + put + whole[end:]
        if not whole.startswith(changed):  # what is only cut off is seen against heads
            path.write_bytes(changed)
            assert noticed(path)


@pytest.mark.parametrize("data", [b"", b"\n", b"[" * 100_000 + b"\n", b"\0" * (3 << 20),
                                  b"{}\n", b'{"kind":[]}\n', b"9" * 20_000 + b"\n",
                                  b'{"kind":"event","n":' + b"9" * 9000 + b"}\n"])
def test_garbage_is_refused(path, data):
    path.write_bytes(data)
    assert noticed(path)
    with pytest.raises(UsageError, match="no audit log"):
        verify(path.with_name("none"))


def test_heads_files(path, tmp_path, signer):
    elsewhere = tmp_path / "heads"
    fill(path, 1, signer, heads=elsewhere)
    whole = elsewhere.read_bytes()
    elsewhere.write_bytes(whole[:50])  # power failed
    fill(path, 1, signer, heads=elsewhere)
    assert len(read_heads(elsewhere)) == 1
    verify(path, [signer.verifier], read_heads(elsewhere))
    elsewhere.write_bytes(whole.replace(b'"n":2', b'"n":3'))
    with pytest.raises(DamagedError, match="line 1"):
        read_heads(elsewhere)
    elsewhere.write_bytes(path.read_bytes())
    with pytest.raises(DamagedError, match="no head"):
        read_heads(elsewhere)
    with pytest.raises(UsageError, match="cannot read"):
        read_heads(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"no head\n", b"\n\n", b'{"at":"2027'])
def test_a_file_without_heads_proves_nothing(tmp_path, content):
    (tmp_path / "heads").write_bytes(content)
    with pytest.raises(DamagedError):
        read_heads(tmp_path / "heads")


def test_pipes_and_devices_are_not_waited_for(path, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    fill(path, 1)
    for name in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(UsageError, match="not a regular file"):
            read_heads(name)
    with pytest.raises(UsageError, match="not a regular file"):
        verify(tmp_path / "pipe")
    with pytest.raises((OSError, UsageError)):
        AuditLog.open(tmp_path / "pipe")


def test_heads_that_cannot_be_written_are_told_before_anything_is_done(path, tmp_path):
    with pytest.raises(OSError, match="heads of the audit log") as caught:
        AuditLog.open(path, heads=tmp_path / "none/heads")
    assert caught.value.filename == os.fspath(tmp_path / "none/heads")
    with pytest.raises(UsageError, match="heads of the audit log"):
        AuditLog.open(path, heads="/dev/null")


def test_a_log_that_others_may_write_is_refused(path):
    fill(path, 1)
    path.chmod(0o620)
    with pytest.raises(UsageError, match="written by others"):
        AuditLog.open(path)
