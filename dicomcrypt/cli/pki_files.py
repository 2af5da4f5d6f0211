"""`dicomcrypt pki request|show|verify|match|export`: what needs files alone."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CertificateRefusedError, NoIdentityError, UsageError
from . import options as opt
from . import outputs
from . import pki_options as pko

if TYPE_CHECKING:
    from cryptography import x509


@click.command(epilog="""\b
Examples:
  dicomcrypt pki request -o anna --name Arzt --first-name Anna \\
      --email anna@klinikum.example -p
  dicomcrypt pki request -o pacs --name "PACS gateway" --organisation "Klinikum Nord" \\
      --type p256 --no-passphrase
  dicomcrypt pki request -o anna --name Arzt --type x25519 -p      a bare key, which cannot sign
""")
@click.option("-o", "--output", required=True, metavar="NAME",
              help="The key goes to NAME.key, the request to NAME.csr.")
@click.option("--type", "kind", default="p384", show_default=True, metavar="KIND",
              help="p384, p256, rsa-3072, rsa-4096, ml-dsa-65; x25519, ml-kem-768 and ml-kem-1024 "
              "give a bare public key, NAME.pub.pem.")
@pko.holder
@pko.role
@opt.passphrase
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted.")
@opt.force
@opt.as_json
@opt.hushed
def request(
    output: str, kind: str, name: str | None, first_name: str | None, organisation: str | None,
    department: str | None, email: str | None, role: str | None, ask: bool,
    passphrase_file: str | None, no_passphrase: bool, force: bool, as_json: bool,
) -> None:
    """Make a key, and a request for a certificate of it. The authority decides what it grants."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from ..keys.keyfile import write_private
    from ..pki import names, profiles, sealing
    from .console import print_json, say

    if no_passphrase and (ask or passphrase_file is not None):
        raise UsageError("--no-passphrase and a passphrase cannot both be meant")
    if not Path(output).name:
        raise UsageError(f"{output!r} is no name for a key file")
    subject = names.Subject(name or "", first_name or "", organisation or "", department or "",
                            email or "", names.Role(role) if role else None)
    words = None
    if not no_passphrase:
        words = opt.needed_passphrase(ask, passphrase_file, confirm=True)
    signing = kind in profiles.SIGNING_KINDS
    target = f"{output}.csr" if signing else f"{output}.pub.pem"
    outputs.not_there(target, force)
    key = profiles.generate(kind)
    profiles.require_kind(key.public_key())
    if signing:
        signed = names.request_builder(subject).sign(key, profiles.signing_hash(key))
        made = signed.public_bytes(Encoding.PEM)
    else:
        made = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_private(f"{output}.key", sealing.private_pem(key, words), force=force)
    outputs.write_public(target, made, force=force)
    facts = {"key": f"{output}.key", "request": target, "type": kind, "sealed": words is not None}
    if as_json:
        print_json(facts)
    else:
        say(f"key:     {output}.key (secret, keep a copy in a safe place)")
        say(f"request: {target} (for the authority)")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki show anna.crt
  dicomcrypt pki show anna.csr
  dicomcrypt pki show ca/issuing.crl --json
""")
@click.argument("file", metavar="FILE")
@opt.as_json
def show(file: str, as_json: bool) -> None:
    """Show a certificate, a request or a revocation list, PEM or DER. Nothing is verified."""
    from ..pki import files
    from .console import print_json, print_table

    data = files.read(file, "certificate", files.MAX_CRL_FILE)
    found = _look(data, file)
    if as_json:
        print_json(found[0] if len(found) == 1 else found)
        return
    for one in found:
        rows = [(key.replace("_", " "), _shown(value)) for key, value in one.items()
                if value not in (None, "", [])]
        print_table(rows, ("", file))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _look(data: bytes, name: str) -> list[dict[str, Any]]:
    """Return what a file of certificates, of a request or of lists says."""
    from ..pki import files, names

    where = f"{name!r}"
    if b"-----BEGIN X509 CRL-----" in data:
        return [_crl_facts(crl) for crl in files.parse_crls(data, where)]
    if b"CERTIFICATE REQUEST-----" in data:
        return [_request_facts(name)]
    if b"-----BEGIN" in data or data[:1] != b"\x30":
        certificates = files.parse_certificates(data, where)
        return [names.facts(c).as_json() for c in certificates]
    try:
        return [names.facts(c).as_json() for c in files.parse_certificates(data, where)]
    except CertificateRefusedError as error:
        with contextlib.suppress(CertificateRefusedError, UsageError):
            return [_crl_facts(crl) for crl in files.parse_crls(data, where)]
        with contextlib.suppress(CertificateRefusedError, UsageError):
            return [_request_facts(name)]
        raise error from None


def _request_facts(name: str) -> dict[str, Any]:
    from ..pki import files, names
    from ..pki.profiles import key_name

    found = files.load_request(name)
    if not hasattr(found, "subject"):
        return {"key": key_name(found)}
    try:
        asked = names.holder_fields(found.subject, found.extensions)
    except ValueError:
        raise files.malformed(f"request {name!r}") from None
    role = asked.pop("role")
    return {**asked, "role_asked_for": role and str(role),
            "subject": found.subject.rfc4514_string(), "key": key_name(found.public_key())}


def _crl_facts(crl: x509.CertificateRevocationList) -> dict[str, Any]:
    from cryptography import x509

    number = [e.value.crl_number for e in crl.extensions if isinstance(e.value, x509.CRLNumber)]
    end = crl.next_update_utc
    return {
        "issuer": crl.issuer.rfc4514_string(), "number": number[0] if number else None,
        "made": f"{crl.last_update_utc:%Y-%m-%dT%H:%M:%SZ}",
        "next": end and f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "revoked": [f"{one.serial_number:x}" for one in crl],
    }  # fmt: skip


@click.command(epilog="""\b
Examples:
  dicomcrypt pki verify anna.crt --root ca/root.crt --intermediate ca/issuing.crt \\
      --crl ca/issuing.crl --for encrypt --role physician
  dicomcrypt pki verify anna.crt --at 2026-03-01      trust as the configuration says

\b
Exit status: 0 it is taken, 5 it is refused, 4 it is malformed; and a sentence says why.
""")
@click.argument("certificate", metavar="CERT")
@pko.trust
@click.option("--for", "purpose", default="any", show_default=True,
              type=click.Choice(["encrypt", "decrypt", "sign", "verify-signature", "tls-server",
                                 "tls-client", "any"]), help="What it is to be used for.")
@pko.role
@opt.as_json
@opt.hushed
def verify(
    certificate: str, roots: tuple[str, ...], intermediates: tuple[str, ...], crls: tuple[str, ...],
    require_crl: bool, moment: datetime | None, purpose: str, role: str | None, as_json: bool,
) -> None:
    """Say whether a certificate is taken: chain, dates, usage, issuer, revocation, role.

    Other certificates in CERT's file are taken for those between.
    """
    from ..pki import files, names
    from ..pki.checking import check_certificate
    from .console import print_json, say

    trust = pko.load_trust(roots, intermediates, crls, require_crl)
    try:
        leaf, *between = files.load_certificates(certificate)
        checked = check_certificate(leaf, trust, purpose=purpose, role=role,
                                    moment=pko.utc(moment), intermediates=between)
    except CertificateRefusedError as error:
        pko.tell_refused(error, as_json)
    if as_json:
        print_json({
            "valid": True, "reason": None, "sentence": checked.sentence,
            "remarks": checked.remarks, "purpose": purpose,
            "role": checked.role and str(checked.role),
            "path": [c.subject.rfc4514_string() for c in checked.path],
            "certificate": names.facts(leaf).as_json(),
        })  # fmt: skip
    else:
        say(checked.sentence)
        for remark in checked.remarks:
            say(f"remark: {remark}")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki match anna.key anna.crt -p
  dicomcrypt pki match anna.key anna.crt --passphrase-file words
""")
@click.argument("key", metavar="KEY")
@click.argument("certificate", metavar="CERT")
@opt.passphrase
@opt.as_json
@opt.hushed
def match(
    key: str, certificate: str, ask: bool, passphrase_file: str | None, as_json: bool,
) -> None:
    """Say whether a private key is that of a certificate. Exit status 3 if it is not."""
    from ..pki import files, names
    from ..pki.gate import matches
    from .console import print_json, say

    found = files.load_certificate(certificate)
    secret = files.load_private_key(key, pko.asker(ask, passphrase_file))
    same = matches(secret, found)
    if as_json:
        print_json({"match": same, "key": key, "certificate": certificate})
    if not same:
        raise NoIdentityError(f"key {key!r} is not that of certificate {names.label(found)}: "
                              "use the two that were made together")
    if not as_json:
        say(f"key {key} is that of certificate {names.label(found)}")


@click.command(epilog="""\b
Examples:
  dicomcrypt pki export anna.crt --key anna.key --chain ca/issuing.crt -o anna.p12 -p
  dicomcrypt pki export anna.crt --format der -o anna.cer
  dicomcrypt pki export anna.crt --format chain --chain ca/issuing.crt \\
      --chain ca/root.crt -o all.pem
""")
@click.argument("certificate", metavar="CERT")
@click.option("--format", "form", type=click.Choice(["p12", "pem", "der", "chain"]), default="p12",
              show_default=True, help="p12 holds the key too; chain: PEM with all above.")
@click.option("--key", metavar="FILE", help="The private key, for PKCS#12.")
@click.option("--chain", multiple=True, metavar="FILE", help="Certificates above; repeatable.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where it goes.")
@opt.passphrase
@click.option("--p12-passphrase-file", metavar="FILE",
              help="The passphrase of the PKCS#12 file; by default it is asked for.")
@opt.force
@opt.hushed
def export(
    certificate: str, form: str, key: str | None, chain: tuple[str, ...], output: str, ask: bool,
    passphrase_file: str | None, p12_passphrase_file: str | None, force: bool,
) -> None:
    """Write a certificate for other programs: PKCS#12 with its key, PEM, DER, or the chain.

    The chain is what is in CERT's file behind it (`pki issue --chain`), and --chain.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from ..keys.keyfile import write_private
    from ..pki import files, names, sealing
    from ..pki.gate import matches
    from .console import say

    found, *between = files.load_certificates(certificate)
    given = [c for path in chain for c in files.load_certificates(path)]
    above = [c for c in dict.fromkeys([*between, *given]) if c != found]
    if form == "p12":
        if key is None:
            raise UsageError("PKCS#12 is for a key with its certificate: give --key FILE")
        secret = files.load_private_key(key, pko.asker(ask, passphrase_file))
        if not matches(secret, found):
            raise NoIdentityError(f"key {key!r} is not that of certificate {names.label(found)}")
        words = opt.needed_passphrase(False, p12_passphrase_file, confirm=True)
        data = sealing.pkcs12(
            found.subject.rfc4514_string().encode(), secret, found, above, words
        )
        write_private(output, data, force=force)
    else:
        if key is not None:
            raise UsageError(f"--key is for PKCS#12, not for {form}")
        data = found.public_bytes(Encoding.DER) if form == "der" else files.pem(
            [found, *(above if form == "chain" else [])]
        )
        outputs.write_public(output, data, force=force)
    say(f"{output}{' (secret: it holds the key)' if form == 'p12' else ''}")
