"""`dicomcrypt pki attribute` and `pki may`: roles and rights."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from ..errors import PolicyError
from . import options as opt
from . import pki_options as pko

ACTIONS = ["encrypt-to", "decrypt", "sign", "prescribe", "dispense", "serve", "issue"]


@click.group(epilog="""\b
Examples:
  dicomcrypt pki attribute issue anna.crt --ca ca/ --may prescribe --days 90 -o anna.attr -p
  dicomcrypt pki attribute verify anna.attr --holder anna.crt --root ca/root.crt \\
      --intermediate ca/issuing.crt --intermediate ca/attribute.crt
""")
def attribute() -> None:
    """Attribute certificates (RFC 5755): roles and permissions beside a certificate."""


@attribute.command(epilog="""\b
Examples:
  dicomcrypt pki attribute issue anna.crt --ca ca/ --role physician -o anna.attr -p
  dicomcrypt pki attribute issue anna.crt --ca ca/ --may prescribe --may dispense -o anna.attr \\
      --passphrase-file words
""")
@click.argument("holder", metavar="CERT")
@pko.ca
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="A role; repeatable.")
@click.option("--may", "permissions", multiple=True, type=click.Choice(ACTIONS[:6]),
              help="Something that the holder may do; repeatable.")
@pko.dates
@click.option("-o", "--output", required=True, metavar="FILE", help="Where it goes.")
@opt.passphrase
@opt.force
@opt.as_json
@opt.hushed
def issue(
    holder: str, folder: str, roles: tuple[str, ...], permissions: tuple[str, ...],
    begin: datetime | None, end: datetime | None, days: int | None, output: str, ask: bool,
    passphrase_file: str | None, force: bool, as_json: bool,
) -> None:
    """Issue an attribute certificate for the holder of a certificate.

    CERT is one of this authority's, or leads to a root of section [trust] of the configuration.
    """
    from ..pki import attributes, files
    from ..pki.authority import Authority
    from .console import print_json, say

    certificate, *between = files.load_certificates(holder)
    begin, end = pko.span(begin, end, days)
    with Authority(folder) as authority, pko.delivered(
        output, lambda made: made.pem(), force=force
    ) as deliver:
        made = attributes.of_authority(
            authority, certificate, pko.asker(ask, passphrase_file), roles=roles,
            permissions=permissions, begin=begin, end=end, intermediates=between, deliver=deliver,
        )
    if as_json:
        print_json({"attribute_certificate": output, **made.as_json()})
    else:
        say(f"attribute certificate: {output} (serial {made.serial:x}, until {made.end:%Y-%m-%d})")


@attribute.command(epilog="""\b
Examples:
  dicomcrypt pki attribute show anna.attr
""")
@click.argument("file", metavar="FILE")
@opt.as_json
def show(file: str, as_json: bool) -> None:
    """Show an attribute certificate. Nothing is verified."""
    from ..pki import attributes
    from .console import print_json, print_table

    facts = attributes.load(file).as_json()
    if as_json:
        print_json(facts)
        return
    rows = [(key.replace("_", " "), ", ".join(value) if isinstance(value, list) else value)
            for key, value in facts.items() if value]
    print_table(rows, ("", file))


@attribute.command(epilog="""\b
Examples:
  dicomcrypt pki attribute verify anna.attr --holder anna.crt --root ca/root.crt \\
      --intermediate ca/issuing.crt --intermediate ca/attribute.crt --crl ca/attribute.crl
""")
@click.argument("file", metavar="FILE")
@click.option("--holder", required=True, metavar="CERT", help="Whose it is to be.")
@pko.trust
@opt.as_json
@opt.hushed
def verify(
    file: str, holder: str, roots: tuple[str, ...], intermediates: tuple[str, ...],
    crls: tuple[str, ...], require_crl: bool, moment: datetime | None, as_json: bool,
) -> None:
    """Say whether an attribute certificate is taken: holder, signature, issuer, dates, lists."""
    from ..errors import CertificateRefusedError
    from ..pki import attributes, files
    from .console import print_json, say

    trust = pko.load_trust(roots, intermediates, crls, require_crl)
    try:
        certificate, *between = files.load_certificates(holder)
        found = attributes.load(file)
        checked = attributes.check(found, certificate, trust, moment=pko.utc(moment),
                                   intermediates=between)
    except CertificateRefusedError as error:
        pko.tell_refused(error, as_json)
    if as_json:
        print_json({"valid": True, "reason": None, "remarks": checked.remarks, **found.as_json()})
    else:
        told = [*(f"role {role}" for role in found.roles), *(f"may {p}" for p in found.permissions)]
        say(f"attribute certificate {found.serial:x} is taken: {', '.join(told)}, "
            f"until {found.end:%Y-%m-%d}")
        for remark in checked.remarks:
            say(f"remark: {remark}")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki may anna.crt prescribe --root ca/root.crt --intermediate ca/issuing.crt
  dicomcrypt pki may anna.crt dispense --attribute anna.attr --root ca/root.crt \\
      --intermediate ca/issuing.crt --intermediate ca/attribute.crt
""")
@click.argument("certificate", metavar="CERT")
@click.argument("action", type=click.Choice(ACTIONS))
@click.option("--attribute", "attribute_files", multiple=True, metavar="FILE",
              help="Attribute certificate; repeatable.")
@pko.trust
@opt.as_json
@opt.hushed
def may(
    certificate: str, action: str, attribute_files: tuple[str, ...],
    roots: tuple[str, ...], intermediates: tuple[str, ...], crls: tuple[str, ...],
    require_crl: bool, moment: datetime | None, as_json: bool,
) -> None:
    """Say whether a certificate's holder may do something. Exit status 5 if not."""
    from ..pki import attributes, files, rights
    from .console import complain, print_json, say

    trust = pko.load_trust(roots, intermediates, crls, require_crl)
    leaf, *between = files.load_certificates(certificate)
    decision = rights.may(
        leaf, action, trust=trust, moment=pko.utc(moment), intermediates=between,
        attribute_certificates=[attributes.load(path) for path in attribute_files],
    )  # fmt: skip
    if as_json:
        print_json({"allowed": decision.allowed, "action": action, "sentence": decision.sentence,
                    "reason": decision.reason or None, "roles": list(decision.roles),
                    "remarks": decision.remarks})
    elif not decision:
        complain(decision.sentence)
    else:
        say(decision.sentence)
    if not as_json:
        for remark in decision.remarks:
            say(f"remark: {remark}")
    if not decision:
        sys.exit(PolicyError.exit_status)
