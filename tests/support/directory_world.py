"""The directories of the tests: real servers, and what is in them."""

import base64
import socket
import types

import authority as ca
import pytest
import slapd

from dicomcrypt.pki import directory as dr
from tests.conftest import need, require_module

ADA = "ada@hospital.test"


def entry(base, mail, name, *certificates, extra=""):
    values = "".join(f"userCertificate;binary:: {base64.b64encode(ca.der(c)).decode()}\n"
                     for c in certificates)
    return (f"dn: mail={mail},{base}\nobjectClass: inetOrgPerson\nmail: {mail}\ncn: {name}\n"
            f"sn: {name.split()[-1]}\ngivenName: {name.split()[0]}\n{extra}{values}\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five real servers: two that are good, two whose TLS certificates have another name or
    have expired, one that lies."""
    require_module("pyasn1_modules", "ldap")
    if slapd.find_slapd() is None:
        need("slapd", "slapd")
    folder = tmp_path_factory.mktemp("world")
    w = types.SimpleNamespace(folder=folder)
    w.authority, tls, foreign = (ca.Authority(n) for n in ("Trust 1", "TLS", "Foreign"))
    w.ada = w.authority.issue("Ada Lovelace", email=ADA, first="Ada", last="Lovelace")
    w.ada_old = w.authority.issue("Ada Lovelace", email=ADA)
    w.bob = w.authority.issue("Bob Young", email="bob@hospital.test")
    w.mallory = w.authority.issue("Mallory", email="mallory@evil.test")
    w.forged = foreign.issue("Ada Lovelace", email=ADA)
    w.crl = w.authority.crl(w.bob.serial_number)
    w.ca, w.foreign_ca = str(folder / "ca.pem"), str(folder / "foreign.pem")
    (folder / "ca.pem").write_bytes(ca.pem(tls.certificate))
    (folder / "ca.pem").chmod(0o600)  # one test takes it for a password file
    (folder / "foreign.pem").write_bytes(ca.pem(foreign.certificate))
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    w.password = str(folder / "password")
    one, two, liar = (f"dc={n},dc=test" for n in ("trust1", "trust2", "liar"))

    def text(value):
        return base64.b64encode(ca.der(value)).decode()

    pki = (f"dn: cn=Trust 1,{one}\nobjectClass: organizationalRole\nobjectClass: pkiCA\n"
           f"cn: Trust 1\ncACertificate;binary:: {text(w.authority.certificate)}\n"
           f"certificateRevocationList;binary:: {text(w.crl)}\n\n")
    with (
        socket.create_server(("127.0.0.1", 0)) as w.trap,
        slapd.serve(folder / "one", one, pem=tls.server("127.0.0.1"),
                    ldif=entry(one, ADA, "Ada Lovelace", w.ada) + pki) as w.one,
        slapd.serve(folder / "two", two, ldif=entry(two, ADA, "Ada Lovelace", w.ada_old)
                    + entry(two, "bob@hospital.test", "Bob Young", w.bob)
                    + f"dn: cn=elsewhere,{two}\nobjectClass: referral\n"
                      f"objectClass: extensibleObject\ncn: elsewhere\n"
                      f"ref: ldap://127.0.0.1:{w.trap.getsockname()[1]}/dc=trap\n\n") as w.two,
        slapd.serve(folder / "name", one, pem=tls.server("127.0.0.2")) as w.wrong_name,
        slapd.serve(folder / "expired", one, pem=tls.server(
            "127.0.0.1", start=-2 * ca.HOUR, end=-ca.HOUR)) as w.expired,
        slapd.serve(folder / "liar", liar, ldif=entry(liar, ADA, "Ada Lovelace", w.mallory)
                    ) as w.liar,
    ):
        yield w


def directory(server, name="one", **more):
    return dr.Directory(name, server.url, server.suffix, **{"timeout": 60.0, **more})


def secure(world, name="one", **more):
    return dr.Directory(name, world.one.tls_url, world.one.suffix,
                        **{"ca": world.ca, "timeout": 60.0, **more})


def at(port, name, scheme="ldap", **more):
    return dr.Directory(name, f"{scheme}://127.0.0.1:{port}", "dc=x",
                        **{"timeout": 60.0, **more})


def admin(world, **more):
    return secure(world, bind_dn=world.one.admin, password_file=world.password, **more)
