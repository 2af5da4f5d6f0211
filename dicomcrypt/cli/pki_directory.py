"""`dicomcrypt pki publish`, `fetch` and `find`: certificates in LDAP directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DirectoryError, UsageError
from . import options as opt
from . import outputs
from . import pki_options as pko

if TYPE_CHECKING:
    from ..pki.directory import Directories, Scan

_where = opt.shared(
    click.option("--directory", "url", metavar="URL",
                 help="ldaps://HOST[:PORT] or ldap://HOST[:PORT], instead of the configured ones."),
    click.option("--base", metavar="DN", help="Where to search in it, such as dc=example,dc=org."),
    click.option("--ca", metavar="FILE", help="CA certificates (PEM) for the directory's TLS; by "
                 "default the system's. Behind a TLS proxy, its CA goes in here."),
    click.option("--start-tls", is_flag=True, help="Turn to TLS on an ldap:// address."),
    click.option("--timeout", type=click.FloatRange(0.1, 300), default=5.0, show_default=True,
                 metavar="SECONDS", help="How long --directory may take."),
)
_looking = opt.shared(
    click.option("--deadline", type=click.FloatRange(0.1, 600), default=10.0, show_default=True,
                 metavar="SECONDS", help="How long all directories together may take."),
    click.option("--no-cache", is_flag=True, help="Ask, whatever was answered before."),
)
_style = opt.shared(opt.as_json, opt.quiet)


@click.command(epilog="""\b
Examples:
  dicomcrypt pki find --email ada@hospital.example -o ada.pem
  dicomcrypt pki find --name "Ada Lovelace" --json
  dicomcrypt pki find --serial 1f3a --issuer ca.pem
  dicomcrypt pki find --email ada@hospital.example \\
      --directory ldaps://ldap.hospital.example --base dc=hospital,dc=example --ca hospital-ca.pem
""")
@click.option("--email", metavar="ADDRESS", help="By e-mail address.")
@click.option("--name", metavar="NAME", help="By common name, or first and last name.")
@click.option("--serial", type=pko.Serial(), metavar="HEX", help="By serial number, with --issuer.")
@click.option("--issuer", metavar="FILE", help="The certificate of the issuer of --serial.")
@click.option("-o", "--output", metavar="FILE.pem", help="Where the certificates go.")
@_where
@_looking
@opt.force
@_style
def find(
    email: str | None, name: str | None, serial: int | None, issuer: str | None, output: str | None,
    url: str | None, base: str | None, ca: str | None, start_tls: bool, timeout: float,
    deadline: float, no_cache: bool, force: bool, as_json: bool, quiet: bool,
) -> None:
    """Find certificates in directories, and show what each directory said.

    A certificate is not trusted for being in a directory: `dicomcrypt pki verify` checks it.
    """
    from ..pki import directory_queries as queries

    if sum(x is not None for x in (email, name, serial)) != 1:
        raise UsageError("give one of --email, --name, --serial")
    if (serial is None) != (issuer is None):
        raise UsageError("--serial and --issuer go together")
    if email is not None:
        query = queries.by_email(email)
    elif serial is not None and issuer is not None:
        query = queries.by_serial(_read(issuer, crl=False).subject, serial)
    else:
        query = queries.by_name(name or "")
    directories = _directories(url, base, ca, start_tls, timeout, deadline, no_cache)
    scan = directories.scan(query)
    certificates = scan.found
    _show(scan, as_json, quiet, certificates=[_facts(c) for c in certificates])
    scan.require()
    if output:
        _write(Path(output), certificates, force)


@click.command(epilog="""\b
Examples:
  dicomcrypt pki fetch -o trust/                  CA certificates and CRLs of all directories
  dicomcrypt pki fetch                            only shows what there is
  dicomcrypt pki fetch -o trust/ --allow-stale    old CRLs too, if a directory is down
""")
@click.option("-o", "--output", metavar="FOLDER",
              help="Where they go: ca-DIGEST.pem and crl-DIGEST.pem.")
@click.option("--allow-stale", is_flag=True,
              help="Take expired CRLs, and kept answers of directories that do not answer.")
@_where
@_looking
@_style
def fetch(
    output: str | None, allow_stale: bool, url: str | None, base: str | None, ca: str | None,
    start_tls: bool, timeout: float, deadline: float, no_cache: bool, as_json: bool, quiet: bool,
) -> None:
    """Fetch the certificates of authorities and the revocation lists (CRLs) of all directories.

    Nothing of it is trusted for being there: roots of trust are chosen by hand, and CRLs count
    when their signatures are good.
    """
    directories = _directories(url, base, ca, start_tls, timeout, deadline, no_cache)
    scans = {"ca": directories.fetch_authorities(),
             "crl": directories.fetch_crls(allow_stale=allow_stale)}
    written = []
    for kind, scan in scans.items():
        for value in scan.all:
            if output:
                written.append(_write(Path(output) / f"{kind}-{_digest(value)}.pem", [value], True))
    if as_json:
        from .console import print_json

        print_json({kind: _answers(scan) | {"count": len(scan.all)}
                    for kind, scan in scans.items()} | {"written": written})
    else:
        for kind, scan in scans.items():
            _show(scan, False, quiet, title={"ca": "CA certificates", "crl": "CRLs"}[kind])
        if not quiet and output:
            from .console import say

            say(f"{len(written)} files in {output}")
    if not any(answer.answered for scan in scans.values() for answer in scan.answers):
        scans["crl"].require()


@click.command(epilog="""\b
Examples:
  dicomcrypt pki publish ada.pem --to hospital
  dicomcrypt pki publish crl.pem --to hospital
  dicomcrypt pki publish ada.pem --directory ldaps://ldap.hospital.example \\
      --base dc=hospital,dc=example --bind-dn cn=admin,dc=hospital,dc=example --password-file pw
""")
@click.argument("file", metavar="CERT|CRL")
@click.option("--to", metavar="NAME", help="A configured directory.")
@click.option("--bind-dn", metavar="DN", help="Log in as this entry.")
@click.option("--password-file", metavar="FILE", help="The password is its first line.")
@_where
@_style
def publish(
    file: str, to: str | None, bind_dn: str | None, password_file: str | None, url: str | None,
    base: str | None, ca: str | None, start_tls: bool, timeout: float, as_json: bool, quiet: bool,
) -> None:
    """Publish a certificate or a revocation list (CRL), PEM or DER, to a directory.

    It needs a log-in, which goes over TLS only. Doing it twice does no harm.
    """
    from ..pki import directory_publish
    from ..pki.directory import Directory, configured
    from ..pki.directory_cache import Cache, cache_path

    if to is not None and url is None:
        if base or ca or start_tls or bind_dn or password_file:
            raise UsageError("--to takes all settings from the configuration")
        target = configured(use_cache=False).named(to)
    elif url is not None and to is None:
        target = Directory(url, url, base or "", ca=ca, start_tls=start_tls,
                           timeout=timeout, bind_dn=bind_dn, password_file=password_file)
    else:
        raise UsageError("give one of --to and --directory")
    value = _read(file)
    put = directory_publish.publish_crl if hasattr(value, "next_update_utc") \
        else directory_publish.publish_certificate
    try:
        done, entry = put(target, value)
    except DirectoryError as error:
        raise DirectoryError(f"{file!r} is not published to {target.name}: {error}") from None
    Cache(cache_path()).forget(target.settings)
    if as_json:
        from .console import print_json

        print_json({"file": file, "directory": target.name, "entry": entry, "outcome": done})
    elif not quiet:
        from .console import say

        say(f"{file}: {done}, {target.name}: {entry}")


def _directories(
    url: str | None, base: str | None, ca: str | None, start_tls: bool, timeout: float,
    deadline: float, no_cache: bool,
) -> Directories:
    """The directory of the options, or those of the configuration."""
    from ..pki.directory import Directories, Directory, configured
    from ..pki.directory_cache import Cache, cache_path

    if url is None:
        if base or ca or start_tls:
            raise UsageError("--base, --ca and --start-tls belong to --directory")
        return configured(use_cache=not no_cache, deadline=deadline)
    one = Directory(url, url, base or "", ca=ca, start_tls=start_tls, timeout=timeout)
    return Directories([one], deadline=deadline, cache=None if no_cache else Cache(cache_path()))


def _show(scan: Scan, as_json: bool, quiet: bool, title: str = "", **more: Any) -> None:
    from .console import print_json, print_table

    if as_json:
        print_json(_answers(scan) | more)
    elif not quiet:
        rows = [(a.directory.name, a.directory.priority, _how(a), f"{a.seconds:.2f} s", a.sentence)
                for a in scan.answers]
        print_table(rows, ("directory", "priority", "over", "time", "said"), title)
        if not scan.all:
            return
        for facts in more.get("certificates", ()):
            click.echo(f"{facts['subject']}  until {facts['until']}  sha256 {facts['sha256']}")


def _how(answer: Any) -> str:
    if answer.age is not None:
        return "cache"
    return "TLS" if answer.directory.secure else "plain"


def _answers(scan: Scan) -> dict[str, Any]:
    return {"directories": [
        {"name": a.directory.name, "url": a.directory.url, "priority": a.directory.priority,
         "over": _how(a).lower(), "state": a.state, "said": a.sentence,
         "seconds": round(a.seconds, 3), "found": len(a.found)} for a in scan.answers
    ]}  # fmt: skip


def _facts(certificate: Any) -> dict[str, str]:
    from cryptography.x509 import NameOID

    short = {NameOID.SURNAME: "SN", NameOID.GIVEN_NAME: "GN", NameOID.EMAIL_ADDRESS: "E"}
    return {
        "subject": certificate.subject.rfc4514_string(short),
        "issuer": certificate.issuer.rfc4514_string(short),
        "serial": f"{certificate.serial_number:x}",
        "until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
        "sha256": _digest(certificate, 64),
    }


def _digest(value: Any, count: int = 16) -> str:
    import hashlib

    from ..pki.directory_queries import encode

    return hashlib.sha256(encode(value)).hexdigest()[:count]


def _read(path: str, *, crl: bool = True) -> Any:
    """Read a certificate, PEM or DER; or a revocation list, if that is taken."""
    from cryptography import x509

    from ..pki import files

    data = files.read(path, "certificate", files.MAX_CRL_FILE)
    pem = b"-----BEGIN " in data
    readers: list[Callable[[bytes], Any]] = [
        x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate]
    if crl:
        readers.append(x509.load_pem_x509_crl if pem else x509.load_der_x509_crl)
    for reader in readers:
        try:
            return reader(data)
        except ValueError:
            continue
    raise UsageError(f"{path!r} is not a certificate{' or a revocation list' if crl else ''}")


def _write(path: Path, values: list[Any], force: bool) -> str:
    """Write certificates or CRLs in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    path.parent.mkdir(parents=True, exist_ok=True)
    outputs.write_public(path, b"".join(value.public_bytes(Encoding.PEM) for value in values),
                         force=force)
    return str(path)
