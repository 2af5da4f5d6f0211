"""Options of `standard` for CMS, and what they give: recipients and private keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import options as opt
from . import trust

if TYPE_CHECKING:
    from cryptography import x509

recipients = opt.shared(
    click.option("-r", "--recipient", "recipient_files", multiple=True, metavar=opt.RECIPIENT,
                 help="Certificate of who may read it (RSA, P-256, P-384, P-521); repeatable."),
    opt.card_recipient, opt.passphrase,
    click.option("--classic", is_flag=True,
                 help="RSA PKCS #1 v1.5 instead of OAEP, for readers that know no other."),
    click.option("--cipher", type=click.Choice(["aes-256-gcm", "aes-256-cbc"]),
                 default="aes-256-gcm", show_default=True,
                 help="CBC, which notices no change, for readers that know no other."),
    trust.option,
)
identity = opt.shared(
    click.option("-i", "--identity", "identity_files", multiple=True, metavar="FILE|URI",
                 help="Private key (PEM, DER, PKCS #12), best with its certificate, or a pkcs11: "
                 "URI; repeatable."),
    opt.card, opt.passphrase, opt.pin,
)


def load_cms_recipients(
    files: tuple[str, ...], ask: bool, passphrase_file: str | None, *, classic: bool
) -> list[Any]:
    """Return CMS recipients by certificate and by password (`standard.cms_envelope`)."""
    from ..standard.cms_envelope import CertificateRecipient

    found: list[Any] = []
    loaded = opt.load_recipient_files(files)
    if opt.card_wanted():
        from .card_options import load_recipient

        loaded.append(load_recipient())
    for recipient in loaded:
        if getattr(recipient, "certificate", None) is None:
            raise UsageError("CMS names recipients by certificate: a public key alone will not do; "
                             "`dicomcrypt pki` makes certificates")
        found.append(CertificateRecipient(recipient.certificate, classic=classic))
    passphrase = opt.read_passphrase(ask, passphrase_file, confirm=True)
    if passphrase is not None:
        from ..standard.cms_password import PasswordRecipient

        found.append(PasswordRecipient(passphrase.encode()))
    if not found:
        raise UsageError("no recipient: give --recipient CERTIFICATE, --card or --passphrase")
    return found


def load_opening(files: tuple[str, ...], ask: bool, passphrase_file: str | None) -> Any:
    """Return the private keys of files of other programs (PEM, DER, PKCS #12), of tokens and of
    --card, or the password.

    The passphrase opens key files that need one if there are files, messages otherwise."""
    from ..keys import keyfile
    from ..keys.references import scheme
    from ..keys.x509 import read
    from ..standard.cms_envelope import opening_of

    entered: list[str] = []

    def passphrase_of_key() -> str:
        if not entered:
            entered.append(opt.needed_passphrase(ask, passphrase_file, confirm=False))
        return entered[0]

    keys: list[Any] = []
    certificates: list[x509.Certificate] = []
    passwords: list[bytes] = []
    for path in files:
        if not os.path.lexists(path) and scheme(path) == "pkcs11":
            from ..standard.cms_token import load_token_key

            opt.one_source_of_pin(path)
            of_token, own = load_token_key(path, opt.read_pin)
            keys.append(of_token)
            certificates += own
            continue
        data = keyfile.read_key_file(path)
        with keyfile.naming("identity file", path):
            if not keyfile.looks_foreign(data):
                raise UsageError("CMS needs a private key in PEM, DER or PKCS #12")
            found = read(data, passphrase_of_key, lenient=True)
        keys += found.private_keys
        certificates += found.certificates
    if opt.card_wanted():
        from .card_options import load_private_key

        of_card, own = load_private_key()
        keys.append(of_card)
        certificates += own
    if not files:
        passphrase = opt.read_passphrase(ask, passphrase_file, confirm=False)
        if passphrase is not None:
            passwords.append(passphrase.encode())
    if not keys and not passwords:
        raise UsageError("no private key in the identity files" if files else
                         "no identity: give --identity FILE, --card or --passphrase")
    return opening_of(keys, certificates, passwords)


def stays_here(opening: Any) -> bool:
    """Whether an opening has a key that other processes cannot use: of a token or card."""
    return not all(type(key.private).__module__.startswith("cryptography.")
                   for key in opening.keys)
