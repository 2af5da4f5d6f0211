"""A DICOM storage SCP that encrypts what it receives while it receives it.

Every fragment of a data set goes from the network into a `dicomcrypt.ObjectWriter`, and from
there sealed into a file that has a temporary name until it is whole. No plaintext touches a
disk, and no data set is held in memory. Files have random names: SOP instance UIDs identify
patients, and peers choose them. What is sent twice is stored twice.

How it takes the fragments: pynetdicom hands each P-DATA to `receive_primitive` of the
association's `dimse` provider, and writes what it holds into `DIMSEMessage.data_set`, a BytesIO.
`EncryptingDimse` stands in for that provider from the moment the connection opens; it
puts an `Incoming` there, whose `write` encrypts, and answers when the last fragment was taken.

    python examples/cstore_receiver.py --port 11112 --aet DICOMCRYPT -r doctor.pub -o safe/
    storescu -aec DICOMCRYPT localhost 11112 ct.dcm
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import logging
import os
import pathlib
import re
import select
import signal
import ssl
import struct
import sys
import threading

from pynetdicom import AE, PYNETDICOM_IMPLEMENTATION_UID, _config, evt
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AssociationSocket

import dicomcrypt as dc
from dicomcrypt.objects.atomic import AtomicFile, remove_unfinished
from dicomcrypt.pki.checking import Trust
from dicomcrypt.standard.tls import server_context

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
MAX_PDU = 128 * 1024
#: What a peer may make us hold: a PDU (association requests are the longest), a command, and
#: C-ECHO requests that wait for their turn.
MAX_ANY_PDU, MAX_COMMAND, MAX_WAITING = 1 << 20, 16 * 1024, 8
UID = re.compile(r"[0-9.]{1,64}")
LOG = logging.getLogger("cstore_receiver")


def response(sop_class: str, sop_instance: str, number: int, status: int) -> bytes:
    """Return the command set of the C-STORE-RSP to message `number` (PS3.7 section 9.3.1.2)."""
    body = b""
    for element, value in (
        (0x0002, sop_class), (0x0100, 0x8001), (0x0120, number), (0x0800, 0x0101),
        (0x0900, status), (0x1000, sop_instance),
    ):  # fmt: skip
        data = struct.pack("<H", value) if isinstance(value, int) else even(value)
        body += struct.pack("<HHI", 0, element, len(data)) + data
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def even(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def file_start(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Return preamble, prefix and file meta information (PS3.10 section 7.1)."""
    group = struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1")
    for element, uid in (
        (0x02, sop_class), (0x03, sop_instance), (0x10, transfer_syntax),
        (0x12, PYNETDICOM_IMPLEMENTATION_UID),
    ):  # fmt: skip
        value = even(uid)
        group += struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group


class Incoming(io.BytesIO):
    """The data set of one message: what pynetdicom writes into it is encrypted at once.

    A failure of the disk ends in a status and not in an error: the association goes on.
    """

    def __init__(self, provider: EncryptingDimse, message: DIMSEMessage) -> None:
        super().__init__()
        self._provider, self._message = provider, message
        self._stack = contextlib.ExitStack()  # holds the unfinished file
        self._lock = threading.Lock()
        self._writer: dc.ObjectWriter | None = None
        self._status: int | None = None
        #: SOP class and instance UID, message ID; set when the first fragment has come.
        self.request: tuple[str, str, int] | None = None

    def write(self, fragment) -> int:
        with self._lock:
            if self._status is None:
                with self._failures():
                    if self._writer is None:
                        self._begin()
                    self._writer.write(fragment)
        return len(fragment)

    def finish(self) -> int:
        """Give the object its name; return the status of the C-STORE-RSP."""
        with self._lock:
            if self._status is None:
                with self._failures():
                    size = self._writer.close()
                    self._file.commit()
                    self._end(SUCCESS)
                    LOG.info("stored %s, %d bytes", os.path.basename(self._file.path), size)
            return self._status

    def discard(self) -> None:
        """Remove what is not finished, because the association is."""
        with self._lock:
            if self._status is None:
                self._end(CANNOT_UNDERSTAND)
                if self._writer is not None:
                    LOG.warning("the association ended within a data set: removed what had come")

    @contextlib.contextmanager
    def _failures(self):
        try:
            yield
        except OSError as error:
            self._end(OUT_OF_RESOURCES)
            LOG.error("cannot store: %s", error.strerror)
        except BaseException:
            self._end(CANNOT_UNDERSTAND)
            raise

    def _begin(self) -> None:
        message = self._message
        if not isinstance(message, C_STORE_RQ):
            raise ValueError("a data set without a C-STORE request")
        command = message.command_set
        uids = str(command.AffectedSOPClassUID), str(command.AffectedSOPInstanceUID)
        if not all(map(UID.fullmatch, uids)):
            raise ValueError("an invalid UID")
        self.request = *uids, int(command.MessageID)
        syntax = self._provider.transfer_syntaxes[message.context_id]
        name = os.urandom(16).hex() + ".dcmx"
        store = self._provider.store
        self._file = self._stack.enter_context(AtomicFile(store.folder / name, sync=store.sync))
        self._writer = dc.ObjectWriter(self._file.raw, batch=self._provider.batch)
        self._writer.write(file_start(*uids, syntax))

    def _end(self, status: int) -> None:
        self._status = status
        self._stack.close()


class EncryptingDimse(DIMSEServiceProvider):
    """An association's DIMSE provider that holds neither data sets nor anything without end."""

    def __init__(self, assoc, store: Store) -> None:
        super().__init__(assoc)
        self.store = store
        #: An association is a batch: one public-key operation a recipient.
        self.batch = dc.Batch(store.recipients)

    @functools.cached_property
    def transfer_syntaxes(self) -> dict[int, str]:
        return {cx.context_id: cx.transfer_syntax[0] for cx in self.assoc.accepted_contexts}

    def receive_primitive(self, primitive) -> None:
        """Take one P-DATA; whatever is wrong with it aborts the association."""
        try:
            self._receive(primitive)
        except Exception as error:
            LOG.warning("aborting an association: %s in a message", type(error).__name__)
            self.discard()
            self.dul.event_queue.put("Evt19")  # an invalid PDU

    def _receive(self, primitive) -> None:
        message = self.message
        if message is None:
            message = self.message = DIMSEMessage()
            message.data_set = Incoming(self, message)
        commands = [data[0] & 1 for _, data in primitive.presentation_data_value_list]
        if not commands or (message.context_id is not None and any(commands)):
            raise ValueError("no fragment, or a second command")
        complete = message.decode_msg(primitive, self.assoc)
        if message.encoded_command_set.tell() > MAX_COMMAND:
            raise ValueError("a command without end")
        if not complete:
            return
        self.message = None
        if isinstance(message, C_STORE_RQ) and message.data_set.request is not None:
            # Here and not in the association's thread: the next request waits in the network.
            status = message.data_set.finish()
            answer = P_DATA()
            body = b"\3" + response(*message.data_set.request, status)
            answer.presentation_data_value_list.append((message.context_id, body))
            self.dul.send_pdu(answer)
        elif isinstance(message, C_ECHO_RQ) and self.msg_queue.qsize() < MAX_WAITING:
            self.msg_queue.put((message.context_id, message.message_to_primitive()))
        else:
            raise ValueError("no request that is served here")

    def discard(self) -> None:
        """Remove the object that is being received, if there is one."""
        message = self.message
        if message is not None:
            message.data_set.discard()


class Connection(AssociationSocket):
    """Bounds what it reads, and waits for it instead of asking every millisecond."""

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > MAX_ANY_PDU:
            raise OSError("a PDU that is longer than any we take")
        data = bytearray(nr_bytes)
        at = 0
        with memoryview(data) as view:
            while at < nr_bytes:
                got = self.socket.recv_into(view[at:])
                if not got:
                    break
                at += got
        return data[:at] if at < nr_bytes else data

    @property
    def ready(self) -> bool:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # it is closed
            if not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
                select.select([self.socket], [], [], 0.005)
        return super().ready


class Store:
    """What the associations share: the folder, the recipients, and the handlers of events."""

    def __init__(
        self, folder: pathlib.Path, recipients: list, *, sync: bool = True, timeout: float = 60
    ) -> None:
        self.folder, self.recipients, self.sync = folder, recipients, sync
        self.timeout = timeout

    def handlers(self) -> list[tuple]:
        ends = (evt.EVT_CONN_CLOSE, evt.EVT_ABORTED, evt.EVT_RELEASED)
        return [
            (evt.EVT_CONN_OPEN, self._opened),
            *((end, self._ended) for end in ends),
        ]

    def _opened(self, event) -> None:
        assoc = event.assoc
        assoc.dimse = EncryptingDimse(assoc, self)
        connection = assoc.dul.socket
        connection.socket.settimeout(self.timeout)  # for a peer that stops within a PDU
        connection.__class__ = Connection

    def _ended(self, event) -> None:
        if isinstance(event.assoc.dimse, EncryptingDimse):
            event.assoc.dimse.discard()


def tls_context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """What the BCP 195 profile of PS3.15 B.12 has, and the handshake in the association's thread:
    pynetdicom would do it where it accepts connections, so that one silent peer would shut out
    all others."""
    if arguments.tls_cert is None:
        return None
    trust = None
    if arguments.tls_ca is not None:
        told, given = Trust.from_config(), Trust.from_files([arguments.tls_ca])
        trust = Trust(told.roots + given.roots, told.intermediates, told.crls, told.require_crl)
    return server_context(
        arguments.tls_cert, arguments.tls_key, trust=trust, roles=arguments.tls_role, late=True
    )


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Receive DICOM objects by C-STORE and encrypt them as they come.",
        epilog="example:\n  python examples/cstore_receiver.py --port 11112 --aet DICOMCRYPT "
        "-r doctor.pub -o safe/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS",
                        help="address to listen on; 0.0.0.0 is all of IPv4 (default: %(default)s)")
    parser.add_argument("--port", type=int, default=11112, help="default: %(default)s")
    parser.add_argument("--aet", default="DICOMCRYPT", help="AE title (default: %(default)s)")
    parser.add_argument("-r", "--recipient", action="append", required=True, metavar="FILE",
                        help="who may open the objects; repeatable")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="FOLDER",
                        help="each object becomes a file of a random name; what is sent twice "
                        "is stored twice")
    parser.add_argument("--associations", type=int, default=10, metavar="N",
                        help="how many at a time (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS",
                        help="how long a peer may be silent (default: %(default)s)")
    parser.add_argument("--no-sync", action="store_true",
                        help="answer before an object is on the medium")
    parser.add_argument("--tls-cert", metavar="FILE", help="serve TLS with this certificate")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, if it is not in the same file")
    parser.add_argument("--tls-ca", metavar="FILE",
                        help="take only peers with certificates of it; the own one must be of it, "
                        "or of a root that the configuration trusts")
    parser.add_argument("--tls-role", action="append", metavar="ROLE",
                        help="which role the peers' certificates must state, such as hospital; "
                        "one of them, if repeated")
    arguments = parser.parse_args(words)
    if arguments.tls_cert is None and (arguments.tls_key or arguments.tls_ca):
        parser.error("--tls-key and --tls-ca need --tls-cert")
    if arguments.tls_role and arguments.tls_ca is None:
        parser.error("--tls-role needs --tls-ca")
    return arguments


def main(words: list[str] | None = None) -> int:
    arguments = parse(words)
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    LOG.setLevel(logging.INFO)
    logging.getLogger("pynetdicom").propagate = False  # its messages name patients' data
    # pynetdicom's threads end with an error when both sides abort at once.
    threading.excepthook = lambda end: LOG.warning("a thread ended: %s", end.exc_type.__name__)
    _config.LOG_HANDLER_LEVEL = "none"
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # every storage SOP class, private ones too
    try:
        recipients = [one for path in arguments.recipient for one in dc.load_recipients(path)]
        dc.Batch(recipients)  # refuses now what would be refused at every connection
        arguments.output.mkdir(mode=0o700, parents=True, exist_ok=True)
        context = tls_context(arguments)
        ae = AE(ae_title=arguments.aet)
        ae.maximum_pdu_size = MAX_PDU
        ae.maximum_associations = arguments.associations
        ae.network_timeout = ae.acse_timeout = arguments.timeout
        ae.add_supported_context(Verification)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        store = Store(
            arguments.output, recipients, sync=not arguments.no_sync, timeout=arguments.timeout
        )
        server = ae.start_server(
            (arguments.bind, arguments.port), block=False, ssl_context=context,
            evt_handlers=store.handlers(),
        )  # fmt: skip
    except (dc.DicomcryptError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    LOG.info("listening on %s port %d", *server.server_address[:2])
    try:
        stop.wait()
        LOG.info("stopping")
        ae.shutdown()
    finally:
        remove_unfinished()
    return 0


if __name__ == "__main__":
    sys.exit(main())
