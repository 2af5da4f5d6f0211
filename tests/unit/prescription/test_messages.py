"""Signatures and envelopes: round trips, changes, and openssl on the same bytes."""

import functools
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from practice import clinic, key_pem

from dicomcrypt import policy
from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    NoIdentityError,
    PolicyError,
    UsageError,
)
from dicomcrypt.keys.extensions import key_identifier
from dicomcrypt.pki.files import pem
from dicomcrypt.prescription import envelope, signed

WHO = ["anna", "max", "paul"]


def holder(name):
    return getattr(clinic(), name)


def openssl(need_command, folder, *words, **files):
    need_command("openssl", "openssl")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return subprocess.run(["openssl", "cms", *words], cwd=folder, capture_output=True, timeout=100,
                          check=False)


@functools.cache
def sample():
    return signed.sign(b"content", clinic().anna, "prescription")


@functools.cache
def sealed_sample():
    return envelope.seal(b"secret", [clinic().anna.certificate])


# ---- signatures ------------------------------------------------------------------


@pytest.mark.parametrize("name", WHO)
@pytest.mark.parametrize("options", [{}, {"named": False}, {"certificates": False},
                                     {"detached": True}], ids=str)
def test_what_is_signed_is_verified(name, options):
    who = holder(name)
    der = signed.sign(b"content", who, "prescription", attributes={signed.DOCUMENT: b"d" * 32},
                      crls=clinic().lists(), **options)
    content = b"content" if options.get("detached") else None
    message = signed.parse(der, content)
    message.verify(who.certificate)
    assert (message.content, message.kind, message.way) == (b"content", "prescription", "")
    assert message.digests[signed.DOCUMENT] == b"d" * 32
    assert len(message.crls) == 3
    assert (message.certificate is None) == (options.get("certificates") is False)
    with pytest.raises(DamagedError, match="another certificate"):
        message.verify(clinic().rita.certificate)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_signed_message_passes(data):
    der = sample()
    at = data.draw(st.integers(0, len(der) - 1))
    changed = bytearray(der)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        message = signed.parse(bytes(changed))
        message.verify(clinic().anna.certificate)
    except (DamagedError, CertificateRefusedError):
        return
    # All that may change unnoticed are certificates that come along.
    assert message.content == b"content"
    assert message.kind == "prescription"
    assert message.certificates != signed.parse(der).certificates


@pytest.mark.parametrize("cut", [0, 1, 20, 200, -1])
def test_a_cut_message_is_damaged(cut):
    der = signed.sign(b"content", clinic().anna)
    with pytest.raises(DamagedError):
        signed.parse(der[:cut])
    with pytest.raises(DamagedError):
        signed.parse(der + b"\0")


def test_detached_and_whole_are_not_mistaken():
    whole, alone = signed.sign(b"c", clinic().anna), signed.sign(b"c", clinic().anna, detached=True)
    with pytest.raises(DamagedError, match="content is missing"):
        signed.parse(alone)
    with pytest.raises(DamagedError, match="content of its own"):
        signed.parse(whole, b"other")
    with pytest.raises(DamagedError, match="changed after"):
        signed.parse(alone, b"other").verify(clinic().anna.certificate)


@pytest.mark.parametrize("name", WHO)
def test_openssl_verifies_signatures_with_the_lists_inside(name, tmp_path, need_command):
    der = signed.sign(b"content", holder(name), "prescription", crls=clinic().lists())
    done = openssl(need_command, tmp_path, "-verify", "-inform", "DER", "-in", "s.der", "-CAfile",
                   "root.crt", "-crl_check_all",
                   **{"s.der": der, "root.crt": pem([clinic().root.certificate])})
    assert done.stdout == b"content"
    assert b"Verification successful" in done.stderr
    assert done.returncode == 0


# ---- envelopes -------------------------------------------------------------------


@pytest.mark.parametrize("name", WHO)
def test_each_recipient_opens_an_envelope_and_nobody_else(name):
    people = [holder(n).certificate for n in WHO]
    der = envelope.seal(b"secret", people)
    assert envelope.open_envelope(der, holder(name)) == b"secret"
    assert b"secret" not in der
    assert len(envelope.recipients_of(der)) == 3
    with pytest.raises(NoIdentityError, match="for somebody else"):
        envelope.open_envelope(der, clinic().rita)


@pytest.mark.parametrize("name", WHO)
def test_openssl_opens_our_envelopes(name, tmp_path, need_command):
    who = holder(name)
    der = envelope.seal(b"secret" * 1000, [holder(n).certificate for n in WHO])
    done = openssl(need_command, tmp_path, "-decrypt", "-inform", "DER", "-in", "e.der", "-recip",
                   "c.pem", "-inkey", "k.pem", **{"e.der": der, "c.pem": pem([who.certificate]),
                                                  "k.pem": key_pem(who.key)})
    assert done.stdout == b"secret" * 1000, done.stderr


def test_an_envelope_names_nobody():
    der = envelope.seal(b"secret", [clinic().max.certificate])
    for told in (b"Muster", b"home.test", b"insurance",
                 clinic().max.certificate.serial_number.to_bytes(20, "big")):
        assert told not in der


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_changed_byte_of_an_envelope_passes(data):
    der = sealed_sample()
    changed = bytearray(der)
    changed[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((DamagedError, NoIdentityError)):
        envelope.open_envelope(bytes(changed), clinic().anna)


@pytest.mark.parametrize(("name", "algorithm"), [
    ("anna", "cms-ecdh-p256"), ("max", "cms-ecdh-p384"), ("paul", "rsa-oaep-sha256"),
])  # fmt: skip
def test_the_policy_is_asked_for_sealing_and_for_opening(name, algorithm):
    who, base = holder(name), policy.preset("default")
    der = envelope.seal(b"secret", [who.certificate])

    def demand(state):
        rules = {**dict(base), algorithm: policy.rules.Rule(state)}
        policy.use(policy.Policy("strict", "test", rules, base.other))

    try:
        demand("decrypt-only")
        assert envelope.open_envelope(der, who) == b"secret"
        with pytest.raises(PolicyError, match=f"{algorithm}.* is not permitted to encrypt"):
            envelope.seal(b"secret", [who.certificate])
        demand("refused")
        with pytest.raises(PolicyError, match=f"{algorithm}.* is not permitted to decrypt"):
            envelope.open_envelope(der, who)
    finally:
        policy.use(None)


def test_keys_that_nothing_can_be_wrapped_to_are_refused():
    from certificates import fresh_key

    odd = clinic().people.leaf("Odd", key=fresh_key("x25519"), uses=["encryption"]).certificate
    with pytest.raises(UsageError, match="not wrapped to"):
        envelope.seal(b"secret", [odd])
    with pytest.raises(UsageError, match="from 1 to 16"):
        envelope.seal(b"secret", [])
    weak = clinic().people.leaf("Weak", key=fresh_key("rsa-1024")).certificate
    with pytest.raises(PolicyError):
        envelope.seal(b"secret", [weak])


def test_a_certificate_without_key_identifier_is_named_by_issuer(tmp_path, need_command):
    made = clinic().people.leaf("Plain", identifiers=False)
    from dicomcrypt.prescription.holders import Holder

    who = Holder(made.key, made.certificate)
    assert key_identifier(made.certificate.extensions) is None
    der = envelope.seal(b"secret", [made.certificate])
    assert envelope.open_envelope(der, who) == b"secret"
    done = openssl(need_command, tmp_path, "-decrypt", "-inform", "DER", "-in", "e.der", "-recip",
                   "c.pem", "-inkey", "k.pem", **{"e.der": der, "c.pem": pem([made.certificate]),
                                                  "k.pem": key_pem(made.key)})
    assert done.stdout == b"secret", done.stderr
    signed.parse(signed.sign(b"c", who, named=False)).verify(made.certificate)


@pytest.mark.parametrize("words", ["", "-aes-256-gcm -keyopt rsa_padding_mode:oaep"])
def test_an_envelope_of_openssl_in_other_algorithms_is_refused(words, tmp_path, need_command):
    """OAEP with SHA-1, AES-CBC without a tag: read by openssl, refused here."""
    who = clinic().paul
    done = openssl(need_command, tmp_path, "-encrypt", "-binary", "-in", "c", "-outform", "DER",
                   *(words.split() or ["-aes256"])[:1], "-recip", "c.pem", *words.split()[1:],
                   **{"c": b"secret", "c.pem": pem([who.certificate])})
    assert done.returncode == 0, done.stderr
    with pytest.raises((DamagedError, NoIdentityError)):
        envelope.open_envelope(done.stdout, who)


def test_certificates_are_bounded():
    many = [clinic().people.leaf(str(n), key=clinic().max.key).certificate for n in range(17)]
    from dicomcrypt.prescription.holders import Holder

    der = signed.sign(b"c", Holder(clinic().anna.key, clinic().anna.certificate, tuple(many)))
    with pytest.raises(DamagedError, match="too many certificates"):
        signed.parse(der)
