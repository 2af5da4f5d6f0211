"""The clinic's servers, as processes: two directories, a mail server, a register."""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import subprocess
import sys
import time
import types
from collections.abc import Iterator

import slapd
from cryptography.hazmat.primitives.serialization import Encoding
from practice import ANNA, MAX, PAUL, Clinic, clinic, tls_pem, write_p12

import dicomcrypt
from dicomcrypt.pki.files import pem
from tests.conftest import need, require_module

PACKAGE = pathlib.Path(dicomcrypt.__file__).resolve().parents[1]
EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "clinic"
PASSPHRASE = "the patient's own"  # noqa: S105

TEMPLATE = """\
valid_days = 14
[patient]
name = "Muster"
first_name = "Max"
birth_date = 1970-02-01
email = "max@home.test"
[doctor]
name = "Arzt"
first_name = "Anna"
email = "anna@clinic.test"
[pharmacy]
name = "Löwen-Apotheke"
email = "loewe@pharmacy.test"
[[medication]]
text = "Ibuprofen 600 mg"
dosage = "1-0-1 after meals"
quantity = 20
unit = "tablets"
[reference]
study = "1.2.840.113619.2.1"
"""


def _der(value) -> str:
    return base64.b64encode(value.public_bytes(Encoding.DER)).decode()


def person(base: str, mail: str, name: str, *certificates) -> str:
    first, last = name.split()
    return (f"dn: mail={mail},{base}\nobjectClass: inetOrgPerson\nmail: {mail}\ncn: {name}\n"
            f"sn: {last}\ngivenName: {first}\n"
            + "".join(f"userCertificate;binary:: {_der(c)}\n" for c in certificates) + "\n")


def authority(base: str, maker, crl) -> str:
    return (f"dn: cn=ca,{base}\nobjectClass: organizationalRole\nobjectClass: pkiCA\ncn: ca\n"
            f"cACertificate;binary:: {_der(maker.certificate)}\n"
            f"certificateRevocationList;binary:: {_der(crl)}\n\n")


def start(*words, config: str = "", **options) -> subprocess.Popen:
    """Start a command as a process."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "DICOMCRYPT_CONFIG": config,
                   "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dicomcrypt", "prescription", *map(str, words)], env=environment,
        stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, **options,
    )


def stop(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def mail_server(folder: pathlib.Path, maildir: pathlib.Path, pem_file: str) -> Iterator[int]:
    port_file = folder / f"smtp-{os.urandom(4).hex()}"
    process = subprocess.Popen([sys.executable, EXAMPLE / "mail_server.py", maildir, pem_file,
                                port_file])
    try:
        end = time.monotonic() + 60
        while not port_file.exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        yield int(port_file.read_text())
    finally:
        process.kill()
        process.wait()


def require_servers() -> None:
    """Skip where `running` cannot be, naming the package."""
    require_module("fhir", "prescription")
    require_module("pyasn1_modules", "ldap")
    require_module("aiosmtpd", "test")
    if slapd.find_slapd() is None:
        need("slapd", "slapd")


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[types.SimpleNamespace]:
    """Everything that runs, and the files of everybody: NAME.p12, NAME.crt, NAME.pem for TLS."""
    c: Clinic = clinic()
    w = types.SimpleNamespace(clinic=c, folder=folder, maildir=folder / "Maildir")
    for name in ("anna", "paul", "rita", "moritz"):
        write_p12(folder, name, getattr(c, name))
    write_p12(folder, "max", c.max, PASSPHRASE)
    (folder / "max.pass").write_text(PASSPHRASE + "\n")
    (folder / "rx.toml").write_text(TEMPLATE)
    for name, use in (("register", "tls-server"), ("directory", "tls-server"),
                      ("mail", "tls-server"), ("agent", "tls-server"), ("shop", "tls-client"),
                      ("praxis", "tls-client")):
        (folder / f"{name}.pem").write_bytes(tls_pem(c.machine(name, use)))
        (folder / f"{name}.pem").chmod(0o600)
    root_crl, doctors_crl, people_crl = c.lists()
    (folder / "root.crl").write_bytes(root_crl.public_bytes(Encoding.PEM))
    (folder / "root.crt").write_bytes(pem([c.root.certificate]))
    (folder / "between.crt").write_bytes(pem([c.doctors.certificate, c.people.certificate]))
    (folder / "all.crt").write_bytes(pem([c.root.certificate, c.people.certificate]))
    (folder / "people.crl").write_bytes(people_crl.public_bytes(Encoding.PEM))
    one, two = "dc=doctors,dc=test", "dc=people,dc=test"
    with (
        slapd.serve(folder / "one", one, ldif=person(one, ANNA, "Anna Arzt", c.anna.certificate)
                    + authority(one, c.doctors, doctors_crl)) as w.one,
        slapd.serve(folder / "two", two, pem=tls_pem(c.machine("directory", "tls-server")),
                    ldif=person(two, PAUL, "Paul Pille", c.paul.certificate)
                    + person(two, MAX, "Max Muster", c.max.certificate)
                    + authority(two, c.people, people_crl)) as w.two,
        mail_server(folder, w.maildir, str(folder / "mail.pem")) as w.smtp,
    ):
        w.config = configuration(w, "config.toml", w.one.url, w.two.tls_url)
        register = start("register", "serve", "--listen", "127.0.0.1:0", "--database",
                         folder / "register.sqlite", "--tls-identity", folder / "register.pem",
                         config=w.config)
        try:
            line = register.stdout.readline()
            assert line.startswith("register at "), line + register.stdout.read()
            w.register = line.split()[-1]
            yield w
        finally:
            stop(register)


def configuration(w, name: str, one: str, two: str) -> str:
    """Write a configuration with the directories at these addresses; returns its path."""
    path = w.folder / name
    path.write_text(
        '[trust]\nroots = ["root.crt"]\nintermediates = ["between.crt"]\n'
        'crls = ["root.crl", "people.crl"]\nrequire_crl = true\n[directory_cache]\npath = ""\n'
        f'[directories.doctors]\nurl = "{one}"\nbase = "{w.one.suffix}"\n'
        f'[directories.people]\nurl = "{two}"\nbase = "{w.two.suffix}"\nca = "all.crt"\n')
    return str(path)
