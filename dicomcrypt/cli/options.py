"""Options that mean the same everywhere, and what they give."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import click

from ..errors import UsageError
from . import outputs, trust
from .console import HUSHED, ask_passphrase

if TYPE_CHECKING:
    from ..keys.signing import Signer
    from ..objects.signing import SignaturePolicy

    # Older versions of click have it without parameters.
    _ShardType = click.ParamType[tuple[int, int], str | tuple[int, int]]
else:
    _ShardType = click.ParamType

METHODS = ["randomized", "aes-transposition", "vigenere", "multilevel", "none"]


class Decorator(Protocol):
    """What `click.option` gives: it takes a function or a command, and returns it."""

    def __call__(self, function: trust.Decorated, /) -> trust.Decorated: ...


def shared(*decorators: Decorator) -> Decorator:
    """Combine options into one decorator, in the order of their mention."""

    def apply(function: trust.Decorated, /) -> trust.Decorated:
        return functools.reduce(lambda f, decorator: decorator(f), reversed(decorators), function)

    return apply


as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Only failures.")


def _hush(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[HUSHED] = value


#: For commands that need not know of it, since all that they tell goes through `console.say`.
hushed = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_hush,
                      help="Only failures.")
output_style = shared(
    as_json, quiet,
    click.option("-v", "--verbose", is_flag=True, help="One line for each file."),
)
passphrase = shared(
    click.option("-p", "--passphrase", "ask", is_flag=True, help="Ask for a passphrase."),
    click.option("--passphrase-file", metavar="FILE", help="Take the passphrase from a file's "
                 "first line (- for standard input)."),
)


_KEPT = "dicomcrypt.option"


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[f"{_KEPT}.{parameter.name}"] = value


def kept_option(*names: str, **more: Any) -> Decorator:
    """An option whose value is in the context, so that every command which has it takes it alike;
    `kept` gives it."""
    return click.option(*names, expose_value=False, callback=_keep, **more)


def kept(name: str) -> Any:
    """Return the value of a kept option, None if the command has it not."""
    context = click.get_current_context(silent=True)
    return context.meta.get(f"{_KEPT}.{name}") if context is not None else None


#: Which card.
card_place = shared(
    kept_option("--reader", metavar="NAME", help="The card's reader, or a part of its name."),
    kept_option("--card-file", metavar="FILE",
                 help="A software card's state, used without reader and card service."),
    kept_option("--card-passphrase-file", metavar="FILE", help="Take the passphrase of "
                 "--card-file from a file's first line instead of asking."),
)
#: A second card.
other_card = shared(
    kept_option("--other-reader", metavar="NAME", help="The second card's reader, or a part of "
                 "its name."),
    kept_option("--other-card-file", metavar="FILE", help="A software card's state as the second "
                 "card."),
    kept_option("--other-card-passphrase-file", metavar="FILE", help="Take the passphrase of "
                 "--other-card-file from a file's first line instead of asking."),
)
last_try = kept_option("--last-try", is_flag=True, help="Use the last try of a card's PIN or the "
                        "last use of its PUK: it may be blocked then.")
#: The PIN of a token or card.
pin = shared(
    kept_option("--pin-file", metavar="FILE", help="Take the PIN of a token or card from a file's "
                 "first line; otherwise it is asked for."),
    last_try,
)
#: The card of a patient, beside one's own.
patient_reader = kept_option("--patient-reader", metavar="NAME",
                              help="The reader, or a part of its name, with the patient's card.")
patient_card = shared(
    patient_reader,
    kept_option("--patient-card-file", metavar="FILE",
                 help="The patient's software card, in place of --patient-reader."),
    kept_option("--patient-card-passphrase-file", metavar="FILE", help="Take its passphrase from "
                 "a file's first line instead of asking."),
    kept_option("--patient-pin-file", metavar="FILE", help="Take the PIN of the patient's card "
                 "from a file's first line; otherwise it is asked for, on the reader's keys if it "
                 "has some."),
)
card_recipient = shared(
    kept_option("--card", is_flag=True,
                 help="A recipient is the card in a reader, by its certificate."),
    card_place,
)
#: A card in place of a key's file.
card = shared(
    kept_option("--card", is_flag=True,
                 help="The key is that of the card in a reader. Its PIN is asked for once."),
    card_place,
)
identity = shared(
    click.option("-i", "--identity", "identity_files", multiple=True, metavar="FILE|URI",
                 help="Identity: a key file (ours, PEM, DER, PKCS #12), or a pkcs11: URI; "
                 "repeatable."),
    card, passphrase, pin,
)


def card_wanted(whose: str = "") -> bool:
    """Whether a command that may use a card was told to. whose: "" for one's own, "patient_" or
    "other_". With --sign-card one's own must be said by --card: which card it is may be about the
    signer alone."""
    what = ("card",) if not whose and kept("sign_card") else ("card", "reader", "card_file")
    return any(kept(f"{whose}{word}") for word in what)


def by_identity(identity_files: tuple[str, ...]) -> bool:
    """Whether an identity was given that is no passphrase."""
    return bool(identity_files) or card_wanted()


RECIPIENT = "FILE|@GROUP|EMAIL"
jobs = click.option("-j", "--jobs", type=click.IntRange(1, 256), metavar="N",
                    help="Processes; by default one a processor.")


class Shard(_ShardType):
    """K/N: the part of a tree that a job does."""

    name = "K/N"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None,
        context: click.Context | None,
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, count = value.partition("/")
        if number.isascii() and count.isascii() and number.isdigit() and count.isdigit():
            shard = int(number), int(count)
            if 1 <= shard[0] <= shard[1] <= 1 << 20:
                return shard
        self.fail(f"{value!r}: give K/N with 1 <= K <= N, such as 1/4", param, context)


shard = click.option("--shard", type=Shard(), metavar="K/N",
                     help="Do only part K of N of a tree, the same files each time: several "
                     "machines share one job.")
#: Where trees are done: here, or on a cluster (`cli.cluster`).
engine = shared(
    kept_option("--engine", type=click.Choice(["local", "dask"]), default="local",
                 show_default=True, help="Where folders are done: on this machine, or on the "
                 "workers of a Dask cluster (docs/cluster.md)."),
    kept_option("--scheduler", metavar="URL",
                 help="The cluster's scheduler, tcp://HOST:PORT or tls://HOST:PORT."),
    kept_option("--dask-ca", metavar="FILE", help="Certificate of the cluster's authority, for "
                 "tls://; without this, --dask-cert and --dask-key, Dask's configuration tells."),
    kept_option("--dask-cert", metavar="FILE", help="This machine's certificate for tls://."),
    kept_option("--dask-key", metavar="FILE", help="Its private key."),
    kept_option("--secrets-in-clear", is_flag=True, help="Send keys to a scheduler at tcp:// on "
                 "a network that nobody else can read."),
)
shards = kept_option("--shards", type=click.IntRange(1, 1 << 20), metavar="N",
                      help="In how many parts a cluster does a folder; by default four for each "
                      "thread of its workers.")
worker_identity = kept_option(
    "--worker-identity", multiple=True, metavar="FILE", help="Identity file that a cluster's "
    "workers read, at this place on each of them: no key travels; repeatable.")
journal = click.option("--journal", metavar="FILE",
                       help="Where a tree's journal lies; by default beside the output. It holds "
                       "no names, and goes when the job is done.")
no_sync = click.option("--no-sync", is_flag=True,
                       help="Do not wait until outputs are on the medium: a failure of power may "
                       "leave cut files under final names.")
dry_run = click.option("--dry-run", is_flag=True,
                       help="Say what would be done, and write nothing.")
force = shared(
    outputs.spare_inputs,
    click.option("-f", "--force", is_flag=True, help="Overwrite what exists."),
)
classical = shared(
    click.option("--allow-classical", is_flag=True,
                 help="Allow classical recipients (X25519, P-256, RSA...) beside post-quantum "
                 "ones."),
    click.option("--allow-mixed", is_flag=True, help="Allow a passphrase beside recipients."),
)
kdf = click.option("--kdf", type=click.Choice(["argon2id", "scrypt"]), default="argon2id",
                   show_default=True, help="How a passphrase becomes a key.")


sign_with = shared(
    click.option("--sign-with", metavar="FILE", help="Sign every object with the key and "
                 "certificate of a PKCS#12 or PEM file; readers verify that then."),
    click.option("--sign-passphrase-file", metavar="FILE", help="Take the passphrase of "
                 "--sign-with from a file's first line instead of asking for it."),
    trust.option,
)
#: For commands that can use a card, and sign objects one by one.
sign_card = kept_option("--sign-card", is_flag=True, help="Sign every object with the card in a "
                         "reader. Its PIN is asked for once.")
signatures = shared(
    click.option("--require-signature", is_flag=True,
                 help="Refuse objects that are not signed: a signature can be taken away."),
    click.option("--signer", "signers", multiple=True, metavar="FILE", help="Certificate or public "
                 "key of who must have signed; one of them, if repeated."),
    trust.option,
)


def load_signer(path: str | None, passphrase_file: str | None) -> Signer | None:
    """Return the signer of --sign-with or --sign-card, None if there is none."""
    if kept("sign_card"):
        if path is not None or passphrase_file is not None:
            raise UsageError("--sign-card and --sign-with: give one of them")
        from .card_options import load_card_signer

        return load_card_signer()
    if path is None:
        if passphrase_file is not None:
            raise UsageError("--sign-passphrase-file is of use with --sign-with only")
        return None
    from ..keys.signing import Signer

    def passphrase() -> str:
        if passphrase_file is None:
            click.echo(f"the signing key {path!r} is under a passphrase", err=True)
        return needed_passphrase(False, passphrase_file, confirm=False)

    signer = Signer.load(path, passphrase=passphrase)
    trust.check_signer(signer)
    return signer


def load_signature_policy(require: bool, signers: tuple[str, ...]) -> SignaturePolicy:
    """Return what --require-signature and --signer demand."""
    from ..objects.signing import signature_policy

    # A signer who is given needs nobody to vouch for him.
    if not signers:
        if require:
            trust.remark_unknown_signers()
        return signature_policy(require, check=trust.signature_check())
    from ..keys.signing import load_signer_keys

    return signature_policy(require, [key for path in signers for key in load_signer_keys(path)])


def read_passphrase(ask: bool, passphrase_file: str | None, *, confirm: bool) -> str | None:
    """Return the passphrase of the options, None if they want none."""
    if not ask and passphrase_file is None:
        return None
    return needed_passphrase(ask, passphrase_file, confirm=confirm)


def needed_passphrase(ask: bool, passphrase_file: str | None, *, confirm: bool) -> str:
    """Return the passphrase of the options; without one it is asked for."""
    if ask and passphrase_file is not None:
        raise UsageError("--passphrase asks, --passphrase-file does not: give one of them")
    if passphrase_file is not None:
        from ..keys.keyfile import secret_line

        name = f"passphrase file {passphrase_file!r}"
        try:
            # utf-8-sig: editors on Windows put a mark before the text
            with click.open_file(passphrase_file, "r", encoding="utf-8-sig") as file:
                return secret_line(file, name)
        except OSError as error:
            raise UsageError(f"cannot read {name}: {(error.strerror or '').lower()}") from None
    return ask_passphrase(confirm=confirm)


def load_identity_files(
    files: tuple[str, ...], ask: bool, passphrase_file: str | None
) -> list[Any]:
    """Return the identities of -i, --card and -p.

    A passphrase opens sealed and encrypted identity files if -i names one, objects otherwise."""
    from .. import api
    from ..keys.passphrase import Passphrase
    from ..keys.permission import remark_identities
    from ..keys.references import identities
    from ..policy import listen
    from .console import complain

    listen(complain)

    if not files and not ask and passphrase_file is None and not card_wanted():
        raise UsageError("no identity: give --identity FILE, --card or --passphrase")
    found: list[Any] = []
    entered: list[str] = []
    used: list[bool] = []

    def entered_passphrase() -> str:
        if not entered:
            entered.append(needed_passphrase(ask, passphrase_file, confirm=False))
        return entered[0]

    def of_key() -> str:
        used.append(True)
        return entered_passphrase()

    def open_sealed(blob: bytes) -> bytes:
        return api.decrypt(blob, [Passphrase(of_key())])

    for reference in files:
        one_source_of_pin(reference)
        found += identities(reference, open_sealed=open_sealed, passphrase=of_key, pin=read_pin)
    if (ask or passphrase_file is not None) and not used:
        found.append(Passphrase(entered_passphrase()))
    if card_wanted():
        from .card_options import load_identity

        found.append(load_identity())
    remark_identities(found)
    trust.remark_identities(found)
    return found


def one_source_of_pin(reference: str) -> None:
    """Refuse --pin-file beside a URI that says itself where its PIN is."""
    from ..keys.references import scheme

    if kept("pin_file") is None or scheme(reference) != "pkcs11" or os.path.lexists(reference):
        return
    from ..keys.tokenuri import parse

    if parse(reference).pin_file is not None:
        raise UsageError("--pin-file and the pin-source of a pkcs11: URI: give one of them")


def read_pin(token: str) -> str:
    """Return the PIN of a token, from --pin-file or the terminal."""
    from ..keys.keyfile import read_secret_line
    from .console import ask_secret

    file = kept("pin_file")
    if file is not None:
        return read_secret_line(file, "PIN file")
    return ask_secret(f"PIN of token {token!r}", "give --pin-file FILE")


def find_email(address: str) -> list[Any]:
    """Return the certificates that the configured directories have for an address; of those
    that do not pass, the next directory's count."""
    from .. import config
    from ..pki.directory import find_by_email

    if not config.section("directories"):
        raise UsageError(f"cannot look up {address!r}: no directory is known; describe one as "
                         "[directories.NAME] in the configuration")
    return find_by_email(address, check=trust.directory_check())


def load_recipient_files(references: Sequence[str], *, valid: bool = True) -> list[Any]:
    """Return the recipients of all references (`keys.references`), each once.

    valid: certificates must be, as `trust` says."""
    from ..keys.references import References, each_once
    from .console import ask_secret

    def passphrase() -> str:
        # --passphrase and --passphrase-file are for the object, not for this.
        return ask_secret("passphrase of the PKCS #12 file of a recipient",
                          "take the certificate out of it (openssl pkcs12 -clcerts -nokeys)")

    resolver = References(passphrase=passphrase, find_email=find_email)
    found = [r for reference in references for r in resolver.recipients(reference)]
    if valid:
        trust.check_recipients(found)
    return each_once(found)


def configured_recipients(key: str) -> list[str]:
    """Return the references under `[recipients] key` of the configuration."""
    from .. import config
    from ..keys.references import configured

    return [configured(name) for name in config.names("recipients", key)]


def one_use_of_standard_input(inputs: tuple[str, ...], other: str | None) -> None:
    """Refuse to read both the data and the passphrase from standard input."""
    if other == "-" and "-" in inputs:
        raise UsageError("standard input cannot give both the data and the passphrase")
