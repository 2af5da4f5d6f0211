"""`dicomcrypt vault log` and `dedupe`."""

from __future__ import annotations

from typing import Any, Unpack

import click

from ..errors import UsageError
from . import options as opt
from .audit import events, filters, show_events
from .vault import Unlocking, open_vault, unlocking

MOST = 20


@click.command(epilog="""\b
Examples:
  dicomcrypt vault log archive/
  dicomcrypt vault log archive/ --action vault.erase --json
  dicomcrypt vault log archive/ --log old-audit.log --since 2027-01-31
""")
@click.argument("folder", metavar="VAULT")
@click.option("--log", metavar="FILE", help="By default [audit] log of the configuration.")
@filters
@opt.as_json
def log(
    folder: str, log: str | None, since: str | None, until: str | None, action: tuple[str, ...],
    objects: tuple[str, ...], outcome: tuple[str, ...], as_json: bool,
) -> None:
    """Show what the audit log has of a vault: who did what, when, and how it ended.

    No key is needed, since the log holds no names. Its chain is checked on the way; `dicomcrypt
    audit verify` checks signatures and its end, too.
    """
    from ..vault.vault import read_header

    vault_id = read_header(folder)[1].hex()
    found = events(log, since, until, action, objects, outcome)
    show_events([e for e in found if e["details"].get("vault") == vault_id], as_json)


@click.command(epilog="""\b
Examples:
  dicomcrypt vault dedupe archive/ --report -i doctor.key
  dicomcrypt vault dedupe archive/ --report --json -i doctor.key
""")
@unlocking
@click.option("--report", is_flag=True, help="Say what is stored once, and which instances are "
              "there with several contents. Files are compared as they are added.")
@opt.as_json
def dedupe(folder: str, report: bool, as_json: bool, **how: Unpack[Unlocking]) -> None:
    """Say what deduplication saves.

    Files that are alike within a patient's record are stored once, when they are added; never
    across records, where that would tell that two patients have something in common. The same SOP
    Instance UID with other content is kept, and reported here.
    """
    from .console import print_json, print_table, printable, say, size_text

    if not report:
        raise UsageError("files are deduplicated as they are added; give --report to see what "
                         "that saves")
    with open_vault(folder, how) as opened:
        facts: dict[str, Any] = opened.catalogue.duplicates(MOST)
    if as_json:
        print_json(facts)
        return
    say(f"{facts['files']} files in {facts['objects']} objects: {facts['shared']} files were not "
        f"stored again, {size_text(facts['saved'])} saved")
    if facts["instances"]:
        say(f"{facts['instances']} instances are there with several contents, all kept")
        print_table(
            [(found["uid"], str(found["objects"]), printable(path))
             for found in facts["several"] for path in found["paths"]],
            ("SOP instance UID", "contents", "path"), "instances with several contents",
        )  # fmt: skip
