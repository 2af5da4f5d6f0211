"""`dicomcrypt pki init|issue|renew|revoke|crl|list`: what needs the authority's folder."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import options as opt
from . import outputs
from . import pki_options as pko

if TYPE_CHECKING:
    from cryptography import x509


@click.command(epilog="""\b
Examples:
  dicomcrypt pki init ca/ --organisation "Klinikum Nord" -p          asks for the passphrase
  dicomcrypt pki init ca/ --organisation "Klinikum Nord" --type ml-dsa-65 -p
  dicomcrypt pki init ca/ --organisation "Klinikum Nord" --passphrase-file words \\
      --root-passphrase-file /media/safe/root
""")
@click.argument("folder", metavar="FOLDER")
@click.option("--organisation", required=True, metavar="TEXT", help="Whose authority it is.")
@click.option("--type", "kind", default="p384", show_default=True,
              type=click.Choice(["p384", "p256", "rsa-3072", "rsa-4096", "ml-dsa-65"]),
              help="Kind of the keys.")
@click.option("--root-passphrase-file", metavar="FILE",
              help="A passphrase of its own for the root's key.")
@click.option("--root-years", type=click.IntRange(1, 50), default=20, show_default=True,
              help="How long the root's certificate is valid.")
@click.option("--issuing-years", type=click.IntRange(1, 50), default=10, show_default=True,
              help="How long those of the issuing and the attribute authority are.")
@click.option("--crl-url", metavar="URL", help="Where certificates say the revocation list is.")
@opt.passphrase
@opt.as_json
@opt.hushed
def init(
    folder: str, organisation: str, kind: str, root_passphrase_file: str | None, root_years: int,
    issuing_years: int, crl_url: str | None, ask: bool, passphrase_file: str | None, as_json: bool,
) -> None:
    """Make an authority: a root, an issuing and an attribute authority, and their database.

    The keys are encrypted. Take a copy of the folder, and take root.key away once it is copied:
    it is needed only for the list `pki crl --issuer root`.
    """
    from ..pki.authority import Authority
    from .console import print_json, say

    words = opt.needed_passphrase(ask, passphrase_file, confirm=True)
    root_words = opt.read_passphrase(False, root_passphrase_file, confirm=False)
    with Authority.create(
        folder, organisation=organisation, passphrase=words, root_passphrase=root_words,
        kind=kind, root_years=root_years, issuing_years=issuing_years, crl_url=crl_url,
    ) as authority:
        facts = {"folder": folder, "type": kind, "root": str(authority.folder / "root.crt"),
                 "issuing": str(authority.folder / "issuing.crt")}
    if as_json:
        print_json(facts)
    else:
        say(f"authority: {folder} (secret, keep a copy in a safe place)")
        say(f"root:      {facts['root']} (public: whoever trusts you needs it)")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki issue anna.csr --ca ca/ --role physician --for both -p
  dicomcrypt pki issue pacs.csr --ca ca/ --role application --for tls-server --dns pacs.example \\
      --passphrase-file words
  dicomcrypt pki issue anna.pub.pem --ca ca/ --name Arzt --first-name Anna \\
      --for encryption -p
""")
@click.argument("request_file", metavar="REQUEST")
@pko.ca
@click.option("--for", "uses", multiple=True, required=True,
              type=click.Choice(["encryption", "signing", "both", "tls-server", "tls-client"]),
              help="What the certificate is for; repeatable.")
@pko.role
@pko.holder
@click.option("--dns", multiple=True, metavar="NAME", help="DNS name of a TLS server.")
@click.option("--ip", multiple=True, metavar="ADDRESS", help="Address of a TLS server.")
@pko.dates
@click.option("-o", "--output", metavar="FILE", help="By default REQUEST's name with .crt.")
@click.option("--chain", is_flag=True, help="Write the issuing authority's certificate too.")
@opt.passphrase
@opt.force
@opt.as_json
@opt.quiet
def issue(
    request_file: str, folder: str, uses: tuple[str, ...], role: str | None, name: str | None,
    first_name: str | None, organisation: str | None, department: str | None, email: str | None,
    dns: tuple[str, ...], ip: tuple[str, ...], begin: datetime | None, end: datetime | None,
    days: int | None, output: str | None, chain: bool, ask: bool, passphrase_file: str | None,
    force: bool, as_json: bool, quiet: bool,
) -> None:
    """Issue a certificate for a request.

    Names and e-mail address are taken from the request, unless an option says otherwise: check
    them. Role, use, dates, server names are yours alone, whatever the request asks for.
    """
    from ..pki import files, names
    from ..pki.authority import Authority

    found = files.load_request(request_file)
    asked, others = _asked(found)
    told = {"name": name, "first_name": first_name, "organisation": organisation,
            "department": department, "email": email}
    fields = {key: asked.get(key, "") if value is None else value for key, value in told.items()}
    subject = names.Subject(**fields, role=None if role is None else names.Role(role))
    target = output or str(Path(request_file).with_suffix(".crt"))
    outputs.not_there(target, force)
    begin, end = pko.span(begin, end, days)
    public = found.public_key() if hasattr(found, "public_key") else found
    with Authority(folder) as authority:
        above = [authority.certificate("issuing")] if chain else []
        with pko.delivered(target, lambda c: files.pem([c, *above]), force=force) as deliver:
            made = authority.issue(
                public, subject, uses, pko.asker(ask, passphrase_file), begin=begin, end=end,
                hosts=_hosts(dns, ip), deliver=deliver,
            )
    _told(made, target, as_json, quiet, asked, others)


def _asked(found: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what a request says of its holder, and what else it asks for."""
    from cryptography import x509

    from ..pki import files, names

    if not isinstance(found, x509.CertificateSigningRequest):
        return {}, []
    try:
        with files.quiet():
            asked = names.holder_fields(found.subject, found.extensions)
    except ValueError as error:
        raise UsageError(f"the request cannot be taken: {error}") from None
    known = {x509.SubjectAlternativeName.oid, names.ROLE}
    others = [e.oid._name if e.oid._name != "Unknown OID" else e.oid.dotted_string
              for e in found.extensions if e.oid not in known]
    for extension in found.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            others += [f"{type(n).__name__} {n.value}" for n in extension.value
                       if not isinstance(n, x509.RFC822Name)]
    return asked, others


def _hosts(dns: Sequence[str], ip: Sequence[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in dns:
        if not name.isascii() or not name.strip(".") or len(name) > 253 or " " in name:
            raise UsageError(f"{name!r} is no DNS name: write it in ASCII, as xn--...")
        found.append(x509.DNSName(name))
    for text in ip:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            raise UsageError(f"{text!r} is no IP address") from None
    return found


def _told(
    made: x509.Certificate, target: str, as_json: bool, quiet: bool,
    asked: dict[str, Any] | None = None, others: Sequence[str] = (),
) -> None:
    from ..pki import names
    from .console import print_json, print_table, say

    facts = names.facts(made)
    if as_json:
        taken = {"certificate": target, **facts.as_json()}
        if asked is not None:
            taken["asked"] = {key: value and str(value) for key, value in asked.items()}
            taken["not_taken"] = list(others)
        print_json(taken)
    elif not quiet:
        if asked:
            rows = [(key.replace("_", " "), str(asked[key] or "-"), str(getattr(facts, key) or "-"))
                    for key in asked]
            print_table(rows, ("", "asked for", "certificate"))
        for other in others:
            say(f"asked for and not taken: {other}")
        say(f"certificate: {target} (serial {facts.serial:x}, until {facts.end:%Y-%m-%d})")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki renew SERIAL --ca ca/ -o anna-2028.crt -p
  dicomcrypt pki renew SERIAL --ca ca/ --request new.csr -o anna.crt --passphrase-file words
""")
@click.argument("serial", type=pko.Serial())
@pko.ca
@click.option("--request", "request_file", metavar="REQUEST",
              help="Of a new key; by default the certificate is for the old one.")
@pko.dates
@click.option("-o", "--output", required=True, metavar="FILE", help="Where it goes.")
@opt.passphrase
@opt.force
@opt.as_json
@opt.quiet
def renew(
    serial: int, folder: str, request_file: str | None, begin: datetime | None,
    end: datetime | None, days: int | None, output: str, ask: bool, passphrase_file: str | None,
    force: bool, as_json: bool, quiet: bool,
) -> None:
    """Issue a certificate again: same holder, role and use, new dates, and a new key if one is
    given.

    The old one stays valid until it ends, or until it is revoked as superseded.
    """
    from ..pki import files
    from ..pki.authority import Authority

    public = None
    if request_file is not None:
        found = files.load_request(request_file)
        public = found.public_key() if hasattr(found, "public_key") else found
    outputs.not_there(output, force)
    begin, end = pko.span(begin, end, days)
    with Authority(folder) as authority, pko.delivered(
        output, lambda c: files.pem([c]), force=force
    ) as deliver:
        made = authority.renew(
            serial, pko.asker(ask, passphrase_file), public=public, begin=begin, end=end,
            deliver=deliver,
        )
    _told(made, output, as_json, quiet)


@click.command(epilog="""\b
Examples:
  dicomcrypt pki revoke SERIAL --ca ca/ --reason keyCompromise
  dicomcrypt pki revoke SERIAL --ca ca/ --reason keyCompromise --all-of-key
  dicomcrypt pki revoke SERIAL --ca ca/ --reason certificateHold
  dicomcrypt pki revoke SERIAL --ca ca/ --release

\b
Reasons: unspecified, keyCompromise, cACompromise, affiliationChanged, superseded,
cessationOfOperation, certificateHold, privilegeWithdrawn, aACompromise.
""")
@click.argument("serial", type=pko.Serial())
@pko.ca
@click.option("--reason", default="unspecified", show_default=True, metavar="REASON",
              help="Why, by one of the words below.")
@click.option("--all-of-key", is_flag=True,
              help="Revoke all other certificates of the same key too.")
@click.option("--release", is_flag=True, help="Take it from hold.")
@opt.as_json
@opt.hushed
def revoke(
    serial: int, folder: str, reason: str, all_of_key: bool, release: bool, as_json: bool,
) -> None:
    """Revoke a certificate or an attribute certificate, or put it on hold.

    It is told to others by the next list: run `dicomcrypt pki crl` after it. Who has a key can use
    it with each of its certificates: revoke all of them with --all-of-key.
    """
    from ..pki.authority import Authority
    from .console import complain, print_json, say

    if release and all_of_key:
        raise UsageError("--release and --all-of-key cannot both be meant")
    with Authority(folder) as authority:
        rows = [authority.release(serial) if release else authority.revoke(serial, reason)]
        others = authority.others_of_key(serial) if reason == "keyCompromise" or all_of_key else []
        if all_of_key:
            rows += [authority.revoke(int(row["serial"], 16), reason) for row in others]
            others = []
    left = [row["serial"] for row in others]
    for row in rows:
        del row["der"]
    if as_json:
        print_json({**rows[0], "also": [row["serial"] for row in rows[1:]], "same_key": left})
        return
    for row in rows:
        say(f"certificate {row['serial']}: {row['status']}"
            f"{'' if release else f' ({reason})'}")
    for other in left:
        complain(f"certificate {other} is of the same key and still valid: revoke it too, or all "
                 "with --all-of-key")
    for issuer in dict.fromkeys(row["issuer"] for row in rows):
        say(f"make the next list with `dicomcrypt pki crl --ca {folder} --issuer {issuer}`")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki crl --ca ca/ -p                    writes ca/issuing.crl
  dicomcrypt pki crl --ca ca/ --days 7 -o public/klinikum.crl --passphrase-file words
  dicomcrypt pki crl --ca ca/ --issuer root -p      needs the root's passphrase
""")
@pko.ca
@click.option("--issuer", type=click.Choice(["issuing", "root", "attribute"]), default="issuing",
              show_default=True, help="Whose list.")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True,
              help="How long it is good for.")
@click.option("-o", "--output", metavar="FILE", help="Write it there too.")
@opt.passphrase
@outputs.spare_inputs
@click.option("-f", "--force", is_flag=True, help="Overwrite what exists; go on from a list that "
              "is newer than the database.")
@opt.as_json
@opt.hushed
def crl(
    folder: str, issuer: str, days: int, output: str | None, ask: bool, passphrase_file: str | None,
    force: bool, as_json: bool,
) -> None:
    """Sign the next list of revoked certificates: complete, its number growing.

    If the list in FOLDER is newer than the database, as when that was restored from an old copy,
    nothing is signed, unless --force says to go on from that list; its entries are kept then.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from ..pki.authority import Authority
    from .console import print_json, say

    if output is not None:
        outputs.not_there(output, force)
    with Authority(folder) as authority:
        made = authority.make_crl(issuer, pko.asker(ask, passphrase_file), days=days, force=force)
        path = str(authority.folder / f"{issuer}.crl")
    if output is not None:
        outputs.write_public(output, made.public_bytes(Encoding.PEM), force=force)
    number = made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    if as_json:
        print_json({"list": output or path, "number": number, "revoked": len(made),
                    "next": f"{made.next_update_utc:%Y-%m-%dT%H:%M:%SZ}"})
    else:
        say(f"list: {output or path} (number {number}, {len(made)} revoked, good until "
            f"{made.next_update_utc:%Y-%m-%d})")


@click.command("list", epilog="""\b
Examples:
  dicomcrypt pki list --ca ca/
  dicomcrypt pki list --ca ca/ --status revoked --json
  dicomcrypt pki list arzt --ca ca/ --role physician
""")
@click.argument("text", required=False)
@pko.ca
@click.option("--status", type=click.Choice(["valid", "expired", "hold", "revoked"]),
              help="Only what is so now.")
@pko.role
@opt.as_json
def list_command(
    text: str | None, folder: str, status: str | None, role: str | None, as_json: bool,
) -> None:
    """List what the authority has issued; TEXT is looked for in names, addresses and serials."""
    from ..pki.authority import Authority
    from .console import print_json, print_table, say

    with Authority(folder) as authority:
        rows = list(authority.listing(status=status, role=role, text=text))
    if as_json:
        print_json(rows)
    elif rows:
        keys = ("serial", "kind", "subject", "role", "begin", "end", "status", "reason")
        print_table([[row[key] or "-" for key in keys] for row in rows], keys)
    else:
        say("none")
