"""Options that several commands of `prescription` share, and what they give."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import options as opt
from . import pki_options as pki

if TYPE_CHECKING:
    from cryptography import x509

    from ..prescription.holders import Holder
    from ..prescription.opening import Opened, Sources
    from ..prescription.register import Client

key = opt.shared(
    click.option("-k", "--key", metavar="FILE",
                 help="Private key with its certificate: PKCS#12, or PEM with both."),
    click.option("--passphrase-file", metavar="FILE",
                 help="Take the key's passphrase from a file's first line instead of asking."),
    opt.card, opt.pin,
)
identity = opt.shared(
    click.option("-i", "--identity", metavar="FILE",
                 help="Key to decipher with, if it is another than --key: the patient's, say."),
    click.option("--identity-passphrase-file", metavar="FILE",
                 help="Take its passphrase from a file's first line."),
)
#: What tells recipients.
CERTIFICATE = "CERT|EMAIL"
reading = opt.shared(
    click.option("--signer", metavar="FILE", help="The doctor's certificate, if it is not inside; "
                 "otherwise it is looked for in the configured directories."),
    click.option("--patient-certificate", metavar="FILE",
                 help="The patient's certificate, as it stands on the card, to verify the "
                 "patient's signature."),
    click.option("--identity-document", metavar="TEXT", default="",
                 help="Record the document that the patient showed, in place of that "
                 "certificate: the patient's signature is then not verified."),
    opt.patient_card,
)
register = opt.shared(
    click.option("--register", metavar="HOST:PORT", help="The register's address."),
    click.option("--tls-identity", metavar="FILE",
                 help="Key, certificate and chain for TLS, PEM."),
    click.option("--tls-passphrase-file", metavar="FILE",
                 help="Take their passphrase from a file's first line."),
)
style = opt.shared(opt.as_json, opt.quiet)


def load_holder(path: str | None, passphrase_file: str | None, *, purpose: str = "sign") -> Holder:
    """Return the holder of a key file, or of the card of the options."""
    return load_holders(path, passphrase_file, purpose)[0]


def load_holders(path: str | None, passphrase_file: str | None, *purposes: str) -> list[Holder]:
    """Return the holders of a key file for these purposes, or of the card of the options: its
    passphrase or PIN is asked for once, that of a card when the key is used."""
    if opt.card_wanted():
        if path is not None or passphrase_file is not None:
            raise UsageError("--key and --card: give one of them")
        return _card_holders("", *purposes)
    if path is None:
        raise UsageError("with whose key? give --key FILE or --card")
    if opt.kept("pin_file") is not None:
        raise UsageError("--pin-file is of use with --card only")
    return load_key(path, passphrase_file, *purposes)


def load_key(path: str, passphrase_file: str | None, *purposes: str) -> list[Holder]:
    """Return the holders of a key file for these purposes; its passphrase is asked for once."""
    from ..prescription.holders import Holder

    ask = functools.cache(pki.asker(False, passphrase_file))
    return [Holder.load(path, ask, purpose=purpose) for purpose in purposes]


def _card_holders(whose: str, *purposes: str) -> list[Holder]:
    from ..prescription.cards import card_holder
    from .card_options import give_pin, open_card

    session = open_card(whose=whose)
    ready = functools.partial(give_pin, session, whose)
    return [card_holder(session, purpose, ready) for purpose in purposes]


def load_patient_card() -> list[Holder]:
    """Return who signs and who deciphers with the patient's card of the options, nobody if there is
    none. The patient's PIN is asked for when the key is used, if it is."""
    return _card_holders("patient_", "sign", "decrypt") if opt.card_wanted("patient_") else []


def load_sources(
    roots: Sequence[str], intermediates: Sequence[str], crls: Sequence[str], require_crl: bool,
    *, lasting: bool = False,
) -> Sources:
    """Return what is trusted and the configured directories. lasting: for a process that runs on,
    and reads the files again."""
    from .. import config
    from ..prescription.opening import Sources

    load = functools.partial(pki.load_trust, roots, intermediates, crls, require_crl)
    directories = None
    if config.section("directories"):
        from ..pki.directory import configured

        directories = configured()
    return Sources(load(), directories, load if lasting else None)


def load_certificates(path: str | None) -> Sequence[x509.Certificate]:
    """Return the certificates of a file, the holder's first; none without a file."""
    from ..pki import files

    return files.load_certificates(path) if path is not None else ()


def load_recipients(reference: str | None, sources: Sources) -> Sequence[x509.Certificate]:
    """Return the certificates of a file, the recipient's first; or that of an e-mail address from
    the configured directories, the first that is good to encrypt to. None without a reference."""
    import os

    from ..pki.checking import check_certificate

    if reference is None or "@" not in reference or os.path.lexists(reference):
        return load_certificates(reference)
    if sources.directories is None:
        raise UsageError(f"cannot look up {reference!r}: no directory is known; describe one as "
                         "[directories.NAME] in the configuration")
    trust = sources.now()
    check = functools.partial(check_certificate, trust=trust, purpose="encrypt")
    return sources.directories.find_by_email(reference, check).require().found[:1]


def load_register(
    address: str, identity: str | None, passphrase_file: str | None, sources: Sources
) -> Client:
    """Return the register at an address."""
    from ..prescription.register import Client
    from ..prescription.wire import tls_context

    if identity is None:
        raise UsageError("the register is asked over TLS: give --tls-identity FILE")
    context = tls_context(identity, sources.trust, server=False,
                          passphrase=pki.asker(False, passphrase_file))
    return Client(address, context, sources.judge)


def read_message(path: str) -> bytes:
    """Read a prescription, receipt or signed document."""
    from ..pki.files import read
    from ..prescription.signed import MAX_MESSAGE

    return read(path, "prescription", MAX_MESSAGE)


def write(path: str, data: bytes, *, force: bool) -> None:
    """Write a file that only its owner may read: patients' data, or what protects them."""
    from ..objects.atomic import AtomicFile

    with AtomicFile(path, force=force) as file:
        file.raw.write(data)
        file.commit(mode=0o600)


def each_its_own(*paths: str | None) -> None:
    """Raise UsageError if two of what is read and written are one file: one would replace the
    other."""
    import os

    given = [os.path.realpath(path) for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise UsageError("what is read and what is written are to be different files, each its own")


def say_checks(checks: Iterable[tuple[str, str]], remarks: Iterable[str] = ()) -> None:
    """A sentence for each check."""
    from .console import say

    for _, sentence in checks:
        say(f"checked: {sentence}")
    for remark in remarks:
        say(f"note: {remark}")


def show_text(text: str) -> None:
    """What a patient is to read, in lines."""
    from .console import printable

    for line in text.splitlines():
        click.echo(printable(line))


def show(opened: Opened, *, as_json: bool, quiet: bool, **more: Any) -> None:
    """A prescription that was opened, and what was checked."""
    from ..prescription.rendering import as_text
    from .console import print_json

    if as_json:
        print_json(opened.as_json() | more)
        return
    if not quiet:
        say_checks(opened.checks, opened.remarks)
    click.echo(as_text(opened.prescription), nl=False)
