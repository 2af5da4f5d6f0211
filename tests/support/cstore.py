"""The example's C-STORE receiver as a process, and peers that send to it."""

import contextlib
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import time

from dcmtk import dcmtk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import dicomcrypt as dc
from dicomcrypt.keys import keyfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECEIVER = ROOT / "examples" / "cstore_receiver.py"
PACKAGE = pathlib.Path(dc.__file__).resolve().parents[1]
IDENTITY = dc.Identity.generate()
MEMORY = 60  # MiB that a data set of any size may add


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
        return self.process.wait(100)


def send(port, *words):
    """Run dcmtk's storescu without the wait of 40 ms that Nagle's algorithm costs it."""
    return subprocess.run(
        [dcmtk("storescu"), "localhost", str(port), *words], check=False, capture_output=True,
        env={**os.environ, "TCP_NODELAY": "1"}, timeout=100,
    )  # fmt: skip


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
