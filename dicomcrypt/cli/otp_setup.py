"""`dicomcrypt otp init|upgrade|person|stats|clock`."""

from __future__ import annotations

import click

from ..errors import UsageError
from . import options as opt
from . import otp_options as oo


@click.command(epilog="""\b
Examples:
  dicomcrypt otp init otp/ --base-url https://portal.example/
  dicomcrypt otp init otp/ --code-key 'pkcs11:token=ward;object=codes?module-path=/usr/lib/x.so'
  dicomcrypt otp init otp/ --card
  dicomcrypt otp init otp/ --database postgresql+psycopg://otp@db.example/otp
""")
@click.argument("folder", metavar="FOLDER")
@click.option("--base-url", default="https://portal.example/", show_default=True, metavar="URL",
              help="What links begin with.")
@click.option("--bits", type=click.Choice(["2048", "3072", "4096"]), default="3072",
              show_default=True, help="Length of the RSA key.")
@click.option("--code-key", metavar="FILE|URI", help="An RSA key that is used for nothing else, "
              "instead of a new one.")
@click.option("--database", default="sqlite:///otp.db", show_default=True, metavar="URL",
              help="Relative to the folder; without a password.")
@oo.card
@opt.as_json
@opt.hushed
def init(
    folder: str, base_url: str, bits: str, code_key: str | None, database: str, as_json: bool,
) -> None:
    """Make a folder: the key of the codes, the key file, settings, an empty database.

    Take a copy of code.key and secret.key: without the second one nobody can read the database.
    """
    from ..otp import home

    if opt.card_wanted():
        from ..otp.code import CodeKey

        if code_key is not None:
            raise UsageError("--code-key and a card: give one of them")
        key = oo.card_key(home.card_name)
        CodeKey(key)  # refuses one that cannot make codes
        code_key = home.card_name(key)
    home.create(folder, bits=int(bits), database=database, code_key=code_key, base_url=base_url)
    oo.tell(as_json, {"folder": folder, "settings": f"{folder.rstrip('/')}/{home.SETTINGS}"},
            f"made: {folder} (secret); mail and SMS are set up in {home.SETTINGS}")


@click.command(epilog="""\b
Examples:
  dicomcrypt otp upgrade -d otp/
""")
@oo.folder
def upgrade(folder: str | None) -> None:
    """Bring the database to the version of this program. Take a backup before."""
    from ..otp import home

    home.upgrade(oo.folder_of(folder))


@click.group(epilog="""\b
Examples:
  dicomcrypt otp person add anna --email anna@example.org --mobile +491701234567 -d otp/
  dicomcrypt otp person list -d otp/
""")
def person() -> None:
    """Who may be given links."""


@person.command("add", epilog="""\b
Examples:
  dicomcrypt otp person add anna --email anna@example.org --mobile +491701234567 -d otp/
  dicomcrypt otp person add bob@example.org --email bob@example.org --language en -d otp/
""")
@click.argument("name")
@click.option("--email", required=True, metavar="ADDRESS", help="Where codes and links go.")
@click.option("--mobile", default="", metavar="NUMBER", help="Such as +491701234567; links are "
              "bound to who has both.")
@click.option("--language", type=click.Choice(["de", "en"]), default="de", show_default=True,
              help="Of messages to this person.")
@oo.folder
@opt.as_json
@opt.hushed
def add(
    name: str, email: str, mobile: str, language: str, folder: str | None, as_json: bool,
) -> None:
    """Register a person by a name, under which no second one may be."""
    with oo.opened(folder) as home:
        found = home.persons.add(name, email, mobile, language)
    oo.tell(as_json, {"person": found}, f"registered: {name}, {found} in the audit log")


@person.command("list", epilog="""\b
Examples:
  dicomcrypt otp person list -d otp/ --json
""")
@oo.folder
@opt.as_json
def list_persons(folder: str | None, as_json: bool) -> None:
    """List who is registered."""
    from .console import print_json, print_table

    with oo.opened(folder) as home:
        found = list(home.persons.all())
    if as_json:
        print_json([vars(one) for one in found])
        return
    heads = ("name", "e-mail", "mobile", "language", "id")
    print_table([[p.name, p.email, p.mobile or "-", p.language, p.id] for p in found], heads)


@person.command("remove", epilog="""\b
Examples:
  dicomcrypt otp person remove anna -d otp/
""")
@click.argument("name")
@oo.folder
@opt.hushed
def remove(name: str, folder: str | None) -> None:
    """Forget a person and its requests; links for it are revoked."""
    from .console import say

    with oo.opened(folder) as home:
        home.persons.remove(name)
    say(f"removed: {name}")


@click.command(epilog="""\b
Examples:
  dicomcrypt otp stats -d otp/ --json
""")
@oo.folder
@opt.as_json
def stats(folder: str | None, as_json: bool) -> None:
    """Show what is there, what failed, and the chance of who guesses."""
    from ..otp.statistics import statistics
    from .console import print_json, print_table

    with oo.opened(folder) as home:
        found = statistics(home.context)
    if as_json:
        print_json(found)
        return
    rows = []
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in sorted(value.items())) or "none"
        rows.append([name.replace("_", " "),
                     f"{value:.3g}" if isinstance(value, float) else str(value)])
    print_table(rows, ("what", "how many"))


@click.command(epilog="""\b
Examples:
  dicomcrypt otp clock -d otp/
  dicomcrypt otp clock --reset -d otp/

\b
Exit status: 5 if the clock is behind.
""")
@click.option("--reset", is_flag=True, help="Take this machine's time for right: codes become "
              "void, and who had to wait for tomorrow waits a day from now.")
@oo.folder
@opt.as_json
@opt.hushed
def clock(reset: bool, folder: str | None, as_json: bool) -> None:
    """Compare this machine's clock with the latest time in the database.

    Time that runs backwards would make codes last longer, so nothing is issued or accepted then.
    """
    from ..errors import PolicyError
    from ..otp.store import TOLERANCE_MS

    with oo.opened(folder) as home:
        store = home.context.store
        if reset:
            store.reset_clock()
            home.context.note("otp.clock")
        behind = store.behind()
    oo.tell(as_json, {"behind_seconds": behind / 1000}, f"behind by {behind / 1000:.1f} s")
    if behind > TOLERANCE_MS:
        raise PolicyError("nothing is issued or accepted: set the clock, or give --reset if a "
                          "later time was stored by mistake")
