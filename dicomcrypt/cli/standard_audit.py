"""`dicomcrypt standard audit`: the audit log as the standard's messages."""

from __future__ import annotations

import click

from . import options as opt
from .audit import events, filters, log_argument


@click.group(epilog="""\b
Examples:
  dicomcrypt standard audit export -o messages.xml
""")
def audit() -> None:
    """The audit log in the form of PS3.15 section A.5."""


@audit.command(epilog="""\b
Examples:
  dicomcrypt standard audit export -o messages.xml
  dicomcrypt standard audit export audit.log -o january.xml --since 2027-01-01 --source-id pacs-2
""")
@log_argument
@filters
@click.option("--source-id", default="dicomcrypt", show_default=True, metavar="NAME",
              help="AuditSourceID: which of your systems this is.")
@click.option("--site", default="", metavar="NAME", help="AuditEnterpriseSiteID.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where the messages go.")
@opt.force
@opt.hushed
def export(
    log: str | None, since: str | None, until: str | None, action: tuple[str, ...],
    objects: tuple[str, ...], outcome: tuple[str, ...], source_id: str, site: str, output: str,
    force: bool,
) -> None:
    """Write events as audit messages of PS3.15 section A.5.1, an XML document a line.

    The chain of the log is checked on the way, signatures are not (see `audit verify`).
    """
    from ..objects.atomic import AtomicFile
    from ..standard.audit_messages import message
    from .console import say

    count = 0
    with AtomicFile(output, force=force) as file:
        with open(file.descriptor, "wb", closefd=False) as lines:
            for event in events(log, since, until, action, objects, outcome):
                lines.write(message(event, source=source_id, site=site) + b"\n")
                count += 1
        file.commit(mode=0o600)
    say(f"{count} messages -> {output}")
