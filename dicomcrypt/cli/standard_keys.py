"""Recipients and keys of CMS messages from the options of commands."""

from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError
from . import options as opt

classic = click.option("--classic", is_flag=True, help="RSA by PKCS #1 v1.5 instead of OAEP, for "
                       "readers that know no other.")


def load_cms_recipients(
    references: tuple[str, ...], ask: bool, passphrase_file: str | None, *, classic: bool = False
) -> list[Any]:
    """Return the recipients of -r and -p; raises UsageError for none, and for keys without a
    certificate: CMS names recipients by it."""
    from ..standard.cms_envelope import CertificateRecipient
    from ..standard.cms_password import PasswordRecipient

    found: list[Any] = []
    for recipient in opt.load_recipient_files(references):
        certificate = getattr(recipient, "certificate", None)
        if certificate is None:
            raise UsageError("the standard's files are for certificates, and a recipient is a bare "
                             "key: give its certificate")
        found.append(CertificateRecipient(certificate, classic=classic))
    password = opt.read_passphrase(ask, passphrase_file, confirm=ask)
    if password is not None:
        found.append(PasswordRecipient(password.encode()))
    if not found:
        raise UsageError("no recipient: give --recipient CERTIFICATE or --passphrase")
    return found


def load_cms_opening(files: tuple[str, ...], ask: bool, passphrase_file: str | None) -> Any:
    """Return who opens messages: the private keys of -i, with the certificates beside them, and
    the passphrase of -p, which opens encrypted key files if -i names one, messages otherwise."""
    from ..keys import x509
    from ..keys.keyfile import looks_foreign, naming, read_key_file
    from ..standard.cms_envelope import opening_of

    if not files and not ask and passphrase_file is None:
        raise UsageError("no identity: give --identity FILE or --passphrase")
    entered: list[str] = []
    used: list[bool] = []

    def passphrase() -> str:
        if not entered:
            text = opt.read_passphrase(ask or passphrase_file is None, passphrase_file,
                                       confirm=False)
            entered.append(text or "")
        return entered[0]

    def of_key() -> str:
        used.append(True)
        return passphrase()

    keys: list[Any] = []
    certificates: list[Any] = []
    for path in files:
        with naming("identity", path):
            data = read_key_file(path)
            if not looks_foreign(data):
                raise UsageError("the standard's files are opened with a private key in PEM, DER "
                                 "or PKCS #12")
            found = x509.read(data, of_key, private=True)
        keys += found.private_keys
        certificates += found.certificates
    if files and not keys:
        raise UsageError("no private key is in the files of --identity")
    passwords = []
    if (ask or passphrase_file is not None) and not used:
        passwords.append(passphrase().encode())
    return opening_of(keys, certificates, passwords)
