"""CMS envelopes: opened by who is meant, by nobody else, and not at all if they are damaged."""

import os

import pytest
from confidential import holder, opening
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomcrypt import policy
from dicomcrypt.errors import DamagedError, NoIdentityError, PolicyError, UsageError
from dicomcrypt.standard import ber
from dicomcrypt.standard import cms_envelope as cms
from dicomcrypt.standard.cms_password import PasswordRecipient

TEXT = b"what is inside" * 20


@pytest.fixture(scope="module")
def password():
    return PasswordRecipient(b"secret", iterations=1000)


def recipient(kind="rsa-2048", **options):
    return cms.CertificateRecipient(holder(kind).certificate, **options)


@pytest.mark.parametrize("cipher", cms.CIPHERS)
@pytest.mark.parametrize(("kind", "options"), [
    ("rsa-2048", {}), ("rsa-2048", {"classic": True}), ("p256", {}), ("p384", {}),
])  # fmt: skip
def test_the_holder_opens(kind, options, cipher, password):
    message = cms.seal(TEXT, [recipient(kind, **options), password], cipher)
    assert cms.open_sealed(message, opening(holder(kind))) == TEXT
    assert cms.open_sealed(message, cms.opening_of([holder(kind).key], [])) == TEXT
    assert cms.open_sealed(message, opening(passwords=[b"wrong", b"secret"])) == TEXT
    assert cms.open_sealed(message + b"\0", opening(holder(kind))) == TEXT


@pytest.mark.parametrize("kind", ["rsa-2048", "p256"])
def test_others_do_not(kind, password):
    message = cms.seal(TEXT, [recipient(kind), password])
    for who in (opening(holder(kind, 1)), cms.opening_of([holder(kind, 1).key], []),
                opening(passwords=[b"Secret"]), opening()):
        with pytest.raises(NoIdentityError):
            cms.open_sealed(message, who)


def test_no_message_is_like_another(password):
    first, second = (cms.seal(TEXT, [password]) for _ in range(2))
    assert first != second


def test_a_padding_oracle_gets_no_answer():
    """With PKCS #1 v1.5 a wrapped key that was tampered with fails as a wrong content does."""
    message = cms.seal(TEXT, [recipient(classic=True)])
    envelope = cms.parse(message)
    wrapped = envelope.infos[0].children()[3]
    for at in (wrapped.start + 5, wrapped.stop - 1):
        bad = bytearray(message)
        bad[at] ^= 1
        with pytest.raises(DamagedError, match="does not authenticate"):
            cms.open_sealed(bytes(bad), opening(holder()))


def test_every_cut_is_refused(password):
    message = cms.seal(TEXT, [password])
    for size in range(len(message)):
        with pytest.raises((DamagedError, NoIdentityError)):
            cms.open_sealed(message[:size], opening(passwords=[]))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_comes_raises_what_is_ours(data):
    message = _message()
    count = data.draw(st.integers(1, 4))
    bad = bytearray(message)
    for _ in range(count):
        bad[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        cms.open_sealed(bytes(bad), opening(holder("p256")))
    except (DamagedError, NoIdentityError, PolicyError):
        pass


_MADE = []


def _message():
    if not _MADE:
        _MADE.append(cms.seal(TEXT, [recipient("p256"), PasswordRecipient(b"x", iterations=1)]))
    return _MADE[0]


@pytest.mark.parametrize("hollow", ["entropy", "recipient"])
def test_an_empty_element_of_a_key_agreement_is_not_for_us(hollow):
    info = cms.CertificateRecipient(holder("p256").certificate).info(bytes(32))
    version, originator, how, keys = ber.read(info).children()
    ((_, wrapped),) = [one.children() for one in keys.children()]
    parts = [version.whole, originator.whole]
    if hollow == "entropy":
        parts += [ber.tlv(0xA1), how.whole, keys.whole]
    else:
        parts += [how.whole, ber.sequence(ber.sequence(ber.tlv(0xA0), wrapped.whole))]
    hollowed = ber.read(ber.tlv(0xA1, *parts))
    with pytest.raises((DamagedError, NoIdentityError)):
        cms.content_key([hollowed], 32, opening(holder("p256")))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_raise_what_is_ours(data):
    with pytest.raises(DamagedError):
        cms.parse(data)


@pytest.mark.parametrize("nest", [b"\x30\x80", b"\x24\x80", b"\xa0\x84\x7f\xff\xff\xff"])
def test_nesting_is_bounded(nest):
    with pytest.raises(DamagedError):
        cms.parse(b"\x30\x80" + nest * 100_000)


def test_a_password_is_not_hashed_for_ever():
    part = PasswordRecipient(b"x", iterations=1)
    part._iterations = 1 << 40
    with pytest.raises(PolicyError, match="hashed"):
        cms.open_sealed(cms.seal(TEXT, [part]), opening(passwords=[b"x"]))


def test_the_policy_is_asked(monkeypatch):
    monkeypatch.setattr(policy, "current", lambda: policy.preset("fips"))
    with pytest.raises(PolicyError, match="use rsa-oaep-sha256,"):
        recipient(classic=True)
    recipient()


def test_a_refused_certificate_s_remedy_is_one_that_cms_has(monkeypatch):
    monkeypatch.setattr(policy, "current", lambda: policy.preset("bsi"))
    with pytest.raises(PolicyError, match=r"wants 3000 bits .*; use cms-ecdh-p256, or see"):
        recipient()


def test_recipients_are_counted():
    with pytest.raises(UsageError):
        cms.seal(TEXT, [])


def test_other_keys_are_no_recipients():
    maker = holder("p256").above[0].leaf("Signer", uses=(), kind="ed25519")
    with pytest.raises(UsageError):
        cms.CertificateRecipient(maker.certificate)


def test_keys_are_not_shown(password):
    made = cms.CertificateRecipient(holder().certificate)
    assert "Holder" not in repr(made)
    assert repr(password) == "PasswordRecipient()"


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.7.3", "2.25.99", "1.3.6.1"])
def test_names_are_encoded_as_openssl_does(dotted):
    from cryptography import x509
    from cryptography.hazmat import asn1

    assert ber.oid(dotted) == asn1.encode_der(x509.ObjectIdentifier(dotted))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65536])
def test_lengths(size):
    data = ber.octets(os.urandom(size))
    element = ber.read(data)
    assert len(element.content) == size
    assert element.end == len(data)


@pytest.mark.parametrize("cipher", cms.CIPHERS)
def test_a_key_without_its_certificate_finds_its_place_among_classic_recipients(cipher):
    """Nothing in PKCS #1 v1.5 says whose a wrapped key is: the content does."""
    others = [cms.CertificateRecipient(holder("rsa-2048", n).certificate, classic=True)
              for n in range(2)]
    for recipients in (others, others[::-1]):
        message = cms.seal(TEXT, recipients, cipher)
        for number in range(2):
            who = cms.opening_of([holder("rsa-2048", number).key], [])
            assert cms.open_sealed(message, who, begins=TEXT[:2]) == TEXT


def test_a_message_with_many_passwords_is_refused(password):
    message = cms.seal(TEXT, [password] * 5)
    with pytest.raises(PolicyError, match="over 4 passwords"):
        cms.open_sealed(message, opening(passwords=[b"secret"]))
