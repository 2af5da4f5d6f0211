"""Software cards for tests: personalised in no time, from keys that are made once a process."""

from __future__ import annotations

import functools

from certificates import Maker, fresh_key
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dicomcrypt.card import profile, tlv
from dicomcrypt.card.apdu import CommandApdu, ResponseApdu
from dicomcrypt.card.profile import (
    AID_HPJC,
    FILES,
    Algorithm,
    CardRole,
    Ins,
    KeyKind,
    Slot,
    reference_block,
)
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.state import CardData, MemoryStore, Reference, StoredKey
from dicomcrypt.card.status import StatusWord, more_data

PIN, WRONG_PIN, PUK, WRONG_PUK = "135790", "135791", "24680246", "24680247"
ICCSN, HOLDER = "80276001011234567890", "Dr. Anna Arzt"
PIN_BLOCK, WRONG_BLOCK = reference_block(PIN), reference_block(WRONG_PIN)
PUK_BLOCK = reference_block(PUK, profile.PUK)
WRONG_PUK_BLOCK = reference_block(WRONG_PUK, profile.PUK)


@functools.cache
def key(slot: Slot, kind: KeyKind):
    if kind is KeyKind.RSA_3072:
        return rsa.generate_private_key(65537, 3072)
    return ec.generate_private_key(ec.SECP256R1())


def private_der(secret) -> bytes:
    return secret.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())


def public_der(secret) -> bytes:
    return secret.public_key().public_bytes(serialization.Encoding.DER,
                                            serialization.PublicFormat.SubjectPublicKeyInfo)


@functools.cache
def authority() -> Maker:
    """The trust centre of all cards here."""
    return Maker.root("Trust centre")


@functools.cache
def partner(role: str, *uses: str) -> Maker:
    """A partner with a certificate, by default one to authenticate with."""
    return authority().leaf(f"A {role}", uses=uses or ("tls-client",), role=role, key=fresh_key())


def card_data(role="professional", *, kind=KeyKind.P256, operational=True, **changes) -> CardData:
    """A card with all keys and the authority's certificate, and something in every file."""
    files = {"EF.GDO": profile.gdo(ICCSN, HOLDER), "EF.CERT.CA": authority().der()}
    keys = {}
    for slot in Slot:
        secret = key(slot, kind)
        keys[slot] = StoredKey(kind, private_der(secret))
        files[slot.public_file] = public_der(secret)
    for file in FILES.values():
        if not file.is_folder and not file.secret and file.name not in ("EF.DIR", "EF.ATR"):
            files.setdefault(file.name, b"content of " + file.name.encode())
    references = {profile.PIN: Reference.of(PIN_BLOCK, profile.PIN_TRIES),
                  profile.PUK: Reference.of(PUK_BLOCK, profile.PUK_USES)}
    return CardData(**{"role": CardRole(role), "operational": operational, "files": files,
                       "references": references, "keys": keys, **changes})


class Host:
    """Sends commands to a card and follows 61xx; `raw` does not."""

    def __init__(self, card: SoftwareCard) -> None:
        self.card = card
        #: Every response as it came.
        self.heard: list[bytes] = []

    def raw(self, command: bytes) -> ResponseApdu:
        answer = self.card.transmit(command)
        self.heard.append(answer)
        found = ResponseApdu.parse(answer)
        assert found.status != StatusWord.UNKNOWN_ERROR, "an error that the card did not foresee"
        return found

    def send(self, ins, p1=0, p2=0, data=b"", answer=0, *, cla=0, extended=False) -> ResponseApdu:
        found = self.raw(CommandApdu(cla, ins, p1, p2, data, answer, extended).encode())
        whole = found.data
        while more_data(found.status) is not None:
            found = self.raw(CommandApdu(0, Ins.GET_RESPONSE, 0, 0, answer=256).encode())
            whole += found.data
        return ResponseApdu(whole, found.status)

    def status(self, *args, **options) -> int:
        return self.send(*args, **options).status

    def ok(self, *args, **options) -> bytes:
        found = self.send(*args, **options)
        assert found.status == 0x9000, found
        return found.data

    # ---- what a host does ----------------------------------------------------

    def application(self, aid=AID_HPJC) -> Host:
        self.ok(Ins.SELECT, 4, 0x0C, aid)
        return self

    def file(self, name: str) -> int:
        """Select a file by its path; returns the status."""
        path, at = b"", FILES[name]
        while at.parent:
            path, at = at.fid.to_bytes(2, "big") + path, FILES[at.parent]
        if not path:
            return self.status(Ins.SELECT, 0, 0x0C, b"\x3f\x00")
        return self.status(Ins.SELECT, 8, 0x0C, path)

    def pin(self, block=PIN_BLOCK) -> int:
        return self.status(Ins.VERIFY, 0, 1, block)

    def choose(self, template: int, algorithm: int, slot: Slot) -> int:
        """MSE for one of the card's own keys."""
        return self.status(Ins.MSE, profile.MSE_OWN, template,
                           tlv.encode(0x84, bytes((slot.reference,)))
                           + tlv.encode(0x80, bytes((algorithm,))))

    def verify_certificate(self, role: str, certificate: bytes) -> int:
        reference = next(n for n, r in profile.PARTNERS.items() if r == role)
        self.ok(Ins.MSE, profile.MSE_PARTNER, profile.CRT_SIGNATURE, bytes((0x83, 1, reference)))
        return self.status(Ins.PSO, 0, 0xBE, certificate)

    def authenticate(self, role: str, signed, algorithm=Algorithm.ECDSA) -> int:
        """EXTERNAL AUTHENTICATE; signed: challenge -> signature."""
        reference = next(n for n, r in profile.PARTNERS.items() if r == role)
        self.ok(Ins.MSE, profile.MSE_PARTNER, profile.CRT_AUTHENTICATION,
                bytes((0x83, 1, reference, 0x80, 1, algorithm)))
        challenge = self.ok(Ins.GET_CHALLENGE, answer=32)
        return self.status(Ins.EXTERNAL_AUTHENTICATE, data=signed(challenge))


class CountingStore(MemoryStore):
    """Counts how often it was written."""

    saves = 0

    def save(self, data: bytes) -> None:
        super().save(data)
        self.saves += 1


def make(role="professional", **options) -> Host:
    """A host that talks to a personalised card."""
    return Host(SoftwareCard(CountingStore(card_data(role, **options).encode())))


def signer(secret):
    """What a partner's card answers to a challenge (INTERNAL AUTHENTICATE, ECDSA)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    def sign(challenge: bytes) -> bytes:
        message = profile.AUTHENTICATION_PREFIX + challenge
        r, s = decode_dss_signature(secret.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def as_physician(host: Host) -> None:
    """A physician authenticates to the card."""
    doctor = partner("physician")
    assert host.verify_certificate("physician", doctor.der()) == 0x9000
    assert host.authenticate("physician", signer(doctor.key)) == 0x9000
