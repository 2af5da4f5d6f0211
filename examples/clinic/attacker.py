"""Somebody who has got a signed prescription and knows the package: makes what must be refused.

    python attacker.py alter|strip DOCUMENT.p7s RECIPIENT.crt OUTPUT.p7m
    python attacker.py unauthorised PRESCRIPTION.p7m OUTPUT.p7m
    python attacker.py sign BUNDLE.json RECIPIENT.crt OUTPUT.p7m CARD.hpjc PASSPHRASE-FILE PIN-FILE

alter: changes the dosage in it. strip: takes the doctor's signature away. unauthorised: takes the
signature away that authorises it. sign: signs a document of the doctor's with another card.
Several of these may follow each other, with -- between.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from cryptography import x509

from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import InProcess
from dicomcrypt.prescription import document, envelope, signed
from dicomcrypt.prescription.cards import card_holder
from dicomcrypt.prescription.protecting import PHARMACIST_PUBLIC, PRESCRIPTION


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _line(path: str) -> str:
    return Path(path).read_text().strip()


def _seal(content: bytes, recipient: str) -> bytes:
    return envelope.seal(content, x509.load_pem_x509_certificates(_read(recipient))[:1])


def alter(path: str, recipient: str) -> bytes:
    before, after = b"1-0-1", b"9-9-9"
    data = _read(path)
    assert before in data
    return _seal(data.replace(before, after), recipient)


def strip(path: str, recipient: str) -> bytes:
    return _seal(signed.parse(_read(path)).content, recipient)


def unauthorised(path: str) -> bytes:
    return signed.parse(_read(path)).content


def sign(path: str, recipient: str, card: str, words: str, pin: str) -> bytes:
    made = document.parse(_read(path))
    software = SoftwareCard.open(card, _line(words))
    with CardSession(InProcess(software)) as session:
        holder = card_holder(session, "sign", lambda: session.verify(_line(pin)))
        attributes = {signed.WAY: PHARMACIST_PUBLIC, signed.MEDICATIONS: made.medication_hash}
        forged = signed.sign(made.data, holder, PRESCRIPTION, attributes=attributes)
    software.close()
    return _seal(forged, recipient)


def main(words: list[str]) -> None:
    what, *words = words
    output = words.pop(1 if what == "unauthorised" else 2)
    make = {"alter": alter, "strip": strip, "unauthorised": unauthorised, "sign": sign}[what]
    Path(output).write_bytes(make(*words))


if __name__ == "__main__":
    for _, group in itertools.groupby(sys.argv[1:], lambda word: word != "--"):
        if (one := list(group)) != ["--"]:
            main(one)
