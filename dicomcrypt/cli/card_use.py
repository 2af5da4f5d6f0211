"""`dicomcrypt card sign`, `decrypt` and `hash`: what a card does with its keys, file by file."""

from __future__ import annotations

import hmac
import sys
from typing import TYPE_CHECKING

import click

from ..errors import DamagedError, UsageError
from . import auditing, outputs
from . import options as opt

if TYPE_CHECKING:
    from ..card.keys import CardECPrivateKey, CardRSAPrivateKey

_MOST_SIGNED = 1 << 28


def _digest(path: str, name: str = "sha256") -> bytes:
    import hashlib

    sums = hashlib.new(name)
    with click.open_file(path, "rb") as file:
        while piece := file.read(1 << 18):
            sums.update(piece)
    return sums.digest()


@click.command(epilog="""\b
Examples:
  dicomcrypt card sign letter.pdf                        makes letter.pdf.p7s, by CMS
  openssl cms -verify -binary -inform DER -in letter.pdf.p7s -content letter.pdf -CAfile root.crt
  dicomcrypt card sign letter.pdf --raw -o letter.sig
  openssl dgst -sha256 -verify anna.pub.pem -signature letter.sig letter.pdf
""")
@click.argument("path", metavar="FILE")
@click.option("-o", "--output", metavar="FILE", help="By default FILE with .p7s or .sig.")
@click.option("--raw", is_flag=True, help="The bare signature: ECDSA, or RSA (PKCS #1 v1.5).")
@opt.card_place
@opt.pin
@opt.force
@opt.hushed
def sign(path: str, output: str | None, raw: bool, force: bool) -> None:
    """Sign a file with the card's signature key: a CMS beside it, with the certificate."""
    from ..card.identity import card_signer
    from ..card.keys import card_key
    from ..card.profile import Slot
    from .card_options import give_pin, open_card
    from .console import say

    target = output or f"{path}.{'sig' if raw else 'p7s'}"
    outputs.not_there(target, force)
    if raw:
        content = _digest(path)
    else:
        with click.open_file(path, "rb") as file:
            content = file.read(_MOST_SIGNED + 1)
        if len(content) > _MOST_SIGNED:
            raise UsageError(f"{path!r} is over {_MOST_SIGNED >> 20} MiB: sign it with --raw")
    session = open_card()
    signer = None if raw else card_signer(session)
    give_pin(session)
    with auditing.job("card.sign"):
        made = _raw_signature(card_key(session, Slot.SIG), content) if signer is None \
            else signer.sign(content)
        outputs.write_public(target, made, force=force)
    say(f"signature: {target}")


def _raw_signature(key: CardRSAPrivateKey | CardECPrivateKey, digest: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

    prehashed = utils.Prehashed(hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(prehashed))
    return key.sign(digest, padding.PKCS1v15(), prehashed)


@click.command(epilog="""\b
Examples:
  openssl pkeyutl -encrypt -pubin -inkey anna.pub.pem -pkeyopt rsa_padding_mode:oaep \\
      -pkeyopt rsa_oaep_md:sha256 -in note -out note.bin
  dicomcrypt card decrypt note.bin -o note
  dicomcrypt decrypt ct.dcm.dcmx --card                  objects and folders of them
""")
@click.argument("path", metavar="FILE")
@click.option("-o", "--output", required=True, metavar="FILE|-", help="Where it goes, mode 0600.")
@opt.card_place
@opt.pin
@opt.force
def decrypt(path: str, output: str, force: bool) -> None:
    """Open an RSA-OAEP cryptogram (SHA-256) with the card's deciphering key.

    Objects are decrypted by `dicomcrypt decrypt --card`.
    """
    from ..card.keys import CardRSAPrivateKey, card_key
    from ..card.profile import Slot
    from ..card.status import StatusWord
    from ..container.layout import looks_like_object
    from ..errors import CardStatusError
    from ..keys.keyfile import write_private
    from .card_options import give_pin, open_card

    if output != "-":
        outputs.not_there(output, force)
    with click.open_file(path, "rb") as file:
        data = file.read(1 << 12)
    if looks_like_object(data):
        raise UsageError(f"{path!r} is an object: give it to dicomcrypt decrypt --card")
    session = open_card()
    key = card_key(session, Slot.DEC)
    if not isinstance(key, CardRSAPrivateKey):
        raise UsageError(f"card {session.name}: its deciphering key is no RSA key; a P-256 key "
                         "opens objects only")
    if len(data) != key.key_size // 8:
        raise DamagedError(f"{path!r} is no cryptogram of this card: those have "
                           f"{key.key_size // 8} bytes")
    give_pin(session)
    try:
        plain = session.decipher(Slot.DEC, data)
    except CardStatusError as error:
        if error.status != StatusWord.WRONG_PARAMETERS:
            raise
        raise DamagedError(f"{path!r} does not open: it is damaged, or for another card") from None
    if output == "-":
        sys.stdout.buffer.write(plain)
    else:
        write_private(output, plain, force=force)


@click.group("hash", epilog="""\b
Examples:
  dicomcrypt card hash write record.xml
  dicomcrypt card hash check record.xml
""")
def hash_group() -> None:
    """The hash in a card: of a file that must not change."""


@hash_group.command(epilog="""\b
Examples:
  dicomcrypt card hash write record.xml
""")
@click.argument("path", metavar="FILE")
@opt.card_place
@opt.pin
@opt.hushed
def write(path: str) -> None:
    """Write the SHA-256 of a file into the card. Needs the PIN."""
    from ..card.profile import hash_content
    from .card_options import give_pin, open_card
    from .console import say

    digest = _digest(path)
    session = open_card()
    give_pin(session)
    with auditing.job("card.hash"):
        session.update("EF.HASH", hash_content(digest))
    say(f"card {session.name}: sha256 {digest.hex()}")


@hash_group.command(epilog="""\b
Examples:
  dicomcrypt card hash check record.xml         exit status 4 if it is not that file
""")
@click.argument("path", metavar="FILE")
@opt.card_place
@opt.hushed
def check(path: str) -> None:
    """Compare a file with the hash in the card."""
    from ..card.profile import parse_hash
    from .card_options import open_card
    from .console import say

    session = open_card()
    content = session.read("EF.HASH")
    if not content:
        raise UsageError(f"card {session.name}: there is no hash in it")
    name, wanted = parse_hash(content)
    if not hmac.compare_digest(_digest(path, name), wanted):
        raise DamagedError(f"{path!r} is not the file whose hash is in the card: it was "
                           "changed, or is another one")
    say(f"{path}: it is the file whose hash ({name}) is in the card")
