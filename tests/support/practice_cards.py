"""Cards of the people of `practice`: made in no time, each with certificates of its own."""

from __future__ import annotations

import functools

from card_world import key, private_der, public_der
from certificates import fresh_key
from practice import ANNA, MAX, PAUL, clinic

from dicomcrypt.card import profile
from dicomcrypt.card.profile import CardRole, KeyKind, Slot, reference_block
from dicomcrypt.card.state import CardData, FileStore, Reference, StoredKey

PIN, WRONG_PIN, PUK, WORDS = "135790", "135791", "24680246", "of the card's file"
_PEOPLE = {
    "anna": ("Anna Arzt", "physician", ANNA), "paul": ("Paul Pille", "pharmacist", PAUL),
    "max": ("Max Muster", "patient", MAX), "rita": ("Rita Rezept", "pharmacist",
                                                    "rita@elsewhere.test"),
    "moritz": ("Moritz Muster", "patient", "moritz@home.test"),
}
_USES = {Slot.SIG: "signing", Slot.DEC: "encryption", Slot.AUT: "tls-client"}


@functools.cache
def card_of(name: str, kind: KeyKind = KeyKind.P256) -> CardData:
    """The card of one of the people."""
    full, role, email = _PEOPLE[name]
    above = clinic().doctors if role == "physician" else clinic().people
    files = {"EF.GDO": profile.gdo(f"8000000000{sum(name.encode()):010}", full),
             "EF.CERT.CA": above.der()}
    keys = {}
    for slot in Slot:
        secret = fresh_key() if kind is KeyKind.P256 else key(slot, kind)
        made = above.leaf(full, role=role, email=email, key=secret, uses=[_USES[slot]])
        keys[slot] = StoredKey(kind, private_der(secret))
        files |= {slot.public_file: public_der(secret), slot.certificate_file: made.der()}
    references = {profile.PIN: Reference.of(reference_block(PIN), profile.PIN_TRIES),
                  profile.PUK: Reference.of(reference_block(PUK, profile.PUK), profile.PUK_USES)}
    kind_of_card = CardRole.PATIENT if role == "patient" else CardRole.PROFESSIONAL
    return CardData(kind_of_card, True, files, references, keys)


def write_card(folder, name: str, **options) -> None:
    """NAME.hpjc, under the passphrase in the file `words`; the PIN is in the file `pin`."""
    FileStore(folder / f"{name}.hpjc", WORDS, card_of(name, **options).encode()).close()
    for file, text in (("words", WORDS), ("pin", PIN), ("wrong", WRONG_PIN)):
        (folder / file).write_text(f"{text}\n")


def by_card(name: str, pin: str = "pin", whose: str = "") -> list[str]:
    """The options for a card's file."""
    return [f"--{whose}card-file", f"{name}.hpjc", f"--{whose}card-passphrase-file", "words",
            f"--{whose}pin-file", pin]
