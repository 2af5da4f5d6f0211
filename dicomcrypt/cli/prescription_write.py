"""`dicomcrypt prescription new`, `show` and `sign`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import auditing, outputs
from . import options as opt
from . import pki_options as pki
from . import prescription_options as rx

if TYPE_CHECKING:
    from ..prescription.holders import Holder
    from ..prescription.opening import Sources
    from ..prescription.protecting import Authorise

_WAYS = ["doctor-private-key", "patient-public-key", "patient-private-key", "pharmacist-public-key"]


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription new --template rx.toml -o rx.json
  dicomcrypt prescription new --template clinic.toml --medication "Ibuprofen 600 mg" \\
      --dosage "1-0-1" --set patient.email=max@home.example -o rx.json

\b
A template (TOML or JSON):
  valid_days = 28                        # or expires = 2026-12-31
  [patient]                              # number: the insurance number, if there is one
  name = "Muster"
  first_name = "Max"
  birth_date = 1970-02-01
  email = "max@home.example"
  [doctor]                               # number and organisation, too
  name = "Arzt"
  first_name = "Anna"
  email = "anna@clinic.example"
  [pharmacy]
  name = "Loewen-Apotheke"
  email = "loewe@pharmacy.example"
  [[medication]]                         # code, system, unit, note, substitution, too
  text = "Ibuprofen 600 mg"
  dosage = "1-0-1 after meals"
  quantity = 20
  [reference]                            # DICOM UIDs
  study = "1.2.840.113619.2.1"
""")
@click.option("--template", metavar="FILE", help="Facts in TOML or JSON (.json).")
@click.option("--set", "given", multiple=True, metavar="SECTION.FIELD=VALUE",
              help="A fact, over the template's; other users of this machine may see it.")
@click.option("--medication", "medications", multiple=True, metavar="TEXT",
              help="A medication; repeatable, each with its --dosage.")
@click.option("--dosage", "dosages", multiple=True, metavar="TEXT",
              help="How it is taken; one for each --medication, in their order.")
@click.option("-o", "--output", required=True, metavar="FILE.json", help="The FHIR R4 bundle.")
@opt.force
@rx.style
def new(
    template: str | None, given: tuple[str, ...], medications: tuple[str, ...],
    dosages: tuple[str, ...], output: str, force: bool, as_json: bool, quiet: bool,
) -> None:
    """Make a prescription's document: a FHIR R4 bundle, with a serial number of its own."""
    from ..prescription.composing import compose
    from ..prescription.rendering import as_text
    from .console import print_json

    facts = _template(template) if template is not None else {}
    if len(medications) != len(dosages):
        raise UsageError("each --medication has its --dosage")
    if medications:
        facts["medication"] = [{"text": text, "dosage": dosage}
                               for text, dosage in zip(medications, dosages, strict=True)]
    for fact in given:
        where, equals, value = fact.partition("=")
        name, dot, field = where.partition(".")
        if not equals or (dot and not isinstance(facts.setdefault(name, {}), dict)):
            raise UsageError("--set wants SECTION.FIELD=VALUE, such as patient.name=Muster")
        if dot:
            facts[name][field] = value
        else:
            facts[name] = int(value) if name == "valid_days" and value.isdigit() else value
    made = compose(facts)
    rx.write(output, made.data, force=force)
    if as_json:
        print_json({"file": output, **made.as_json()})
    elif not quiet:
        click.echo(as_text(made), nl=False)


def _template(path: str) -> dict[str, Any]:
    import json
    import tomllib

    from ..pki.files import read

    data = read(path, "template")
    try:
        facts = (json.loads if path.endswith(".json") else tomllib.loads)(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        where = str(error).rpartition("(")[2].rstrip(")") if "(" in str(error) else "somewhere"
        raise UsageError(f"template {path!r} is not understood ({where})") from None
    if not isinstance(facts, dict):
        raise UsageError(f"template {path!r} is not a table")
    return facts


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription show rx.json
  dicomcrypt prescription show rx.json --html > rx.html
""")
@click.argument("file", metavar="FILE.json")
@click.option("--html", "as_html", is_flag=True, help="A page of HTML.")
@opt.as_json
def show(file: str, as_html: bool, as_json: bool) -> None:
    """Show a FHIR bundle that is a prescription, as text or HTML; nothing of it is verified."""
    from ..pki.files import read
    from ..prescription import rendering
    from ..prescription.document import MAX_DOCUMENT, parse
    from .console import print_json

    found = parse(read(file, "prescription", MAX_DOCUMENT))
    if as_json:
        print_json(found.as_json())
    else:
        render = rendering.as_html if as_html else rendering.as_text
        click.echo(render(found), nl=False)


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription sign rx.json -k anna.p12 --way pharmacist-public-key \\
      --pharmacist paul.crt -o rx.p7m
  dicomcrypt prescription sign rx.json -k anna.p12 --way doctor-private-key \\
      --pharmacist paul.crt -o rx.p7m
  dicomcrypt prescription sign rx.json -k anna.p12 --way patient-private-key \\
      --pharmacist paul.crt --patient-agent unix:/run/patient/agent -o rx.p7m
  dicomcrypt prescription sign rx.json --card --way pharmacist-public-key \\
      --pharmacist loewe@pharmacy.example -o rx.p7m

\b
The private-key ways hide NOTHING by themselves: they are signatures that authorise. The document
is encrypted to --pharmacist, --patient or both in every way. The patient's PIN goes to the
patient's own program (`prescription patient-agent`, in another process or on another machine), or
to the PIN pad of a reader with the patient's card (--patient-reader), and never to this process;
without either the way patient-private-key is refused.
""")
@click.argument("file", metavar="FILE.json")
@rx.key
@click.option("--way", type=click.Choice(_WAYS), required=True, help="How it is protected.")
@click.option("--pharmacist", metavar=rx.CERTIFICATE, help="Encrypt to the pharmacist of this "
              "certificate, a file or what the configured directories have for an address.")
@click.option("--patient", metavar=rx.CERTIFICATE,
              help="Encrypt to the patient of this certificate.")
@click.option("--copy-for", "copies", multiple=True, metavar=rx.CERTIFICATE,
              help="Encrypt to this one, too: one's own, to keep a readable copy; repeatable.")
@opt.patient_reader
@click.option("--patient-agent", metavar="unix:PATH|HOST:PORT",
              help="The patient's program, for patient-private-key.")
@click.option("--tls-identity", metavar="FILE", help="Key, certificate and chain, PEM, for TLS to "
              "--patient-agent HOST:PORT.")
@click.option("--tls-passphrase-file", metavar="FILE",
              help="Take their passphrase from a file's first line.")
@click.option("--no-certificates", is_flag=True, help="Leave certificates and revocation lists "
              "out: readers look for them in directories, and later perhaps in vain.")
@click.option("-o", "--output", required=True, metavar="FILE.p7m", help="What is sent.")
@click.option("--document", "keep", metavar="FILE.p7s",
              help="Keep the signed document, not encrypted, for the doctor's records.")
@pki.sources
@opt.force
@rx.style
def sign(
    file: str, key: str | None, passphrase_file: str | None, way: str, pharmacist: str | None,
    patient: str | None, copies: tuple[str, ...], patient_agent: str | None,
    tls_identity: str | None, tls_passphrase_file: str | None, no_certificates: bool, output: str,
    keep: str | None, roots: tuple[str, ...], intermediates: tuple[str, ...], crls: tuple[str, ...],
    require_crl: bool, force: bool, as_json: bool, quiet: bool,
) -> None:
    """Sign a prescription as its doctor and encrypt it, in one of four ways."""
    from ..pki.files import read
    from ..prescription import document
    from ..prescription.protecting import protect
    from .console import print_json, say

    rx.each_its_own(output, keep, file)
    for path in (output, keep):
        if path is not None:
            outputs.not_there(path, force)
    prescription = document.parse(read(file, "prescription", document.MAX_DOCUMENT))
    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    known = [rx.load_recipients(one, sources) for one in (pharmacist, patient, *copies)]
    sources.add_intermediates(c for found in known for c in found[1:])
    first = [found[0] if found else None for found in known[:2]]
    authorise: Authorise | None = None
    if patient_agent is not None and opt.card_wanted("patient_"):
        raise UsageError("--patient-agent and --patient-reader: give one of them")
    if patient_agent is not None:
        authorise = _agent(patient_agent, tls_identity, tls_passphrase_file, sources)
    elif opt.card_wanted("patient_"):
        authorise = _pad(sources)
    doctor = rx.load_holder(key, passphrase_file)
    with auditing.job("prescription.sign"):
        made = protect(
            prescription, doctor, way, trust=sources.now(),
            pharmacist=first[0], patient=first[1], copies=[found[0] for found in known[2:]],
            authorise=authorise,
            crls=() if no_certificates else _lists_of(sources, doctor),
            certificates=not no_certificates,
        )
        rx.write(output, made.data, force=force)
        if keep is not None:
            rx.write(keep, made.document, force=force)
    if as_json:
        print_json({"file": output, "way": way, "serial": prescription.serial,
                    "expires": prescription.expires.isoformat()})
    elif not quiet:
        say(f"{output}: signed, {way}, good until {prescription.expires}")


def _lists_of(sources: Sources, holder: Holder) -> tuple[Any, ...]:
    """The newest revocation lists that speak of a holder's certificate and of those above it."""
    from ..prescription.signed import MAX_CRLS

    issuers = {c.issuer for c in (holder.certificate, *holder.chain)}
    known = [c for c in sources.now().crls if c.issuer in issuers]
    return tuple(sorted(known, key=lambda c: c.last_update_utc)[-MAX_CRLS:])


def _pad(sources: Sources) -> Authorise:
    """What lets the patient authorise at the reader of --patient-reader."""
    from ..prescription.cards import at_the_pad
    from .card_options import give_pin_on_pad, open_card

    return at_the_pad(open_card(whose="patient_"), sources, rx.show_text, give_pin_on_pad)


def _agent(
    address: str, identity: str | None, passphrase_file: str | None, sources: Sources
) -> Authorise:
    from ..prescription.agent import asking
    from ..prescription.wire import tls_context

    if address.startswith("unix:"):
        return asking(address)
    if identity is None:
        raise UsageError("--patient-agent HOST:PORT is asked over TLS: give --tls-identity FILE")
    context = tls_context(identity, sources.trust, server=False,
                          passphrase=pki.asker(False, passphrase_file))
    return asking(address, context, sources.judge)
