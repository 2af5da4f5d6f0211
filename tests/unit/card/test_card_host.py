"""The host's side, on cards in this process: connections, sessions, keys, identities."""

import copy
import functools
import pickle

import clinic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from hypothesis import given
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.card import apdu, connection, profile, status, transport
from dicomcrypt.card.apdu import CommandApdu, ResponseApdu
from dicomcrypt.card.identity import card_identity, card_recipient
from dicomcrypt.card.keys import CardECPrivateKey, CardRSAPrivateKey, card_key
from dicomcrypt.card.profile import CardRole, KeyKind, Slot
from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import InProcess
from dicomcrypt.errors import CardStatusError, DamagedError, TokenError, UsageError, WrongPinError
from dicomcrypt.keys import home
from dicomcrypt.keys.cms import verify_cms
from dicomcrypt.keys.signing import Signer

_SHA256 = hashes.SHA256()
_OAEP = padding.OAEP(padding.MGF1(_SHA256), _SHA256, None)


@pytest.fixture(scope="module", params=list(KeyKind), ids=lambda kind: kind.name)
def made(request, ward):
    """A personalised card."""
    card = SoftwareCard.in_memory(CardRole.PROFESSIONAL)
    with CardSession(InProcess(card)) as session:
        ward.personalise(session, request.param)
    return clinic.Watched(card)


@pytest.fixture(params=[True, False], ids=["extended", "short"])
def session(request, made):
    with CardSession(InProcess(made, "desk"), extended=request.param) as session:
        yield session


# ---- commands and layers ---------------------------------------------------------


@given(st.builds(
    CommandApdu, *[st.integers(0, 255)] * 4, st.binary(max_size=600),
    st.sampled_from([0, 1, 255, 256, 257, 65535, 65536]), st.booleans(),
))  # fmt: skip
def test_commands_come_back_from_their_bytes(command):
    again = CommandApdu.parse(command.encode())
    assert again.encode() == command.encode()
    assert (again.cla, again.ins, again.p1p2, again.data) == (
        command.cla, command.ins, command.p1p2, command.data)
    assert again.answer == command.answer


@pytest.mark.parametrize("raw", ["", "00A404", "00A40000030102", "00A4000002010203FF",
                                 "00A400000000", "00A4000000000001", "00A40000000002010203"])
def test_commands_whose_lengths_do_not_fit_are_refused(raw):
    with pytest.raises(DamagedError):
        CommandApdu.parse(bytes.fromhex(raw))


@given(st.binary(max_size=40))
def test_random_bytes_are_a_command_or_refused(raw):
    try:
        assert len(CommandApdu.parse(raw).data) <= len(raw)
    except DamagedError:
        pass


def test_what_a_command_or_response_cannot_be():
    for wrong in (
        lambda: CommandApdu(256, 0, 0, 0), lambda: CommandApdu(0, 0, 0, 0, bytes(65536)),
        lambda: CommandApdu(0, 0, 0, 0, answer=65537), lambda: ResponseApdu(b"", 0x10000),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()
    for raw in (b"", b"\x90"):
        with pytest.raises(DamagedError):
            ResponseApdu.parse(raw)
    assert "secret" not in repr(CommandApdu(0, 0x20, 0, 1, b"secret"))


def test_every_status_word_has_a_sentence():
    for word in status.StatusWord:
        assert status.StatusWord.of(word) is word
        assert f"({word:04X})" in status.meaning(word)
    assert status.tries_left(0x63C2) == 2
    assert "2 tries are left" in status.meaning(0x63C2)
    assert status.tries_left(status.StatusWord.BLOCKED) == 0
    assert status.more_data(0x6100) == 256
    assert status.right_length(0x6C10) == 16
    for unknown, means in ((0x1234, "UNKNOWN_ERROR"), (0x6299, "WARNING"), (0x6310, "VERIFIC")):
        assert status.StatusWord.of(unknown).name.startswith(means)


class Script:
    """A transport that gives its answers in turn, and keeps what it was sent."""

    name, atr, has_pad = "script", b"", False

    def __init__(self, *answers):
        self.answers, self.sent = [bytes.fromhex(a) for a in answers], []

    def transmit(self, command):
        self.sent.append(command.hex())
        return self.answers.pop(0)


def test_rests_are_fetched_and_wrong_lengths_asked_again():
    script = Script("6C04", "01026102", "03049000")
    line = connection.Connection(script)
    assert line.expect(CommandApdu(0, 0xB0, 0, 0, answer=256), "read") == bytes([1, 2, 3, 4])
    assert script.sent == ["00b0000000", "00b0000004", "00c0000002"]
    assert line.commands == 3
    endless = connection.Connection(Script(*["00" * 256 + "6100"] * 300))
    with pytest.raises(TokenError, match="does not end"):
        endless.send(CommandApdu(0, 0xB0, 0, 0, answer=256))
    with pytest.raises(TokenError, match="'script': the card answered with 1 bytes"):
        connection.Connection(Script("90")).send(CommandApdu(0, 0xB0, 0, 0))


def test_long_commands_go_in_parts_to_cards_without_extended_lengths():
    script = Script("9000", "9000", "0190 00")
    line = connection.Connection(script, extended=False)
    assert line.expect(CommandApdu(0, 0x2A, 0x80, 0x86, bytes(600), apdu.MOST_ANSWER), "x") == b"\1"
    assert [sent[:10] for sent in script.sent] == ["102a8086ff", "102a8086ff", "002a80865a"]
    assert script.sent[2].endswith("00")
    refused = connection.Connection(Script("6883"), extended=False)
    with pytest.raises(CardStatusError, match="end of a command sent in parts") as caught:
        refused.expect(CommandApdu(0, 0x2A, 0, 0, bytes(600)), "sign")
    assert caught.value.status == 0x6883


# ---- sessions --------------------------------------------------------------------


def test_a_card_of_another_kind_is_told():
    card = clinic.Watched(SoftwareCard.in_memory(CardRole.PATIENT))
    InProcess(card)
    other = Script()
    other.atr = bytes.fromhex("3B00")
    other.close = lambda: None
    with pytest.raises(TokenError, match=r"no HPJC card \(ATR 3b00\)"):
        CardSession(other)


def test_files_of_any_length_come_back(session, ward):
    session.verify(clinic.PIN)
    for size in (0, 1, 255, 256, 4095, 4096, 4097, 8192):
        content = bytes(i % 251 for i in range(size))
        session.update("EF.PUBLIC.CERT.PHAR", content)
        assert session.read("EF.PUBLIC.CERT.PHAR") == content
    with pytest.raises(UsageError, match="holds 8192 bytes, not 8193"):
        session.update("EF.PUBLIC.CERT.PHAR", bytes(8193))
    session.update("EF.PUBLIC.CERT.PHAR", b"no certificate")
    with pytest.raises(DamagedError, match="is no certificate"):
        session.certificate("EF.PUBLIC.CERT.PHAR")
    session.update("EF.PUBLIC.CERT.PHAR", b"")
    assert session.certificate("EF.PUBLIC.CERT.PHAR") is None


def test_without_the_pin_nothing_is_done_with_keys(session):
    key = card_key(session, Slot.SIG)
    with pytest.raises(CardStatusError, match="the card wants the PIN"):
        _sign(key, b"data")
    assert session.tries() == 3
    session.verify(clinic.PIN)
    assert session.tries() is None


def test_a_new_card_is_personalised_once(ward):
    card = SoftwareCard.in_memory(CardRole.PATIENT)
    with CardSession(InProcess(card)) as session:
        assert (session.holder, session.iccsn) == ("", "")
        assert not session.is_operational()
        with pytest.raises(TokenError, match="it has no key DEC"):
            card_identity(session)
        with pytest.raises(TokenError, match="no certificate to encrypt to"):
            card_recipient(session)
        ward.personalise(session)
        assert session.is_operational()
        assert session.holder == "Max Muster"
        with pytest.raises(UsageError, match="in operation already"):
            ward.personalise(session)


def test_nothing_is_written_for_a_pin_that_cannot_be(ward):
    card = clinic.Watched(SoftwareCard.in_memory(CardRole.PATIENT))
    with CardSession(InProcess(card)) as session:
        for changed in ({"pin": "12345"}, {"puk": "1234"}):
            words = {"pin": clinic.PIN, "puk": clinic.PUK, **changed}
            from dicomcrypt.card import personal

            with pytest.raises(UsageError, match="digits"):
                personal.personalise(session, clinic.PATIENT, None, **words, authority=None,
                                     iccsn=personal.new_iccsn(), kind=KeyKind.P256)
        with pytest.raises(UsageError, match="not for the role physician"):
            personal.personalise(session, clinic.DOCTOR, None, pin=clinic.PIN, puk=clinic.PUK,
                                 iccsn="", kind=KeyKind.P256, authority=None)
    assert card.card.data.files == {}


def test_the_reader_asks_for_the_pin_on_its_own_keys(made):
    class Pad(InProcess):
        has_pad = True

        def verify_on_pad(self, request):
            assert request[:5] == bytes((60, 60, 0x82, 12, 0))
            assert request[5:7] == bytes((12, 6))  # at most and at least, little endian
            length = int.from_bytes(request[15:19], "little")
            command = request[19:]
            assert length == len(command) == 17
            assert command[:5] == bytes.fromhex("002000010C")
            return self.typed(command)

    pad = Pad(made)
    with CardSession(pad) as session:
        pad.typed = lambda command: b"\x64\x01"
        with pytest.raises(TokenError, match="cancelled"):
            session.verify_on_pad()
        pad.typed = lambda command: made.transmit(command[:5] + profile.reference_block("111111"))
        with pytest.raises(WrongPinError, match="2 tries are left"):
            session.verify_on_pad()
        pad.typed = lambda command: made.transmit(command[:5] + profile.reference_block(clinic.PIN))
        session.verify_on_pad()
        assert session.tries() is None
    found = transport.features(bytes.fromhex("060442330006 120442330012 0704".replace(" ", "")))
    assert found == {6: 0x42330006, 0x12: 0x42330012}


# ---- keys ------------------------------------------------------------------------


def _sign(key, data):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_SHA256))
    return key.sign(data, padding.PKCS1v15(), _SHA256)


def test_the_library_takes_the_card_s_keys_for_its_own(session, ward):
    session.verify(clinic.PIN)
    key = card_key(session, Slot.SIG)
    certificate = session.certificate("EF.CERT.SIG")
    authority = session.certificate("EF.CERT.CA")
    signature = verify_cms(b"data", Signer(key, certificate, [authority]).sign(b"data"))
    assert signature.certificate == certificate
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, _SHA256)
    assert request.is_signature_valid
    digest = hashes.Hash(_SHA256)
    digest.update(b"data")
    prehashed = utils.Prehashed(_SHA256)
    if isinstance(key, CardRSAPrivateKey):
        pss = padding.PSS(padding.MGF1(_SHA256), padding.PSS.DIGEST_LENGTH)
        made = key.sign(digest.finalize(), pss, prehashed)
        key.public_key().verify(made, b"data", pss, _SHA256)
        for wrong in (padding.PSS(padding.MGF1(_SHA256), 20), padding.PSS(
            padding.MGF1(hashes.SHA1()), 32), _OAEP):  # noqa: S303
            with pytest.raises(TokenError, match="this padding"):
                key.sign(b"data", wrong, _SHA256)
        with pytest.raises(TokenError, match="another hash"):
            key.sign(b"data", padding.PKCS1v15(), hashes.SHA512())
    else:
        made = key.sign(digest.finalize(), ec.ECDSA(prehashed))
        key.public_key().verify(made, b"data", ec.ECDSA(_SHA256))
        with pytest.raises(TokenError, match="another hash"):
            key.sign(b"data", ec.ECDSA(hashes.SHA384()))
    assert copy.copy(key) is copy.deepcopy(key) is key
    for reading in (key.private_numbers, functools.partial(key.private_bytes, 1, 2, 3)):
        with pytest.raises(TokenError, match="cannot be read"):
            reading()
    with pytest.raises(TokenError, match="leave this process"):
        pickle.dumps(key)


def test_the_deciphering_key_deciphers_and_does_not_sign(session):
    session.verify(clinic.PIN)
    key = card_key(session, Slot.DEC)
    with pytest.raises(CardStatusError, match="the card wants the PIN, or another proof"):
        _sign(key, b"data")
    if isinstance(key, CardECPrivateKey):
        other = ec.generate_private_key(ec.SECP256R1())
        assert key.exchange(ec.ECDH(), other.public_key()) == other.exchange(
            ec.ECDH(), key.public_key())
        with pytest.raises(TokenError, match="this key agreement"):
            key.exchange(ec.ECDH(), ec.generate_private_key(ec.SECP384R1()).public_key())
    else:
        assert key.decrypt(key.public_key().encrypt(b"x", _OAEP), _OAEP) == b"x"
        with pytest.raises(TokenError, match="another padding"):
            key.decrypt(bytes(384), padding.PKCS1v15())
        with pytest.raises(CardStatusError):
            key.decrypt(b"\1" * 384, _OAEP)


# ---- identities ------------------------------------------------------------------


def test_a_card_opens_what_is_for_it_by_one_operation_a_batch(session):
    session.verify(clinic.PIN)
    identity = card_identity(session)
    assert identity.recipient.certificate is not None
    with dc.Batch(recipients=[identity.recipient]) as batch:
        blobs = []
        for number in range(5):
            out = bytearray(5000)
            blobs.append(bytes(out[: batch.encrypt_into(b"study %d" % number, out)]))
    assert [dc.decrypt(blob, [identity]) for blob in blobs] == [b"study %d" % n for n in range(5)]
    assert identity.operations == 1
    assert dc.decrypt(dc.encrypt(b"alone", [identity.recipient]), [identity]) == b"alone"
    assert identity.operations == 2


def test_spoilt_stanzas_open_nothing(session):
    session.verify(clinic.PIN)
    identity = card_identity(session)
    stanza = identity.recipient.wrap(bytes(range(32)), 1, b"core")
    assert identity.unwrap(stanza, b"core") == bytes(range(32))
    for at in (1, 40, len(stanza.body) - 1):
        body = bytearray(stanza.body)
        body[at] ^= 1
        assert identity.unwrap(stanza._replace(body=bytes(body)), b"core") is None
    assert identity.unwrap(stanza._replace(hint=bytes(8)), b"core") is None
    assert identity.unwrap(stanza._replace(body=stanza.body[:-1]), b"core") is None


def test_a_worker_asks_the_job_s_process(session, monkeypatch):
    session.verify(clinic.PIN)
    identity = card_identity(session)
    away = pickle.loads(pickle.dumps(identity))  # noqa: S301
    stanza = identity.recipient.wrap(bytes(32), 1, b"core")
    assert (away.hint, away.algorithm, away.stanza_type) == (
        identity.hint, identity.algorithm, identity.stanza_type)
    assert away.matches(stanza)
    assert away.unwrap(stanza, b"core") is None  # outside of a job nobody can be asked
    monkeypatch.setattr(home, "ask", lambda q: pickle.loads(pickle.dumps(q)).answer())  # noqa: S301
    assert away.unwrap(stanza, b"core") == bytes(32)
    assert away.unwrap(stanza, b"core") == bytes(32)
    assert identity.operations == 1
