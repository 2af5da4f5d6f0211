"""`dicomcrypt otp`: its commands are imported when they are used, as those above it."""

from __future__ import annotations

import click

from . import LazyGroup

#: Each command's module of this package, and its variable there if it has another name.
COMMANDS = {
    "init": "otp_setup",
    "upgrade": "otp_setup",
    "person": "otp_setup",
    "link": "otp_links",
    "register": "otp_codes",
    "prove": "otp_codes",
    "send": "otp_codes",
    "resend": "otp_codes",
    "deliver": "otp_codes",
    "check": "otp_codes",
    "totp": "otp_codes",
    "ask": "otp_links",
    "requests": "otp_links",
    "grant": "otp_links",
    "refuse": "otp_links",
    "stats": "otp_setup",
    "clock": "otp_setup",
}


@click.group(cls=LazyGroup, modules=COMMANDS, epilog="""\b
Examples:
  dicomcrypt otp init otp/ --base-url https://portal.example/
  dicomcrypt otp person add anna --email anna@example.org --mobile +491701234567 -d otp/
  dicomcrypt otp link create safe/ct.dcm.dcmx --for anna --days 14 -d otp/
  dicomcrypt otp register LINK anna -d otp/ --console
  dicomcrypt otp prove LINK anna -d otp/                             asks for both codes
  dicomcrypt otp send LINK anna -d otp/ && dicomcrypt otp check LINK anna -d otp/

\b
The folder may stand in the configuration:
  [otp]
  folder = "/srv/otp"
""")
def otp() -> None:
    """One-time passwords and secured links: docs/otp.md.

    A code is six digits, valid five minutes, once, for five tries. Codes are never given as
    arguments: they are asked for on the terminal, or read from standard input.
    """
