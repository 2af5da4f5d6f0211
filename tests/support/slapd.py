"""Directories for tests: real `slapd` servers on loopback, and servers that misbehave.

Every server has a free port of its own, runs as whoever runs the tests, and ends with its
`with` block.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SCHEMA = Path("/etc/ldap/schema")
MODULES = Path("/usr/lib/ldap")

CONFIGURATION = """\
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'dicomcryptAttributeCertificate'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'dicomcryptUser' SUP top AUXILIARY
  MAY dicomcryptAttributeCertificate )
modulepath {modules}
moduleload back_mdb
pidfile {folder}/slapd.pid
sizelimit {sizelimit}
{tls}
database mdb
maxsize 33554432
suffix "{suffix}"
rootdn "cn=admin,{suffix}"
rootpw secret
directory {folder}/db
access to * by * read
"""


@dataclasses.dataclass
class Server:
    """A running slapd: base DN, and its addresses without and with TLS."""

    folder: Path
    suffix: str
    port: int
    tls_port: int
    process: subprocess.Popen

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def admin(self) -> str:
        return f"cn=admin,{self.suffix}"


def find_slapd() -> str | None:
    """Return where slapd is; /usr/sbin need not be on the path."""
    return shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serve(
    folder: Path,
    suffix: str,
    *,
    pem: bytes = b"",
    ldif: str = "",
    sizelimit: int = 500,
) -> Iterator[Server]:
    """Run a slapd with the root entry of suffix ("dc=..."), further entries of ldif, and TLS
    by pem (certificate and key) on a second port."""
    folder.mkdir()
    (folder / "db").mkdir()
    tls = ""
    if pem:
        (folder / "tls.pem").write_bytes(pem)
        tls = f"TLSCertificateFile {folder}/tls.pem\nTLSCertificateKeyFile {folder}/tls.pem"
    configuration = folder / "slapd.conf"
    configuration.write_text(CONFIGURATION.format(
        schema=SCHEMA, modules=MODULES, folder=folder, suffix=suffix, tls=tls,
        sizelimit=sizelimit,
    ))
    name = suffix.split(",")[0].partition("=")[2]
    root = (f"dn: {suffix}\nobjectClass: dcObject\nobjectClass: organization\n"
            f"o: {name}\ndc: {name}\n")
    data = folder / "data.ldif"
    data.write_text(f"{root}\n{ldif}")
    slapd = find_slapd()
    subprocess.run(
        [slapd, "-T", "add", "-q", "-f", configuration, "-l", data], check=True,
        capture_output=True,
    )
    for _ in range(5):  # another program may take the port first
        port, tls_port = free_port(), free_port()
        addresses = f"ldap://127.0.0.1:{port}" + (f" ldaps://127.0.0.1:{tls_port}" if pem else "")
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [slapd, "-f", configuration, "-h", addresses, "-d", "0"], stdout=log, stderr=log
            )
        if _answers(process, port):
            break
    else:
        raise RuntimeError((folder / "log").read_text())
    try:
        yield Server(folder, suffix, port, tls_port, process)
    finally:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen, port: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)
    process.kill()
    process.wait()
    return False


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


@contextlib.contextmanager
def babbling(answer: bytes) -> Iterator[int]:
    """A port that answers whatever it is asked with the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(answer)
                        connection.recv(4096)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forging(values: list[bytes], attribute: str = "userCertificate;binary") -> Iterator[int]:
    """A port that answers every search with one entry that has these values: what a real
    directory's schema would not let in."""
    from pyasn1.codec.ber import decoder, encoder
    from pyasn1_modules import rfc2251

    def message(number: int, kind: str) -> rfc2251.LDAPMessage:
        made = rfc2251.LDAPMessage()
        made["messageID"] = number
        if kind == "searchResDone":
            done = made["protocolOp"][kind]
            done["resultCode"], done["matchedDN"], done["errorMessage"] = 0, b"", b""
        return made

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        asked, _ = decoder.decode(connection.recv(4096),
                                                  asn1Spec=rfc2251.LDAPMessage())
                        number = int(asked["messageID"])
                        entry = message(number, "searchResEntry")
                        body = entry["protocolOp"]["searchResEntry"]
                        body["objectName"] = b"cn=somebody"
                        body["attributes"][0]["type"] = attribute.encode()
                        for position, value in enumerate(values):
                            body["attributes"][0]["vals"][position] = value
                        connection.sendall(encoder.encode(entry))
                        connection.sendall(encoder.encode(message(number, "searchResDone")))
                        connection.recv(4096)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
