"""Cards that err or lie, and what the host makes of it."""


import clinic
import pytest
from certificates import Maker
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.card import connection, profile
from dicomcrypt.card.apdu import CommandApdu
from dicomcrypt.card.identity import card_identity, card_recipient, card_signer
from dicomcrypt.card.keys import CardECPrivateKey, card_key
from dicomcrypt.card.profile import CardRole, Ins, KeyKind, Slot
from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import InProcess
from dicomcrypt.errors import CardStatusError, TokenError

_SHA256 = hashes.SHA256()


class Script:
    """A transport that gives its answers in turn, and keeps what it was sent."""

    name, atr, has_pad = "script", profile.atr(CardRole.PROFESSIONAL), False

    def __init__(self, *answers):
        self.answers, self.sent = [bytes.fromhex(a) for a in answers], []

    def transmit(self, command):
        self.sent.append(command.hex())
        return self.answers.pop(0) if self.answers else b"\x6a\x82"

    def close(self):
        pass


class Spoilt(InProcess):
    """A card whose answers to one instruction are changed on the way."""

    ins, change = None, None

    def transmit(self, command):
        answer = super().transmit(command)
        return self.change(answer) if command[1] == self.ins else answer


@pytest.fixture(scope="module", params=list(KeyKind), ids=lambda kind: kind.name)
def made(request, ward):
    card = SoftwareCard.in_memory(CardRole.PROFESSIONAL)
    with CardSession(InProcess(card)) as session:
        ward.personalise(session, request.param)
    return card


@pytest.fixture
def spoilt(made):
    with CardSession(Spoilt(made)) as session:
        session.verify(clinic.PIN)
        yield session


@given(st.lists(st.one_of(
    st.binary(max_size=40), st.sampled_from([b"\x90\0", b"\x61\0", b"\x6c\1", b"\x62\x82"]),
    st.binary(max_size=300).map(lambda data: data + b"\x90\0"),
), max_size=40))  # fmt: skip
def test_a_card_that_lies_is_told_and_nothing_else(answers):
    """Whatever it answers, there is one of our errors, or an answer that can be."""
    left = list(answers)

    class Liar(Script):
        def transmit(self, command):
            return left.pop() if left else b"\x6a\x82"

    try:
        session = CardSession(Liar())
    except dc.DicomcryptError:
        return
    session.iccsn = ""
    key = CardECPrivateKey(session, Slot.SIG, ec.generate_private_key(ec.SECP256R1()).public_key())
    for ask in (
        session.tries, session.is_operational, lambda: session.certificate("EF.CERT.DEC"),
        lambda: session.public_key(Slot.DEC), lambda: session.verify(clinic.PIN),
        lambda: card_identity(session), lambda: _sign(key, b"data"),
        lambda: session.unblock_pin(clinic.PUK, clinic.PIN),
    ):  # fmt: skip
        left.extend(answers)
        try:
            ask()
        except dc.DicomcryptError:
            pass


def _sign(key, data):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_SHA256))
    return key.sign(data, padding.PKCS1v15(), _SHA256)


@pytest.mark.parametrize("change", [
    lambda answer: bytes((answer[0] ^ 1,)) + answer[1:], lambda answer: answer[:20] + b"\x90\0",
    lambda answer: bytes(len(answer) - 2) + b"\x90\0", lambda answer: b"\1" + answer,
    lambda answer: b"\x90\0",
])  # fmt: skip
def test_a_wrong_signature_is_not_given_out(spoilt, change):
    line = spoilt.connection.transport
    line.ins, line.change = Ins.PSO, change
    with pytest.raises(TokenError, match="its signature by the key SIG is wrong"):
        _sign(card_key(spoilt, Slot.SIG), b"data")
    with pytest.raises(TokenError, match="its signature by the key SIG is wrong"):
        card_signer(spoilt).sign(b"a manifest")


@pytest.mark.parametrize("change", [
    lambda answer: answer[2:], lambda answer: b"\1" + answer, lambda answer: b"\x90\0",
    lambda answer: bytes((answer[0] ^ 1,)) + answer[1:],
])  # fmt: skip
def test_a_wrong_plain_text_opens_nothing(spoilt, change):
    blob = dc.encrypt(b"a study", [card_identity(spoilt).recipient])
    line = spoilt.connection.transport
    line.ins, line.change = Ins.PSO, change
    with pytest.raises((dc.NoIdentityError, dc.DamagedError)):
        dc.decrypt(blob, [card_identity(spoilt)])


def test_a_pin_is_not_sent_twice_whatever_the_card_says():
    for status in ("6C0C", "6C00"):
        script = Script(status, "63C1")
        with pytest.raises(CardStatusError):
            connection.Connection(script).expect(
                CommandApdu(0, Ins.VERIFY, 0, 1, profile.reference_block(clinic.WRONG)), "x")
        assert len(script.sent) == 1


def test_nobody_encrypts_to_a_certificate_of_another_key(spoilt):
    before = spoilt.read("EF.CERT.DEC")
    spoilt.update("EF.CERT.DEC", Maker.root("Somebody else").der())
    try:
        with pytest.raises(TokenError, match=r"the certificate in EF\.CERT\.DEC is not of its key"):
            card_recipient(spoilt)
    finally:
        spoilt.update("EF.CERT.DEC", before)
