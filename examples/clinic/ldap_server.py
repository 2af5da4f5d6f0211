"""A real LDAP directory: slapd of OpenLDAP, on free ports of loopback, as whoever starts it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import subprocess
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
