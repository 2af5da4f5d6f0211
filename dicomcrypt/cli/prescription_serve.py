"""`dicomcrypt prescription register serve` and `patient-agent`: processes that answer others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ..errors import PolicyError
from . import options as opt
from . import pki_options as pki
from . import prescription_options as rx

if TYPE_CHECKING:
    from ssl import SSLContext

    from ..prescription.holders import Holder
    from ..prescription.opening import Sources


@click.group(epilog="""\b
Examples:
  dicomcrypt prescription register serve --listen 127.0.0.1:8443 --database register.sqlite \\
      --tls-identity register.pem --root root.crt
""")
def register() -> None:
    """The register of what was dispensed or cancelled."""


@register.command(epilog="""\b
Examples:
  dicomcrypt prescription register serve --listen 127.0.0.1:8443 --database register.sqlite \\
      --tls-identity register.pem --root root.crt
""")
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT",
              help="Where it is asked.")
@click.option("--database", required=True, metavar="FILE", help="SQLite, made if it is not there.")
@click.option("--tls-identity", required=True, metavar="FILE",
              help="Key, certificate and chain for TLS, PEM.")
@click.option("--tls-passphrase-file", metavar="FILE",
              help="Take their passphrase from a file's first line.")
@pki.sources
@opt.hushed
def serve(
    listen: str, database: str, tls_identity: str, tls_passphrase_file: str | None,
    roots: tuple[str, ...], intermediates: tuple[str, ...], crls: tuple[str, ...],
    require_crl: bool,
) -> None:
    """Answer until interrupted, over TLS 1.3 with certificates on both sides.

    It stores hashes of serial numbers and a status, no names. Whoever may dispense or cancel is
    judged by signed statements, and by the roots that are trusted here.
    """
    from ..prescription.register import LIMIT, Register
    from ..prescription.wire import Server

    sources = rx.load_sources(roots, intermediates, crls, require_crl, lasting=True)
    context = _gated_context(tls_identity, tls_passphrase_file, sources)
    store = Register(database, sources)
    with contextlib.closing(
        Server(listen, store.answer, limit=LIMIT, context=context, judge=sources.judge)
    ) as server:
        click.echo(f"register at {server.address}")
        server.serve()


def _gated_context(identity: str, passphrase_file: str | None, sources: Sources) -> SSLContext:
    """TLS for a service, whose own certificate must be good."""
    from ..pki.gate import own_certificate_gate
    from ..prescription.wire import tls_context

    own_certificate_gate(identity, trust=sources.now(), purpose="tls-server")
    return tls_context(identity, sources.trust, server=True,
                       passphrase=pki.asker(False, passphrase_file))


@click.command("patient-agent", epilog="""\b
Examples:
  dicomcrypt prescription patient-agent -k max.p12 --listen unix:/run/patient/agent --once
  dicomcrypt prescription patient-agent --card --listen unix:/run/patient/agent
  dicomcrypt prescription patient-agent -k max.p12 --listen 127.0.0.1:8444 \\
      --tls-identity max-tls.pem

\b
It is the patient's, not the doctor's: run it as another user, or on another machine over TLS. It
shows each prescription, asks, and only then, if --certificate or --card is given, asks for the
passphrase or PIN of the key. A socket is for its owner alone; let the doctor's user in by group
and chmod.
""")
@rx.key
@click.option("--listen", required=True, metavar="unix:PATH|HOST:PORT", help="Where it is asked.")
@click.option("--tls-identity", metavar="FILE",
              help="Key, certificate and chain, PEM, for --listen HOST:PORT.")
@click.option("--tls-passphrase-file", metavar="FILE",
              help="Take their passphrase from a file's first line.")
@click.option("--certificate", metavar="FILE",
              help="The patient's certificate, if the key's file is to stay closed until then.")
@click.option("--once", is_flag=True, help="End after one question.")
@pki.sources
def patient_agent(
    key: str | None, passphrase_file: str | None, listen: str, tls_identity: str | None,
    tls_passphrase_file: str | None, certificate: str | None, once: bool, roots: tuple[str, ...],
    intermediates: tuple[str, ...], crls: tuple[str, ...], require_crl: bool,
) -> None:
    """Authorise prescriptions with the patient's private key, on the patient's word.

    The signature hides nothing: it authorises an envelope that is encrypted already.
    """
    from ..prescription.agent import LIMIT, Agent
    from ..prescription.wire import Server
    from .card_options import let_go

    sources = rx.load_sources(roots, intermediates, crls, require_crl, lasting=True)
    context = None
    if tls_identity is not None:
        context = _gated_context(tls_identity, tls_passphrase_file, sources)

    open_key: Callable[[], Holder] = functools.partial(rx.load_holder, key, passphrase_file)
    if certificate is not None:
        own = rx.load_certificates(certificate)[0]
    else:
        if not opt.card_wanted():
            open_key = functools.cache(open_key)
        own = open_key().certificate
        let_go()  # of the card, until it is to sign
    agent = Agent(own, open_key, sources, _agrees)
    with contextlib.closing(
        Server(listen, agent.answer, limit=LIMIT, context=context, judge=sources.judge)
    ) as server:
        click.echo(f"patient's program at {server.address}")
        while True:
            server.serve_one()
            let_go()
            if once:
                break


def _agrees(text: str) -> bool:
    rx.show_text(text)
    try:
        return click.confirm("Authorise this prescription?", default=False)
    except click.Abort:
        raise PolicyError("the patient did not agree") from None
