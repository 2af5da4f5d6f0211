"""examples/cstore_receiver.py against dcmtk's storescu, pynetdicom, and peers that mean harm."""

import contextlib
import datetime
import io
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import dicomcrypt as dc
from dicomcrypt.keys import keyfile
from tests.conftest import need, require_module

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECEIVER = ROOT / "examples" / "cstore_receiver.py"
PACKAGE = pathlib.Path(dc.__file__).resolve().parents[1]
# The threads of pynetdicom's requestor, when both sides end an association at once.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
IDENTITY = dc.Identity.generate()
MEMORY = 60  # MiB that a data set of any size may add
#: storescu's option for each kind of file: propose its transfer syntax and no other.
SYNTAXES = {
    "CT_small.dcm": "-xe", "MR_small_bigendian.dcm": "-xb", "MR_small_implicit.dcm": "-xi",
    "JPEG-lossy.dcm": "-xx", "SC_rgb_jpeg_dcmtk.dcm": "-xy", "JPEG-LL.dcm": "-xs",
    "JPEG2000.dcm": "-xw", "MR_small_jpeg_ls_lossless.dcm": "-xt", "MR_small_RLE.dcm": "-xr",
    "examples_ybr_color.dcm": "-xy", "emri_small_jpeg_2k_lossless.dcm": "-xv",
}  # fmt: skip


@pytest.fixture(autouse=True)
def gateway():
    require_module("pynetdicom", "gateway")


def dcmtk(name):
    """The path of a program of dcmtk: pynetdicom brings others of these names."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            told = subprocess.run([path, "--version"], check=False, capture_output=True)
            if b"dcmtk" in told.stdout:
                return path
    return need(f"dcmtk-{name}", "dcmtk")


class Receiver:
    """The example as a process of its own, on a port that was free."""

    def __init__(self, folder, *options, limit=None):
        folder.mkdir()
        (folder / "doctor.pub").write_text(keyfile.recipient_text(IDENTITY.recipient))
        self.safe, self._log, self.temporary = (folder / n for n in ("safe", "log", "temporary"))
        self.temporary.mkdir()
        words = [sys.executable, RECEIVER, "--port", "0", "-r", folder / "doctor.pub", "-o",
                 self.safe, "--no-sync", *options]  # fmt: skip
        if limit is not None:  # bytes that a file may have
            words = ["bash", "-c", f'ulimit -f {limit // 1024}; exec "$@"', "bash", *words]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                words, stderr=log, cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1",
                     "TMPDIR": str(self.temporary)},
            )  # fmt: skip
        self.port = int(self.wait(lambda: re.search(r"listening on \S+ port (\d+)", self.log))[1])

    @property
    def log(self):
        return self._log.read_text()

    def wait(self, ready):
        """Return what `ready` gives as soon as it is something."""
        for _ in range(3000):
            found = ready()
            if found:
                return found
            assert self.process.poll() is None, self.log
            time.sleep(0.01)
        raise AssertionError(f"it never came: {self.log}")

    def objects(self):
        return sorted(p for p in self.safe.iterdir() if p.suffix == ".dcmx")

    def parts(self):
        return [p for p in self.safe.iterdir() if p.suffix == ".part"]

    def files(self):
        """The files that were received, decrypted."""
        return [dc.decrypt(path.read_bytes(), [IDENTITY]) for path in self.objects()]

    def peak(self):
        """The most memory that was resident so far, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def receive(tmp_path):
    started = []

    def start(*options, **more):
        started.append(Receiver(tmp_path / f"receiver{len(started)}", *options, **more))
        return started[-1]

    yield start
    for receiver in started:
        assert receiver.stop() == 0, receiver.log
        assert receiver.parts() == []
        assert "Traceback" not in receiver.log


@pytest.fixture
def file_of(corpus):
    return lambda name: next(path for path in corpus if path.name == name)


def data_set(file):
    """The bytes behind the file meta information."""
    (length,) = struct.unpack_from("<I", file, 140)
    return bytes(file[144 + length :])


def send(port, *words):
    """Run dcmtk's storescu without the wait of 40 ms that Nagle's algorithm costs it."""
    return subprocess.run(
        [dcmtk("storescu"), "localhost", str(port), *words], check=False, capture_output=True,
        env={**os.environ, "TCP_NODELAY": "1"}, timeout=100,
    )  # fmt: skip


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def storescp(tmp_path):
    """dcmtk's receiver, which writes down what came bit by bit: (port, folder)."""
    folder, port = tmp_path / "storescp", free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [dcmtk("storescp"), "+B", "+xa", "-od", folder, str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port)):
            break
        time.sleep(0.01)
    yield port, folder
    process.terminate()
    process.wait()


# ---- dcmtk ------------------------------------------------------------------


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_data_set_is_what_dcmtk_receives_of_storescu(name, file_of, receive, storescp):
    receiver, path = receive(), file_of(name)
    port, folder = storescp
    option = ["-R", SYNTAXES[name], path]
    assert send(port, *option).returncode == 0
    done = send(receiver.port, *option)
    assert done.returncode == 0, done.stderr
    (received,), (plain,) = receiver.files(), [p.read_bytes() for p in folder.iterdir()]
    assert data_set(received) == data_set(plain)
    found, told = pydicom.dcmread(io.BytesIO(received)), pydicom.dcmread(path)
    meta = found.file_meta
    assert meta.TransferSyntaxUID == told.file_meta.TransferSyntaxUID
    assert meta.MediaStorageSOPClassUID == told.SOPClassUID
    assert meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == told.SOPInstanceUID
    with dc.open(receiver.objects()[0], [IDENTITY]) as obj:
        assert obj.frame_bytes(0) == dc.open(
            dc.encrypt(plain, [IDENTITY.recipient]), [IDENTITY]
        ).frame_bytes(0)


def variants(path, folder, count):
    """Files of as many instances."""
    folder.mkdir()
    dataset = pydicom.dcmread(path)
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def test_several_associations_at_once_and_the_log_names_nobody(tmp_path, file_of, receive):
    receiver = receive()
    folders = [variants(file_of("CT_small.dcm"), tmp_path / str(n), 12) for n in range(5)]
    words = [dcmtk("storescu"), "localhost", str(receiver.port), "+sd"]
    running = [subprocess.Popen([*words, folder]) for folder in folders]
    assert [process.wait(100) for process in running] == [0] * 5
    sent = {pydicom.dcmread(p).SOPInstanceUID for f in folders for p in f.iterdir()}
    received = [pydicom.dcmread(io.BytesIO(file)) for file in receiver.files()]
    assert {dataset.SOPInstanceUID for dataset in received} == sent
    assert len(received) == 60
    told = receiver.log + " ".join(path.name for path in receiver.objects())
    one = received[0]
    for secret in (*sent, one.PatientName, one.PatientID, one.StudyInstanceUID):
        assert str(secret) not in told


def test_what_is_sent_twice_is_stored_twice(file_of, receive):
    receiver = receive()
    for _ in range(2):
        assert send(receiver.port, file_of("CT_small.dcm")).returncode == 0
    first, second = receiver.files()
    assert first == second


def test_objects_are_for_their_owner_alone(file_of, receive):
    receiver = receive()
    assert send(receiver.port, file_of("CT_small.dcm")).returncode == 0
    assert {path.stat().st_mode & 0o777 for path in receiver.objects()} == {0o600}


# ---- pynetdicom -------------------------------------------------------------


@contextlib.contextmanager
def association(port, **options):
    from pynetdicom import AE

    ae = AE()
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate("127.0.0.1", port, **options)
    assert assoc.is_established
    connection = assoc.dul.socket.socket
    try:
        yield assoc
        if assoc.is_established:
            assoc.release()
    finally:
        connection.close()  # pynetdicom leaves it open if the peer was the first to close


def command(field=1, uid="1.2.3", number=7, has_data=True, extra=b""):
    """The command set of a C-STORE-RQ, or of what `field` says."""
    body = extra
    for element, value in (
        (0x0002, CTImageStorage), (0x0100, field), (0x0110, number), (0x0700, 0),
        (0x0800, 1 if has_data else 0x0101), (0x1000, uid),
    ):  # fmt: skip
        data = struct.pack("<H", value) if isinstance(value, int) else value.encode()
        data += b"\0" * (len(data) % 2)
        body += struct.pack("<HHI", 0, element, len(data)) + data
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def pdu(kind, data, context=1):
    """A P-DATA-TF. kind: 0 data, 1 command, and 2 more if it is the last of its sort."""
    return struct.pack(">BBIIBB", 4, 0, len(data) + 6, len(data) + 2, context, kind) + data


def pixels(size):
    """A data set up to the value of its pixel data."""
    start = b""
    for tag, value in ((0x280002, 1), (0x280010, 1024), (0x280011, 512), (0x280100, 16),
                       (0x280101, 16), (0x280102, 15), (0x280103, 0)):
        start += struct.pack("<HH2sHH", tag >> 16, tag & 0xFFFF, b"US", 2, value)
    frames = str(size >> 20).encode()
    frames += b" " * (len(frames) % 2)
    photometric = struct.pack("<HH2sH", 0x28, 4, b"CS", 12) + b"MONOCHROME2 "
    number = struct.pack("<HH2sH", 0x28, 8, b"IS", len(frames)) + frames
    start = start[:10] + photometric + number + start[10:]
    return start + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, size)


def put(assoc, *pdus):
    """Send bytes past pynetdicom, which would hold them all."""
    for one in pdus:
        assoc.dul.socket.socket.sendall(one)


def status_of_answer(assoc):
    for _ in range(3000):
        _, answer = assoc.dimse.get_msg(block=False)
        if answer is not None:
            return answer.MessageIDBeingRespondedTo, answer.Status
        assert assoc.is_established
        time.sleep(0.01)
    raise AssertionError("no answer")


@contextlib.contextmanager
def raw(port):
    """An association whose answers the test takes itself."""
    with association(port) as assoc:
        assoc._reactor_checkpoint.clear()
        while not assoc._is_paused:
            time.sleep(0.001)
        yield assoc
        assoc._reactor_checkpoint.set()


def store_one(port):
    """Whether a peer that means well is served."""
    with raw(port) as assoc:
        put(assoc, pdu(3, command()), pdu(2, pixels(0)))
        return status_of_answer(assoc) == (7, 0)


def test_a_data_set_of_half_a_gigabyte_in_bounded_memory(receive):
    receiver, frames, block = receive(), 500, os.urandom(1 << 20)
    assert store_one(receiver.port)
    before = receiver.peak()
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(frames << 20)))
        for number in range(frames):
            frame = struct.pack("<Q", number) + block[8:]
            for at in range(0, 1 << 20, 1 << 16):
                last = number == frames - 1 and at == (1 << 20) - (1 << 16)
                put(assoc, pdu(2 if last else 0, frame[at : at + (1 << 16)]))
        assert status_of_answer(assoc) == (7, 0)
    assert receiver.peak() - before < MEMORY
    largest = max(receiver.objects(), key=lambda path: path.stat().st_size)
    with dc.open(largest, [IDENTITY]) as obj:
        assert obj.frame_count == frames
        for number in (0, 123, frames - 1):
            assert obj.frame_bytes(number) == struct.pack("<Q", number) + block[8:]
    largest.unlink()


def test_no_file_holds_plaintext_while_a_data_set_arrives(receive):
    receiver, mark = receive(), os.urandom(64)
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(8 << 20)), *[pdu(0, mark * 900)] * 60)
        receiver.wait(lambda: any(path.stat().st_size > 1 << 20 for path in receiver.parts()))
        held = [p for p in pathlib.Path(f"/proc/{receiver.process.pid}/fd").iterdir()
                if p.is_file()]  # those without a name too
        assert any(path.samefile(receiver.parts()[0]) for path in held)
        assert not any(mark in path.read_bytes() for path in held)
        assert list(receiver.temporary.iterdir()) == []


def test_pynetdicom_sends_what_it_encodes(file_of, receive):
    from pynetdicom.dsutils import encode

    receiver, dataset = receive(), pydicom.dcmread(file_of("CT_small.dcm"))
    expected = encode(dataset, False, True)
    with association(receiver.port) as assoc:
        for _ in range(3):
            assert assoc.send_c_store(dataset).Status == 0
            assert assoc.send_c_echo().Status == 0
    assert [data_set(file) for file in receiver.files()] == [expected] * 3


def test_fragments_in_one_pdu_and_in_many_are_one_data_set(receive):
    receiver, value = receive(), pixels(0)
    with raw(receiver.port) as assoc:
        items = [pdu(1, command()[:20]), pdu(3, command()[20:]),
                 *(pdu(0, value[n : n + 1]) for n in range(len(value) - 1)), pdu(2, value[-1:])]
        whole = b"".join(item[6:] for item in items)
        put(assoc, struct.pack(">BBI", 4, 0, len(whole)) + whole)
        assert status_of_answer(assoc) == (7, 0)
        put(assoc, *items)
        assert status_of_answer(assoc) == (7, 0)
        put(assoc, pdu(3, command()), pdu(0, value), pdu(2, b""))
        assert status_of_answer(assoc) == (7, 0)
    assert [data_set(file) for file in receiver.files()] == [value] * 3


def test_requests_that_do_not_wait_for_answers_are_all_answered(receive):
    receiver = receive()
    with raw(receiver.port) as assoc:
        for number in range(40):
            put(assoc, pdu(3, command(number=number)), pdu(2, pixels(0)))
        assert [status_of_answer(assoc) for _ in range(40)] == [(n, 0) for n in range(40)]
    assert len(receiver.objects()) == 40


# ---- what goes wrong --------------------------------------------------------


@pytest.mark.parametrize("how", ["abort", "close", "release", "signal"])
def test_an_association_that_ends_within_a_data_set_leaves_nothing(how, receive):
    receiver = receive()
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(8 << 20)))
        put(assoc, *[pdu(0, os.urandom(60_000))] * 50)
        receiver.wait(receiver.parts)
        if how == "abort":
            assoc._reactor_checkpoint.set()
            assoc.abort()
        elif how == "close":
            assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        elif how == "release":
            put(assoc, struct.pack(">BBII", 5, 0, 4, 0))
        else:
            assert receiver.stop() == 0
        if how != "signal":
            receiver.wait(lambda: not receiver.parts())
    assert receiver.parts() == receiver.objects() == []
    if how != "signal":
        assert store_one(receiver.port)


@pytest.mark.parametrize("last", [[], [pdu(0, bytes(1000))[:500]], [b"\4"]])
def test_a_peer_that_falls_silent_is_cut_off_and_its_data_set_removed(last, receive):
    receiver = receive("--timeout", "0.5")
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(0, pixels(8 << 20)), pdu(0, bytes(60_000)), *last)
        receiver.wait(receiver.parts)
        receiver.wait(lambda: not receiver.parts())
    assert receiver.objects() == []
    assert store_one(receiver.port)


def test_a_full_disk_is_a_status_and_the_association_goes_on(receive):
    receiver = receive(limit=1 << 20)
    with raw(receiver.port) as assoc:
        for _ in range(2):
            put(assoc, pdu(3, command()), pdu(0, pixels(4 << 20)))
            put(assoc, *[pdu(0, os.urandom(1 << 16))] * 63, pdu(2, os.urandom(1 << 16)))
            assert status_of_answer(assoc) == (7, 0xA700)
            assert receiver.objects() == receiver.parts() == []
        put(assoc, pdu(3, command()), pdu(2, pixels(0)))
        assert status_of_answer(assoc) == (7, 0)
    assert len(receiver.objects()) == 1


def test_a_folder_that_cannot_be_written_is_a_status(receive):
    receiver = receive()
    receiver.safe.rmdir()
    receiver.safe.write_text("in the way")
    with raw(receiver.port) as assoc:
        put(assoc, pdu(3, command()), pdu(2, pixels(0)))
        assert status_of_answer(assoc) == (7, 0xA700)
    receiver.safe.unlink()
    receiver.safe.mkdir()
    assert store_one(receiver.port)


LONG = struct.pack("<HHI", 0, 0x1030, 8 << 10) + bytes(8 << 10)
HOSTILE = {
    "data before the command": [pdu(2, b"data")],
    "a fragment without a byte": [struct.pack(">BBIIB", 4, 0, 5, 1, 1)],
    "a fragment longer than its PDU": [struct.pack(">BBIIBB", 4, 0, 6, 9999, 1, 3)],
    "an empty PDU": [struct.pack(">BBI", 4, 0, 0)],
    "a PDU of 4 GiB": [struct.pack(">BBI", 4, 0, 0xFFFFFFFF), bytes(1 << 21)],
    "an unknown PDU": [struct.pack(">BBI", 99, 0, 10) + bytes(10)],
    "a path as UID": [pdu(3, command(uid="../../../../tmp/x")), pdu(2, pixels(0))],
    "no UID": [pdu(3, command(uid="")), pdu(2, pixels(0))],
    "a UID of 70 digits": [pdu(3, command(uid="1" * 70)), pdu(2, pixels(0))],
    "two UIDs": [pdu(3, command(uid="1.2\\1.3")), pdu(2, pixels(0))],
    "no data set": [pdu(3, command(has_data=False))],
    "a C-FIND": [pdu(3, command(field=0x20)), pdu(2, pixels(0))],
    "an N-EVENT-REPORT": [pdu(3, command(field=0x100)), pdu(2, pixels(0))],
    "an unknown command": [pdu(3, command(field=0x7777))],
    "a command of noise": [pdu(3, bytes(range(256)))],
    "an empty command": [pdu(3, b"")],
    "a command without end": [pdu(1, LONG)] * 40,
    "a command within the data": [
        pdu(3, command()), pdu(0, pixels(100)), pdu(3, command(has_data=False))],
    "a context that was not accepted": [pdu(3, command(), 77), pdu(2, pixels(0), 77)],
}  # fmt: skip


@pytest.mark.parametrize("pdus", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_peer_is_cut_off_and_others_are_served(pdus, receive, tmp_path):
    receiver = receive()
    before = receiver.peak()
    with raw(receiver.port) as assoc:
        with contextlib.suppress(OSError):
            put(assoc, *pdus)
        for _ in range(1000):
            if assoc.dul.state_machine.current_state != "Sta6" or not assoc.dul.is_alive():
                break
            time.sleep(0.01)
        else:
            raise AssertionError("the association goes on")
        assert receiver.peak() - before < MEMORY
        assert receiver.objects() == receiver.parts() == []
    assert store_one(receiver.port)
    assert len(receiver.objects()) == 1
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "log", "doctor.pub", receiver.objects()[0].name}  # fmt: skip


# ---- the command line -------------------------------------------------------


def test_help_has_an_example_and_wrong_calls_say_what_is_wrong(tmp_path):
    def call(*words):
        return subprocess.run(
            [sys.executable, RECEIVER, *words], check=False, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)}, timeout=60,
        )  # fmt: skip

    shown = call("--help")
    assert shown.returncode == 0
    assert "-r doctor.pub -o safe/" in shown.stdout
    for words, status in (
        ((), 2),
        (("-r", tmp_path / "none", "-o", tmp_path / "safe"), 2),
        (("-r", RECEIVER, "-o", tmp_path / "safe"), 2),
        (("-r", RECEIVER, "-o", tmp_path / "safe", "--tls-key", "x"), 2),
    ):
        done = call(*words)
        assert done.returncode == status, done.stderr
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def certificate(folder):
    """A key and a certificate for localhost that signs itself, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + made.public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    return path


def test_it_does_not_start_with_an_invalid_certificate_of_its_own(tmp_path):
    from refusals import chain

    public = tmp_path / "it.pub"
    public.write_text(keyfile.recipient_text(IDENTITY.recipient))
    day = datetime.timedelta(days=1)
    leaf = chain()[1].leaf(uses=["tls-server"], begin=-30 * day, end=-day)
    (tmp_path / "own.pem").write_bytes(leaf.key_pem() + leaf.pem() + leaf.above[0].pem())
    (tmp_path / "ca.pem").write_bytes(leaf.above[1].pem())
    done = subprocess.run(
        [sys.executable, RECEIVER, "--port", "0", "-r", public, "-o", tmp_path / "safe",
         "--tls-cert", tmp_path / "own.pem", "--tls-ca", tmp_path / "ca.pem"],
        check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "not started: own certificate" in done.stderr
    assert "expired on" in done.stderr


def test_storescu_over_tls_with_the_role_that_is_wanted(tmp_path, file_of, receive):
    from certificates import Maker

    root = Maker.root("Root")
    (tmp_path / "ca.pem").write_bytes(root.pem())
    for name, role in (("own", None), ("hospital", "hospital"), ("doctor", "physician")):
        leaf = root.leaf(name, uses=["tls-server", "tls-client"], role=role)
        (tmp_path / f"{name}.pem").write_bytes(leaf.key_pem() + leaf.pem())
    receiver = receive("--tls-cert", tmp_path / "own.pem", "--tls-ca", tmp_path / "ca.pem",
                       "--tls-role", "hospital")
    for name, stored in (("doctor", 0), ("hospital", 1), ("doctor", 1)):
        pem = tmp_path / f"{name}.pem"
        done = send(receiver.port, "+tls", pem, pem, "+cf", tmp_path / "ca.pem",
                    file_of("CT_small.dcm"))
        assert (done.returncode == 0) == (name == "hospital"), done.stderr
        assert len(receiver.files()) == stored


def test_tls_with_certificates_of_both_sides(tmp_path, file_of, receive):
    path = certificate(tmp_path)
    receiver = receive("--tls-cert", path, "--tls-ca", path)
    context = ssl.create_default_context(cafile=path)
    context.check_hostname = False
    context.load_cert_chain(path)
    dataset = pydicom.dcmread(file_of("CT_small.dcm"))
    with association(receiver.port, tls_args=(context, "localhost")) as assoc:
        for _ in range(3):
            assert assoc.send_c_store(dataset).Status == 0
    assert len(receiver.files()) == 3
    assert send(receiver.port, file_of("CT_small.dcm")).returncode != 0
    assert len(receiver.files()) == 3
    with socket.create_connection(("127.0.0.1", receiver.port)):  # and never a word
        with association(receiver.port, tls_args=(context, "localhost")) as assoc:
            assert assoc.send_c_store(dataset).Status == 0
