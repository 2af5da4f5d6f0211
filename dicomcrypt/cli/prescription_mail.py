"""`dicomcrypt prescription send` and `fetch`: signed mail."""

from __future__ import annotations

import os
from typing import Any

import click

from ..errors import DicomcryptError, DirectoryError, UsageError
from . import auditing
from . import pki_options as pki
from . import prescription_options as rx
from .outcome import exit_status


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription send rx.p7m -k anna.p12 --to loewe@pharmacy.example \\
      --smtp smtp.clinic.example:587
  dicomcrypt prescription send rx.p7m --card --to loewe@pharmacy.example \\
      --smtp smtp.clinic.example:587
  dicomcrypt prescription send receipt.p7m -k paul.p12 --to anna@clinic.example \\
      --smtp 127.0.0.1:2525 --smtp-ca mail-ca.pem
""")
@click.argument("file", metavar="FILE.p7m")
@rx.key
@click.option("--to", required=True, metavar="ADDRESS", help="The patient's or the pharmacy's.")
@click.option("--smtp", required=True, metavar="HOST:PORT",
              help="Mail server; it must offer STARTTLS.")
@click.option("--smtp-ca", metavar="FILE", help="CA certificates for its TLS, PEM; by default the "
              "system's.")
@click.option("--smtp-user", metavar="NAME", help="Log in as this user.")
@click.option("--smtp-password-file", metavar="FILE", help="The password is its first line.")
@click.option("--mail", "keep", metavar="FILE.eml", help="Keep what was sent.")
@pki.sources
@rx.style
def send(
    file: str, key: str | None, passphrase_file: str | None, to: str, smtp: str,
    smtp_ca: str | None, smtp_user: str | None, smtp_password_file: str | None, keep: str | None,
    roots: tuple[str, ...], intermediates: tuple[str, ...], crls: tuple[str, ...],
    require_crl: bool, as_json: bool, quiet: bool,
) -> None:
    """Send a prescription or a receipt as a signed e-mail (S/MIME), over STARTTLS only.

    The mail says who sends it to whom; what is in it only its recipient reads.
    """
    from ..keys.keyfile import read_secret_line
    from ..pki.checking import check_certificate
    from ..prescription import envelope, signed
    from ..prescription import mail as post
    from ..prescription.wire import split_address
    from .console import print_json, say

    if (smtp_user is None) != (smtp_password_file is None):
        raise UsageError("--smtp-user and --smtp-password-file go together")
    host, port = split_address(smtp)
    payload = rx.read_message(file)
    sealed = signed.parse(payload).content if signed.is_signed(payload) else payload
    if not envelope.is_envelope(sealed):
        raise UsageError(f"{file!r} is not encrypted: it is not sent")
    holder = rx.load_holder(key, passphrase_file)
    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    check_certificate(holder.certificate, sources.now(), purpose="sign",
                      intermediates=holder.chain)
    password = read_secret_line(smtp_password_file, "password file") if smtp_password_file else None
    made = post.build(payload, holder, to)
    with auditing.job("prescription.send"):
        post.send(made, host, port, ca=smtp_ca, user=smtp_user, password=password)
    if keep is not None:
        rx.write(keep, made, force=False)
    if as_json:
        print_json({"file": file, "to": to, "bytes": len(made)})
    elif not quiet:
        say(f"{file}: sent to {to}")


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription fetch ~/Maildir -o inbox/
  dicomcrypt prescription fetch ~/Maildir -o inbox/ --for loewe@pharmacy.example --json
""")
@click.argument("maildir", metavar="MAILDIR")
@click.option("-o", "--output", required=True, metavar="FOLDER",
              help="Where attachments go, and what was seen (seen.sqlite).")
@click.option("--for", "recipient", metavar="ADDRESS", help="Only mail that was signed for it.")
@pki.sources
@rx.style
def fetch(
    maildir: str, output: str, recipient: str | None, roots: tuple[str, ...],
    intermediates: tuple[str, ...], crls: tuple[str, ...], require_crl: bool, as_json: bool,
    quiet: bool,
) -> None:
    """Fetch new mail from a mail folder: verify its signature and keep what is attached.

    A mail that came before, and a prescription that came before in another mail, is refused.
    """
    import hashlib

    from ..prescription import mail as post
    from .console import print_json, say

    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    os.makedirs(output, mode=0o700, exist_ok=True)
    rows: list[dict[str, Any]] = []
    causes: list[int] = []
    with auditing.job("prescription.fetch"):
        seen = post.Seen(os.path.join(output, "seen.sqlite"))
        try:
            for mail_path, data in post.new_mails(maildir):
                row: dict[str, Any] = {"mail": mail_path.name, "state": "refused", "file": None,
                                       "checks": []}
                try:
                    mail = post.open_mail(data, sources, recipient=recipient)
                    row["checks"] = [text for _, text in mail.checks]
                    digest = hashlib.sha256(mail.payload).hexdigest()[:32]
                    path = os.path.join(output, f"{digest}.p7m")
                    seen.require_new(mail)
                    rx.write(path, mail.payload, force=True)
                    seen.note(mail)
                    row |= {"state": "fetched", "file": path, "sender": mail.sender}
                except DicomcryptError as error:
                    causes.append(error.exit_status)
                    row["message"] = str(error)
                    if isinstance(error, DirectoryError):
                        rows.append(row)
                        continue  # it may answer the next time
                post.fetched(mail_path)
                rows.append(row)
        finally:
            seen.close()
    if as_json:
        print_json({"mails": rows})
    for row in rows:
        if not as_json and row["state"] == "refused":
            say(f"refused: {row['mail']}: {row['message']}")
        elif not as_json and not quiet:
            say(f"{row['file']}: from {row['sender']}")
            for text in row["checks"]:
                say(f"checked: {text}")
    raise SystemExit(exit_status(causes))
