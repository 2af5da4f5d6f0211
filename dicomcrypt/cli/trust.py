"""Certificates that a command is given, judged by the roots that are trusted.

Recipients by certificate must be valid; they, signers and what they signed must lead to a root
where there are any: section [trust] of the configuration, --trust-root, --trust-intermediate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import CertificateRefusedError, DamagedError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

    from ..keys.signing import Signer
    from ..pki.checking import Trust

#: A command, or the function that is to be one.
Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)

_GIVEN, _TRUST, _SAID = (f"dicomcrypt.trust.{what}" for what in ("given", "trust", "said"))


def _keep(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    context.meta[f"{_GIVEN}.{parameter.name}"] = value


def option(command: Decorated, /) -> Decorated:
    """The options --trust-root and --trust-intermediate."""
    between = click.option(
        "--trust-intermediate", multiple=True, metavar="FILE", expose_value=False, callback=_keep,
        help="Certificate of an authority between those and a root, where it does not come with "
        "them; repeatable.",
    )  # fmt: skip
    root = click.option(
        "--trust-root", multiple=True, metavar="FILE", expose_value=False, callback=_keep,
        help="Root certificate to which the certificates of recipients and signers must lead, "
        "beside [trust] roots of the configuration; repeatable.",
    )  # fmt: skip
    return root(between(command))


def trusted() -> Trust | None:
    """Return what is trusted, None if nobody said so."""
    from .. import config

    context = click.get_current_context(silent=True)
    meta: dict[str, Any] = {} if context is None else context.meta
    if _TRUST not in meta:
        given = meta.get(f"{_GIVEN}.trust_root", ())
        between = meta.get(f"{_GIVEN}.trust_intermediate", ())
        found: Trust | None = None
        if given or between or config.section("trust"):
            from ..pki.checking import Trust

            told, more = Trust.from_config(), Trust.from_files(given, between)
            roots = told.roots + more.roots
            if not roots and (told.crls or told.require_crl):
                raise UsageError("configuration: [trust] has crls or require_crl, but no roots: "
                                 "nothing would be checked; name roots, or give --trust-root FILE")
            if roots:
                found = Trust(roots, told.intermediates + more.intermediates, told.crls,
                              told.require_crl)
        meta[_TRUST] = found
    trust: Trust | None = meta[_TRUST]
    return trust


def check_recipients(recipients: Iterable[Any]) -> None:
    """Raise CertificateRefusedError for the first recipient whose certificate is not valid.

    Without a root its dates and its use are judged, and it is said that the rest is not."""
    certified = [r for r in recipients if getattr(r, "certificate", None) is not None]
    if not certified:
        return
    from ..pki.checking import Trust, check_certificate

    trust = trusted()
    for recipient in certified:
        check_certificate(
            recipient.certificate, trust or Trust((recipient.certificate,)), purpose="encrypt",
            intermediates=recipient.chain,
        )  # fmt: skip
    if trust is None:
        _say_once("nobody vouches for the recipients' certificates: name a root under [trust] in "
                  "the configuration, or give --trust-root FILE")


def remark_identities(identities: Iterable[Any]) -> None:
    """Say what is wrong with a key's certificate, if it is that it has expired or anything else:
    what was encrypted to it once can be read still."""
    from .console import complain

    for identity in identities:
        recipient = getattr(identity, "recipient", None)
        certificate = getattr(recipient, "certificate", None)
        if recipient is not None and certificate is not None:
            from ..pki.checking import Trust, check_certificate

            trust = trusted() or Trust((certificate,))
            try:
                remarks = check_certificate(certificate, trust, purpose="decrypt",
                                            intermediates=recipient.chain).remarks
            except (CertificateRefusedError, DamagedError) as error:
                remarks = [str(error).rpartition(": ")[0] or str(error)]  # without advice
            for remark in remarks:
                if "revocation" not in remark and "not revoked" not in remark:
                    complain(f"{remark}; old data can still be decrypted")


def check_signer(signer: Signer) -> None:
    """Raise CertificateRefusedError if the certificate of --sign-with is not one to sign with, or
    leads to no root where there are any."""
    from ..pki.checking import Trust, check_certificate

    trust = trusted() or Trust((signer.certificate,))
    check_certificate(signer.certificate, trust, purpose="sign", intermediates=signer.chain)


def remark_unknown_signers() -> None:
    """Say that a signature which anybody can make is all that is demanded, if it is."""
    if trusted() is None:
        _say_once("nobody vouches for signers: --require-signature is met by anybody's own "
                  "certificate; say whose by --signer FILE or --trust-root FILE", in_json=True)


def signature_check() -> Callable[[Any], None] | None:
    """Return what judges the signers of objects, None if nobody is trusted."""
    trust = trusted()
    if trust is None:
        return None
    from ..pki.signers import SignerCheck

    return SignerCheck(trust)


def directory_check() -> Callable[[x509.Certificate], object] | None:
    """Return what judges certificates that a directory gave, None if nobody is trusted."""
    trust = trusted()
    if trust is None:
        return None
    from ..pki.checking import check_certificate

    return lambda certificate: check_certificate(certificate, trust, purpose="encrypt")


def _say_once(message: str, *, in_json: bool = False) -> None:
    from .console import HUSHED, complain

    context = click.get_current_context(silent=True)
    if context is None:
        return
    options, said = context.params, context.meta.setdefault(_SAID, set())
    quiet = options.get("quiet") or context.meta.get(HUSHED)
    silent = quiet or (options.get("as_json") and not in_json)
    if message not in said and not silent:
        complain(message)
    said.add(message)
