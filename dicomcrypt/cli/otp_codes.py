"""`dicomcrypt otp register|prove|send|resend|deliver|check|totp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import DeliveryError, UsageError
from . import options as opt
from . import otp_options as oo
from . import outputs

if TYPE_CHECKING:
    from ..otp.home import Home
    from ..otp.links import Subject

_link = click.argument("link", metavar="LINK")
_person = click.argument("name", metavar="PERSON")
_FIELDS = ("the code", "the sum of its digits")


def _subject(home: Home, purpose: str, name: str, link: str) -> Subject:
    """Link and person, who must fit: whoever administers may know why not."""
    with home.context.store.transaction() as tx:
        home.persons.registered(tx, name)
        found = home.links.subject(tx, purpose, name, link=link)
    if not found.genuine:
        raise UsageError("the link cannot be bound to this person: it is bound, for somebody else, "
                         "or not alive" if purpose != "open" else
                         "the link is not bound to this person, or not alive: see `otp link list` "
                         "and `otp register`")
    return found


def _deliver(home: Home, as_json: bool, **facts: Any) -> None:
    """Deliver what waits; raise DeliveryError for what could not be."""
    from .console import complain, print_json, say

    found = home.outbox.deliver()
    if as_json:
        print_json({**facts, "deliveries": [one._asdict() for one in found]})
    for one in found:
        if one.state != "sent":
            complain(f"{one.channel}: {one.said}")
        elif not as_json:
            say(f"{one.channel}: sent")
    if any(one.state != "sent" for one in found):
        raise DeliveryError("not delivered: `otp resend` sends the same code again while it is "
                            "valid")


@click.command(epilog="""\b
Examples:
  dicomcrypt otp register LINK anna -d otp/
""")
@_link
@_person
@oo.console
@oo.card
@oo.folder
@opt.as_json
@opt.hushed
def register(link: str, name: str, console: bool, folder: str | None, as_json: bool) -> None:
    """Begin to bind a link to a person: send codes to the e-mail and to the mobile."""
    with oo.opened(folder, console=console) as home:
        _subject(home, "email", name, link)
        facts = home.service.register(name, link=link)
        _deliver(home, as_json, **facts)


@click.command(epilog="""\b
Examples:
  dicomcrypt otp prove LINK anna -d otp/
  echo "891632 29 013370 14" | dicomcrypt otp prove LINK anna -d otp/
""")
@_link
@_person
@oo.card
@oo.folder
@opt.hushed
def prove(link: str, name: str, folder: str | None) -> None:
    """Bind a link to a person by the code of the e-mail and that of the SMS."""
    from .console import say

    with oo.opened(folder) as home:
        _subject(home, "email", name, link)
        given = oo.entered("codes", *(f"{field} from the {where}" for where in ("e-mail", "SMS")
                                      for field in _FIELDS))
        home.service.prove(name, {"email": dict(zip(("code", "sum"), given[:2], strict=True)),
                                  "mobile": dict(zip(("code", "sum"), given[2:], strict=True))},
                           link=link)
    say(f"bound: {link}")


@click.command(epilog="""\b
Examples:
  dicomcrypt otp send LINK anna -d otp/
  dicomcrypt otp send LINK anna --channel mobile -d otp/
  dicomcrypt otp send LINK anna --console -d otp/           shows it here, for trying out
""")
@_link
@_person
@click.option("--channel", type=click.Choice(["email", "mobile"]), default="email",
              show_default=True, help="Where the code goes.")
@oo.console
@oo.card
@oo.folder
@opt.as_json
@opt.hushed
def send(
    link: str, name: str, channel: str, console: bool, folder: str | None, as_json: bool,
) -> None:
    """Make a code and send it; the one before becomes void."""
    with oo.opened(folder, console=console) as home:
        _subject(home, "open", name, link)
        facts = home.service.request_code(name, channel=channel, link=link)
        _deliver(home, as_json, **facts)


@click.command(epilog="""\b
Examples:
  dicomcrypt otp resend LINK anna -d otp/
  dicomcrypt otp resend LINK anna --proof mobile -d otp/      after `otp register`
""")
@_link
@_person
@click.option("--proof", type=click.Choice(["email", "mobile"]), help="The code that `otp "
              "register` sent to this address, instead of that of `otp send`.")
@oo.console
@oo.card
@oo.folder
@opt.as_json
@opt.hushed
def resend(
    link: str, name: str, proof: str | None, console: bool, folder: str | None, as_json: bool,
) -> None:
    """Send the valid code again, the same one; its five minutes go on."""
    with oo.opened(folder, console=console) as home:
        purpose = proof or "open"
        home.outbox.repeat(_subject(home, purpose, name, link), purpose)
        _deliver(home, as_json)


@click.command(epilog="""\b
Examples:
  dicomcrypt otp deliver -d otp/           once, as from a timer of the system
""")
@oo.console
@oo.card
@oo.folder
@opt.as_json
@opt.hushed
def deliver(console: bool, folder: str | None, as_json: bool) -> None:
    """Deliver the codes that wait, such as those that a portal put down."""
    with oo.opened(folder, console=console) as home:
        _deliver(home, as_json)


@click.command(epilog="""\b
Examples:
  dicomcrypt otp check LINK anna -d otp/
  echo "891632 29" | dicomcrypt otp check LINK anna -d otp/ --json
  echo "282760" | dicomcrypt otp check LINK anna --totp -d otp/

\b
Exit status: 0 right, 3 wrong or too quick, 5 the link is used up.
""")
@_link
@_person
@click.option("--totp", is_flag=True, help="A code of the authenticator; it has no sum.")
@oo.card
@oo.folder
@opt.as_json
@opt.hushed
def check(link: str, name: str, totp: bool, folder: str | None, as_json: bool) -> None:
    """Open a link by a code, once, and say what it opens."""
    names = _FIELDS[:1] if totp else _FIELDS
    with oo.opened(folder) as home:
        answer = dict(zip(("code", "sum"), oo.entered("a code", *names), strict=False))
        access = home.service.open(name, answer, factor="totp" if totp else "code", link=link)
    facts = access._asdict()
    oo.tell(as_json, facts, f"right: {access.scope} of {len(access.objects)} objects, "
            f"{access.left} uses left")
    if not as_json:
        for one in access.objects:
            click.echo(one)


@click.group(epilog="""\b
Examples:
  dicomcrypt otp totp enroll anna -o anna.uri -d otp/
  dicomcrypt otp totp check anna -d otp/
""")
def totp() -> None:
    """Authenticators (RFC 6238): a second factor that needs no delivery."""


@totp.command(epilog="""\b
Examples:
  dicomcrypt otp totp enroll anna -o anna.uri -d otp/
  dicomcrypt otp totp enroll anna -d otp/ | qrencode -t UTF8
""")
@_person
@click.option("-o", "--output", metavar="FILE", help="Write the secret to a file (mode 0600) "
              "instead of standard output.")
@click.option("--issuer", default="dicomcrypt", show_default=True, metavar="NAME",
              help="What the authenticator shows.")
@opt.force
@oo.folder
@opt.hushed
def enroll(name: str, output: str | None, issuer: str, force: bool, folder: str | None) -> None:
    """Make a person's secret and show it once, as an otpauth: URI."""
    from ..keys.keyfile import write_private
    from .console import say

    if not force:
        outputs.free(output)
    with oo.opened(folder) as home:
        uri = home.totp.enroll(name, issuer=issuer, replace=force)
        if output is not None:
            write_private(output, f"{uri}\n".encode(), force=force)
        else:
            click.echo(uri)
    say("the URI is a secret: whoever has it makes the codes")


@totp.command("check", epilog="""\b
Examples:
  dicomcrypt otp totp check anna -d otp/
  echo "282760" | dicomcrypt otp totp check anna -d otp/

\b
Exit status: 0 right, 3 wrong, used before, or too quick.
""")
@_person
@oo.card
@oo.folder
@opt.hushed
def check_totp(name: str, folder: str | None) -> None:
    """Try out a person's authenticator. The code is used up by it."""
    from ..otp.links import Subject
    from .console import say

    with oo.opened(folder) as home:
        given = oo.entered("a code", "the code")
        with home.context.store.transaction() as tx:
            subject = Subject("", home.persons.registered(tx, name), True)
        home.service.check(subject, {"code": given[0]}, factor="totp")
    say("right")
