"""`dicomcrypt otp link|ask|requests|grant|refuse`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from . import options as opt
from . import otp_options as oo
from . import outputs

if TYPE_CHECKING:
    from ..otp.home import Home
    from ..otp.persons import Person

_scope = click.option("--scope", type=click.Choice(["all", "tags", "pixels"]), default="all",
                      show_default=True, help="What of the objects may be read.")
_grant_options = opt.shared(
    click.option("--days", type=click.IntRange(1, 3650), default=14, show_default=True,
                 help="How long it is good."),
    click.option("--uses", type=click.IntRange(1, 1 << 20), default=1, show_default=True,
                 help="How often it may be opened."),
    click.option("--bound", is_flag=True, help="You vouch for the person, who need not prove "
                 "e-mail and mobile before."),
    click.option("--send", is_flag=True, help="Send the link by e-mail, too."),
    click.option("-o", "--output", metavar="FILE", help="Write the link to a file (mode 0600) "
                 "instead of standard output."),
)


def _ids(objects: tuple[str, ...]) -> list[str]:
    """The ids of objects, given as such or as files."""
    from .auditing import object_ids

    found: list[str] = []
    for given in objects:
        if os.path.lexists(given):
            ids = list(object_ids([given]))
            if not ids:
                raise UsageError(f"{given!r} is no DCMX object")
            found += ids
        else:
            found.append(given.lower())
    return found


def _hand_out(
    home: Home, link: str, token: str, person: Person | None, *, send: bool, output: str | None,
    as_json: bool,
) -> None:
    """Give the link, which is nowhere else, to who made it."""
    from ..keys.keyfile import write_private
    from ..otp.links import url_of
    from .console import print_json, say

    url = url_of(home.base_url, token)
    if output is not None:
        write_private(output, f"{url}\n".encode())
    if as_json:
        print_json({"link": link, **({} if output else {"url": url})})
    else:
        say(f"link {link}: its secret is kept nowhere, and cannot be shown again")
        if output is None:
            click.echo(url)
    if send and person is not None:
        home.outbox.send_link(person, url, link)


@click.group(epilog="""\b
Examples:
  dicomcrypt otp link create safe/ct.dcm.dcmx --for anna --days 14 -d otp/
  dicomcrypt otp link list -d otp/
  dicomcrypt otp link revoke LINK -d otp/
""")
def link() -> None:
    """Links to objects, each for one person."""


@link.command("create", epilog="""\b
Examples:
  dicomcrypt otp link create safe/ct.dcm.dcmx --for anna --days 14 -d otp/
  dicomcrypt otp link create 0d91b1c27a5b8f3e --for anna --scope tags --uses 3 --bound --send
  dicomcrypt otp link create safe/ct.dcm.dcmx -o link.txt       for the first who registers
""")
@click.argument("objects", nargs=-1, required=True, metavar="FILE|ID...")
@click.option("--for", "name", metavar="PERSON", help="For whom; otherwise for the first "
              "registered person who proves e-mail and mobile.")
@_scope
@_grant_options
@oo.folder
@opt.as_json
@opt.hushed
def create(
    objects: tuple[str, ...], name: str | None, scope: str, days: int, uses: int, bound: bool,
    send: bool, output: str | None, folder: str | None, as_json: bool,
) -> None:
    """Make a link to objects. It is shown once: the database has its SHA-256."""
    if send and name is None:
        raise UsageError("--send wants --for: to whom?")
    outputs.free(output)
    with oo.opened(folder) as home:
        made, token = home.links.create(_ids(objects), scope=scope, person=name, uses=uses,
                                        seconds=days * 86_400, bound=bound)
        person = None
        if name is not None:
            with home.context.store.transaction() as tx:
                person = home.persons.contact(tx, home.persons.registered(tx, name))
        _hand_out(home, made, token, person, send=send, output=output, as_json=as_json)


@link.command("list", epilog="""\b
Examples:
  dicomcrypt otp link list -d otp/
  dicomcrypt otp link list -d otp/ --json
""")
@oo.folder
@opt.as_json
def list_links(folder: str | None, as_json: bool) -> None:
    """List links, newest first, without what opens them."""
    from .console import print_json, print_table

    with oo.opened(folder) as home:
        found = home.links.all()
        names = {person.id: person.name for person in home.persons.all()}
    for row in found:
        for key in ("for", "bound"):
            row[key] = names.get(row[key])
    if as_json:
        print_json(found)
        return
    heads = ("link", "state", "for", "bound to", "objects", "scope", "left", "until (UTC)")
    print_table(
        [[r["link"], r["state"], r["for"] or "-", r["bound"] or "-", str(len(r["objects"])),
          r["scope"], f"{r['left']} of {r['uses']}", oo.moment(r["until"])] for r in found],
        heads,
    )  # fmt: skip


@link.command("revoke", epilog="""\b
Examples:
  dicomcrypt otp link revoke LINK -d otp/
""")
@click.argument("link")
@oo.folder
@opt.hushed
def revoke(link: str, folder: str | None) -> None:
    """Take a link back: it opens nothing any more."""
    from .console import say

    with oo.opened(folder) as home:
        home.links.revoke(link)
    say(f"revoked: {link}")


@click.command(epilog="""\b
Examples:
  dicomcrypt otp ask anna safe/ct.dcm.dcmx --reason "second opinion" -d otp/
""")
@click.argument("name")
@click.argument("objects", nargs=-1, required=True, metavar="FILE|ID...")
@_scope
@click.option("--reason", default="", metavar="TEXT", help="Why, for who decides.")
@oo.folder
@opt.hushed
def ask(name: str, objects: tuple[str, ...], scope: str, reason: str, folder: str | None) -> None:
    """Ask for access to objects, in the name of a person."""
    from .console import say

    with oo.opened(folder) as home:
        home.requests.ask(name, _ids(objects), scope=scope, reason=reason)
    say("asked: whoever administers sees it if the person is registered")


@click.command(epilog="""\b
Examples:
  dicomcrypt otp requests -d otp/
""")
@click.option("--state", type=click.Choice(["open", "granted", "refused"]), default="open",
              show_default=True, help="Only what is so now.")
@oo.folder
@opt.as_json
def requests(state: str, folder: str | None, as_json: bool) -> None:
    """List what was asked for."""
    from .console import print_json, print_table

    with oo.opened(folder) as home:
        found = home.requests.all(state=state)
    if as_json:
        print_json(found)
        return
    heads = ("request", "at (UTC)", "person", "objects", "scope", "reason")
    print_table([[r["request"], oo.moment(r["created"]), r["name"], str(len(r["objects"])),
                  r["scope"], r["reason"]] for r in found], heads)


@click.command(epilog="""\b
Examples:
  dicomcrypt otp grant REQUEST --days 7 --send -d otp/
""")
@click.argument("request")
@_grant_options
@oo.folder
@opt.as_json
@opt.hushed
def grant(
    request: str, days: int, uses: int, bound: bool, send: bool, output: str | None,
    folder: str | None, as_json: bool,
) -> None:
    """Grant a request: makes a link for who asked."""
    outputs.free(output)
    with oo.opened(folder) as home:
        made, token, person = home.requests.grant(request, seconds=days * 86_400, uses=uses,
                                                  bound=bound)
        _hand_out(home, made, token, person, send=send, output=output, as_json=as_json)


@click.command(epilog="""\b
Examples:
  dicomcrypt otp refuse REQUEST -d otp/
""")
@click.argument("request")
@oo.folder
@opt.hushed
def refuse(request: str, folder: str | None) -> None:
    """Refuse a request."""
    from .console import say

    with oo.opened(folder) as home:
        home.requests.refuse(request)
    say(f"refused: {request}")
