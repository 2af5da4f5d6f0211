"""Options that several commands of `pki` share, and what they give."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import CertificateRefusedError, UsageError
from . import options as opt

ROLES = ["physician", "pharmacist", "patient", "hospital", "insurance", "application"]
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


if TYPE_CHECKING:
    from ..pki.checking import Trust

    # Older versions of click have it without parameters.
    _SerialType = click.ParamType[int, str | int]
else:
    _SerialType = click.ParamType


class Serial(_SerialType):
    """A serial number in hexadecimal, as openssl and `pki list` print it."""

    name = "SERIAL"

    def convert(
        self, value: str | int, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        digits = value.replace(":", "").removeprefix("0x")
        if 0 < len(digits) <= 40 and not digits.strip("0123456789abcdefABCDEF"):
            return int(digits, 16)
        self.fail(f"{value!r} is no serial number in hexadecimal", param, context)


ca = click.option("--ca", "folder", required=True, metavar="FOLDER", help="The authority's folder.")
role = click.option("--role", type=click.Choice(ROLES), help="What the holder is.")
dates = opt.shared(
    click.option("--begin", type=click.DateTime(_DATES), metavar="DATE",
                 help="Validation begin, UTC; by default now."),
    click.option("--end", type=click.DateTime(_DATES), metavar="DATE", help="Validation end, UTC."),
    click.option("--days", type=click.IntRange(1, 18250), metavar="N",
                 help="Length of validity, in place of --end."),
)
holder = opt.shared(
    click.option("--name", metavar="TEXT", help="Surname, or the name of what is no person."),
    click.option("--first-name", metavar="TEXT", help="Of a person."),
    click.option("--organisation", metavar="TEXT", help="Where the holder belongs to."),
    click.option("--department", metavar="TEXT", help="A part of the organisation."),
    click.option("--email", metavar="ADDRESS", help="By which others find the certificate."),
)
sources = opt.shared(
    click.option("--root", "roots", multiple=True, metavar="FILE",
                 help="Certificate of a trusted root; repeatable. By default those of section "
                 "[trust] of the configuration."),
    click.option("--intermediate", "intermediates", multiple=True, metavar="FILE",
                 help="Certificates between; repeatable."),
    click.option("--crl", "crls", multiple=True, metavar="FILE",
                 help="Revocation list; repeatable."),
    click.option("--require-crl", is_flag=True,
                 help="Refuse what cannot be checked for revocation."),
)
trust = opt.shared(
    sources,
    click.option("--at", "moment", type=click.DateTime(_DATES), metavar="DATE",
                 help="Judge as of this moment, UTC; by default now."),
)


def utc(moment: datetime | None) -> datetime | None:
    """Return the moment of an option, which is given in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def span(
    begin: datetime | None, end: datetime | None, days: int | None
) -> tuple[datetime | None, datetime | None]:
    """Return begin and end of --begin, --end and --days."""
    begin, end = utc(begin), utc(end)
    if days is None:
        return begin, end
    if end is not None:
        raise UsageError("--end and --days say the same: give one of them")
    start = begin if begin is not None else datetime.now(UTC)
    try:
        return begin, start + timedelta(days=days)
    except OverflowError:
        raise UsageError("dates of certificates are of the years 1950 to 9999") from None


def asker(ask: bool, passphrase_file: str | None) -> Callable[[], str]:
    """Return what gives a passphrase when one is needed, and asks if no file has it."""
    return functools.partial(opt.needed_passphrase, ask, passphrase_file, confirm=False)


def load_trust(
    roots: Sequence[str], intermediates: Sequence[str], crls: Sequence[str], require_crl: bool
) -> Trust:
    """Return the trust of the options, or of the configuration if they name no root."""
    from ..pki.checking import Trust

    if roots:
        return Trust.from_files(roots, intermediates, crls, require_crl=require_crl)
    told = Trust.from_config()
    if not told.roots:
        raise UsageError("no trusted root: give --root FILE, or name one in section [trust] of "
                         "the configuration")
    given = Trust.from_files((), intermediates, crls)
    return Trust(told.roots, told.intermediates + given.intermediates, told.crls + given.crls,
                 told.require_crl or require_crl)


def tell_refused(error: CertificateRefusedError, as_json: bool) -> NoReturn:
    """End a command that was to say whether a certificate is taken: it is not."""
    from .console import complain, print_json

    if as_json:
        print_json({"valid": False, "reason": error.reason, "sentence": str(error)})
    else:
        complain(str(error))
    sys.exit(error.exit_status)


@contextlib.contextmanager
def delivered(
    path: str, content: Callable[[Any], bytes], *, force: bool
) -> Iterator[Callable[[Any], None]]:
    """Open the file that something issued goes to, before it is issued, and give what fills it.

    It gets its name when everything inside went well: nothing is issued that nobody gets."""
    from ..objects.atomic import AtomicFile, default_mode

    with AtomicFile(path, force=force) as file:

        def deliver(issued: Any) -> None:
            file.raw.write(content(issued))
            os.fsync(file.descriptor)

        yield deliver
        file.commit(mode=default_mode())
