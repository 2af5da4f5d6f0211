"""`dicomcrypt policy`: which algorithms are permitted, and how that is changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import DicomcryptError, UsageError
from ..regular import open_regular
from . import auditing, outputs
from . import options as opt

allow_unknown = click.option(
    "--allow-unknown", multiple=True, metavar="NAME", help="An algorithm of a plug-in, which the "
    "registry does not have; repeatable.",
)
CAUTION = "a policy restricts algorithms; it validates nothing and certifies nothing"
_HEADS = ("algorithm", "kind", "state", "from bits", "below", "why")


@click.group(epilog="""\b
Examples:
  dicomcrypt policy show --preset bsi
  dicomcrypt policy check safe/ct.dcm.dcmx doctor.pem
  dicomcrypt policy sign hospital.json -k officer.key -o hospital.sig
  dicomcrypt policy set hospital.json --signature hospital.sig --signer officer.pem
""")
def policy() -> None:
    """Which algorithms may be used: preferred, allowed, decrypt-only, refused.

    The presets default, fips and bsi restrict algorithms. They validate nothing: with fips
    nothing becomes a validated module, with bsi nothing is certified.
    """


@policy.command(epilog="""\b
Examples:
  dicomcrypt policy show
  dicomcrypt policy show --preset fips --json
""")
@click.option("--preset", type=click.Choice(["default", "fips", "bsi"]),
              help="A shipped policy instead of the one in force.")
@opt.as_json
@opt.hushed
def show(preset: str | None, as_json: bool) -> None:
    """Show the policy in force, or a preset.

    A preset restricts algorithms; it validates nothing and certifies nothing.
    """
    from ..policy import current
    from ..policy import preset as shipped
    from ..policy.rules import REFUSED, ceiling, kind_of, weaker
    from .console import print_json, print_table, say

    found = shipped(preset) if preset else current()
    rows: list[dict[str, Any]] = [
        {"algorithm": name, "kind": kind_of(name) or "other",
         "state": weaker(rule.state, ceiling(name)), "min_bits": rule.min_bits,
         "below": rule.below if rule.min_bits else None, "why": rule.why}
        for name, rule in found
    ]
    if as_json:
        print_json({"policy": found.name, "origin": found.origin, "note": found.note,
                    "caution": CAUTION, "sources": list(found.sources), "other": found.other,
                    "algorithms": rows})
        return
    print_table(
        ([r["algorithm"], r["kind"], r["state"], r["min_bits"] or "-", r["below"] or "-", r["why"]]
         for r in rows),
        _HEADS, title=f"policy {found.name} ({found.origin}): {found.note}",
    )  # fmt: skip
    click.echo(f"recipient types that it does not name: {found.other}; signatures: {REFUSED}")
    for source in found.sources:
        click.echo(f"source: {source}")
    say(CAUTION)


@policy.command(epilog="""\b
Examples:
  dicomcrypt policy check safe/ct.dcm.dcmx
  dicomcrypt policy check doctor.pem colleague.pub --preset bsi

\b
Exit status: 5 if something refused was found.
""")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--preset", type=click.Choice(["default", "fips", "bsi"]),
              help="Against a shipped policy instead of the one in force.")
@opt.as_json
@opt.quiet
def check(files: tuple[str, ...], preset: str | None, as_json: bool, quiet: bool) -> None:
    """Check objects, certificates and public keys against the policy.

    Of an object its header is read, without a key: nothing of it is authenticated.
    """
    from ..policy import current
    from ..policy import preset as shipped
    from ..policy.rules import REFUSED
    from .console import complain, print_json, print_table

    found = shipped(preset) if preset else current()
    rows = []
    for path in files:
        try:
            named = _algorithms(path)
        except DicomcryptError as error:
            text = str(error)
            raise type(error)(text if repr(path) in text else f"{path!r}: {text}") from None
        rows += [
            {"file": path, "part": part, "algorithm": name, "bits": bits,
             "state": found.state(name, bits) if part != "signature" or found.rule(name)
             else REFUSED}
            for part, name, bits in named
        ]
    if as_json:
        print_json({"policy": found.name, "origin": found.origin, "found": rows})
    elif not quiet:
        print_table(
            ([r["file"], r["part"], r["algorithm"], r["bits"] or "-", r["state"]] for r in rows),
            ("file", "part", "algorithm", "bits", "state"),
            title=f"policy {found.name} ({found.origin})",
        )  # fmt: skip
    refused = {r["file"] for r in rows if r["state"] == REFUSED}
    if refused:
        complain(f"refused by the policy {found.name!r}: something in {len(refused)} of "
                 f"{len(files)} files")
        sys.exit(5)


def _algorithms(path: str) -> list[tuple[str, str, int | None]]:
    """Part, algorithm and bits of everything that a file shows."""
    from ..container.layout import looks_like_object
    from ..regular import read_bounded

    with open(open_regular(path), "rb") as file:
        start = file.read(8)
    if looks_like_object(start):
        return _of_object(path)
    data = read_bounded(path, "key or certificate")
    if b"dcmx-recipient-1:" in data:
        from ..keys.keyfile import load_recipients
        from ..keys.permission import algorithm_of

        return [("recipient", *algorithm_of(r)) for r in load_recipients(path)]
    return _of_certificates(data)


def _of_object(path: str) -> list[tuple[str, str, int | None]]:
    from ..container.reader import Container
    from ..container.stanza import BATCH
    from ..keys.permission import ALGORITHMS
    from ..objects.buffers import FileSource

    source = FileSource(path)
    try:
        stanzas = Container(source, need_trailer=False).slots[0].stanzas
    finally:
        source.close()
    found = dict.fromkeys(
        ("batch key" if s.type == BATCH else "recipient",
         ALGORITHMS.get(s.type, f"type-{s.type}"), None) for s in stanzas
    )  # fmt: skip
    return [*found, ("content", "aes-256-gcm", None)]


def _of_certificates(data: bytes) -> list[tuple[str, str, int | None]]:
    from cryptography import x509

    from ..policy.names import of_certificate, of_key
    from ..policy.signing import parse_public

    try:
        if b"-----BEGIN CERTIFICATE" in data:
            certificates = x509.load_pem_x509_certificates(data)
        else:
            certificates = [x509.load_der_x509_certificate(data)]
    except ValueError:
        key = parse_public(data)
        return [of_key(key, signs=False), of_key(key, signs=True)]
    return [named for c in certificates for named in of_certificate(c)]


@policy.command(epilog="""\b
Examples:
  openssl genpkey -algorithm ed25519 -out officer.key
  openssl pkey -in officer.key -pubout -out officer.pem
  dicomcrypt policy sign hospital.json -k officer.key -o hospital.sig
""")
@click.argument("file", metavar="FILE.json")
@click.option("-k", "--key", required=True, metavar="FILE",
              help="Private key, PEM or DER: Ed25519, P-256, P-384, RSA or ML-DSA.")
@opt.passphrase
@click.option("-o", "--output", metavar="FILE.sig",
              help="Where the signature goes; by default FILE.sig.")
@allow_unknown
@opt.force
@opt.as_json
@opt.hushed
def sign(
    file: str, key: str, ask: bool, passphrase_file: str | None, output: str | None,
    allow_unknown: tuple[str, ...], force: bool, as_json: bool,
) -> None:
    """Sign a policy document, after checking it."""
    from ..policy import document as documents
    from ..policy.signing import load_signer
    from .console import print_json, say

    found = documents.parse(_document(file))
    documents.check_names(found, allow_unknown)
    signer = load_signer(key, opt.read_passphrase(ask, passphrase_file, confirm=False))
    target = output or str(Path(file).with_suffix(".sig"))
    outputs.write_public(target, signer.sign(found.signed()), force=force)
    facts = {"policy": found.name, "sequence": found.sequence, "signature": target,
             "algorithm": signer.verifier.algorithm, "signer": signer.key_id}
    if as_json:
        print_json(facts)
    else:
        say(f"signature: {target} ({facts['algorithm']})")
        say(f"signer:    {signer.key_id}")


@policy.command("set", epilog="""\b
Examples:
  dicomcrypt policy set hospital.json --signature hospital.sig --signer officer.pem --trust-signer
  dicomcrypt policy set newer.json --signature newer.sig --signer officer.pem

\b
The first time --trust-signer pins the signer's key: compare the SHA-256 that is shown with what
its owner says. From then on only policies of that signer with a higher sequence are taken.
""")
@click.argument("file", metavar="FILE.json")
@click.option("--signature", required=True, metavar="FILE.sig", help="The document's signature.")
@click.option("--signer", required=True, metavar="FILE",
              help="The signer's certificate or public key, PEM or DER.")
@click.option("--trust-signer", is_flag=True, help="Pin this signer, where none is pinned yet.")
@allow_unknown
@opt.as_json
@opt.hushed
def set_(
    file: str, signature: str, signer: str, trust_signer: bool, allow_unknown: tuple[str, ...],
    as_json: bool,
) -> None:
    """Put a signed policy into force.

    A policy restricts algorithms; it validates nothing.
    """
    from ..policy import document as documents
    from ..policy import source
    from ..policy.signing import load_verifier
    from ..policy.store import FileStore, install
    from ..regular import read_bounded
    from .console import print_json, say

    found = documents.parse(_document(file))
    documents.check_names(found, allow_unknown)
    path = source.store_path()
    if path is None:
        raise UsageError("there is no configuration to keep a policy beside: DICOMCRYPT_CONFIG is "
                         "empty")
    with auditing.job("policy.set"):
        done = install(FileStore(path), found, read_bounded(signature, "signature"),
                       load_verifier(signer), trust_signer=trust_signer,
                       only=source.demanded_signers())
    facts = {"policy": found.name, "issuer": found.issuer, "sequence": found.sequence,
             "kept": str(path), "signer": done.signer.key_id, "signers": list(done.signers)}
    if as_json:
        print_json(facts)
    else:
        say(f"in force: policy {found.name} of {found.issuer}, sequence {found.sequence}")
        say(f"signer:   {done.signer.key_id}")
        say(f"kept in:  {path}")


def _document(path: str) -> bytes:
    from ..regular import read_bounded

    return read_bounded(path, "policy document")
