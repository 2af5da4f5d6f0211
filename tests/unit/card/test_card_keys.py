"""MSE, PSO, INTERNAL and EXTERNAL AUTHENTICATE, GENERATE: judged by the library's public keys."""

import datetime
import hashlib

import card_world as world
import pytest
from card_world import authority, partner, signer
from certificates import DAY, Maker, altered, fresh_key
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from dicomcrypt.card import profile, tlv
from dicomcrypt.card.profile import Algorithm, Ins, KeyKind, Slot
from dicomcrypt.card.software import SoftwareCard

SHA256 = hashes.SHA256()
DIGEST = hashlib.sha256(b"a report").digest()
PADDINGS = {Algorithm.RSA_PKCS1: padding.PKCS1v15(),
            Algorithm.RSA_PSS: padding.PSS(padding.MGF1(SHA256), 32)}
SIGNING = [(KeyKind.RSA_3072, Algorithm.RSA_PKCS1), (KeyKind.RSA_3072, Algorithm.RSA_PSS),
           (KeyKind.P256, Algorithm.ECDSA)]
ALL = (profile.CRT_SIGNATURE, profile.CRT_AUTHENTICATION, profile.CRT_CONFIDENTIALITY)


@pytest.fixture(scope="module", params=list(KeyKind), ids=lambda k: k.name)
def kind(request):
    return request.param


def ready(kind=KeyKind.P256, role="professional", **options):
    host = world.make(role, kind=kind, **options).application()
    assert host.pin() == 0x9000
    return host


def check(public, algorithm, signature, digest):
    """Raises InvalidSignature."""
    if algorithm is Algorithm.ECDSA:
        assert len(signature) == 64
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        der = utils.encode_dss_signature(r, s)
        public.verify(der, digest, ec.ECDSA(utils.Prehashed(SHA256)))
    else:
        public.verify(signature, digest, PADDINGS[algorithm], utils.Prehashed(SHA256))


def sign(host, data=DIGEST):
    return host.send(Ins.PSO, 0x9E, 0x9A, data, 256)


# ---- signatures --------------------------------------------------------------


@pytest.mark.parametrize(("kind", "algorithm"), SIGNING)
def test_signatures_hold_against_the_public_file(kind, algorithm):
    host = ready(kind)
    assert host.choose(profile.CRT_SIGNATURE, algorithm, Slot.SIG) == 0x9000
    first, second = sign(host), sign(host)
    assert first.status == second.status == 0x9000
    host.file("EF.PUB.SIG")
    public = serialization.load_der_public_key(
        host.ok(Ins.READ_BINARY, answer=65536, extended=True)
    )
    for found in (first, second):
        check(public, algorithm, found.data, DIGEST)
        with pytest.raises(InvalidSignature):
            check(public, algorithm, found.data, bytes(32))


def test_a_long_signature_comes_in_parts_or_at_once():
    host = ready(KeyKind.RSA_3072)
    host.choose(profile.CRT_SIGNATURE, Algorithm.RSA_PKCS1, Slot.SIG)
    first = host.raw(b"\x00\x2a\x9e\x9a\x20" + DIGEST + b"\x00")
    assert (len(first.data), first.status) == (256, 0x6180)
    rest = host.raw(b"\x00\xc0\x00\x00\x80")
    assert (len(rest.data), rest.status) == (128, 0x9000)
    whole = host.raw(b"\x00\x2a\x9e\x9a\x00\x00\x20" + DIGEST + b"\x00\x00")
    assert (whole.data, whole.status) == (first.data + rest.data, 0x9000)


def test_the_card_hashes_what_is_signed_next():
    host = ready()
    host.choose(profile.CRT_SIGNATURE, Algorithm.ECDSA, Slot.SIG)
    assert host.status(Ins.PSO, 0x90, 0x80, b"text") == 0x6985
    host.ok(Ins.MSE, profile.MSE_OWN, profile.CRT_HASH, b"\x80\x01\x02")
    assert sign(host, b"").status == 0x6985
    host.ok(Ins.PSO, 0x90, 0x80, b"a rep", cla=0x10)
    assert host.ok(Ins.PSO, 0x90, 0x80, b"ort") == b""
    check(world.key(Slot.SIG, KeyKind.P256).public_key(), Algorithm.ECDSA,
          sign(host, b"").data, DIGEST)
    assert sign(host, b"").status == 0x6985  # once
    assert host.ok(Ins.PSO, 0x90, 0x80, b"a report", 32) == DIGEST


def test_a_digest_of_another_length_is_not_signed():
    host = ready()
    host.choose(profile.CRT_SIGNATURE, Algorithm.ECDSA, Slot.SIG)
    for length in (1, 20, 31, 33, 64):
        assert sign(host, bytes(length)).status == 0x6A80


@pytest.mark.parametrize(("kind", "algorithm"), SIGNING)
def test_requests_can_be_signed_with_each_key_until_the_card_is_closed(kind, algorithm):
    host = ready(kind, operational=False)
    for slot in Slot:
        host.choose(profile.CRT_SIGNATURE, algorithm, slot)
        check(world.key(slot, kind).public_key(), algorithm, sign(host).data, DIGEST)
    host.ok(Ins.ACTIVATE)
    assert host.pin() == 0x9000
    assert sign(host).status == 0x6982  # with the last one, of authentication


def test_a_reset_takes_the_pin_and_the_chosen_key_away():
    host = ready()
    host.choose(profile.CRT_SIGNATURE, Algorithm.ECDSA, Slot.SIG)
    host.card.reset()
    host.application()
    assert sign(host).status == 0x6985
    host.choose(profile.CRT_SIGNATURE, Algorithm.ECDSA, Slot.SIG)
    assert sign(host).status == 0x6982


# ---- deciphering -------------------------------------------------------------


def oaep(public, text):
    return public.encrypt(text, padding.OAEP(padding.MGF1(SHA256), SHA256, None))


def test_rsa_oaep():
    host = ready(KeyKind.RSA_3072)
    host.choose(profile.CRT_CONFIDENTIALITY, Algorithm.RSA_OAEP, Slot.DEC)
    sealed = oaep(world.key(Slot.DEC, KeyKind.RSA_3072).public_key(), b"a key of 32 bytes")
    assert host.ok(Ins.PSO, 0x80, 0x86, b"\0" + sealed, 256, extended=True) == b"a key of 32 bytes"
    host.ok(Ins.PSO, 0x80, 0x86, b"\0" + sealed[:200], cla=0x10)
    assert host.ok(Ins.PSO, 0x80, 0x86, sealed[200:], 256) == b"a key of 32 bytes"
    turned = sealed[:-1] + bytes((sealed[-1] ^ 1,))
    for wrong in (b"\0" + turned, b"\x01" + sealed, sealed, b"\0" + sealed + b"\0", b"", b"\0",
                  b"\0" + b"\xff" * 384):
        assert host.status(Ins.PSO, 0x80, 0x86, wrong, 256, extended=True) == 0x6A80


def point_object(point):
    return tlv.encode(0xA6, tlv.encode(0x7F49, tlv.encode(0x86, point)))


def test_ecdh_gives_the_x_coordinate():
    host = ready()
    host.choose(profile.CRT_CONFIDENTIALITY, Algorithm.ECDH, Slot.DEC)
    own = world.key(Slot.DEC, KeyKind.P256)
    other = ec.generate_private_key(ec.SECP256R1())
    encoding = serialization.Encoding.X962
    point = other.public_key().public_bytes(
        encoding, serialization.PublicFormat.UncompressedPoint
    )
    shared = host.ok(Ins.PSO, 0x80, 0x86, point_object(point), 256)
    assert shared == other.exchange(ec.ECDH(), own.public_key())
    short = other.public_key().public_bytes(encoding, serialization.PublicFormat.CompressedPoint)
    off = point[:-1] + bytes((point[-1] ^ 1,))
    for wrong in (point_object(off), point_object(short), point_object(b"\0"), point, b"",
                  point_object(b"\4" + bytes(64)), tlv.encode(0xA6, point), b"\xa6\x82\xff"):
        assert host.status(Ins.PSO, 0x80, 0x86, wrong, 256) == 0x6A80


# ---- choosing ----------------------------------------------------------------


def test_only_what_fits_can_be_chosen(kind):
    host = ready(kind)
    fits = {
        KeyKind.RSA_3072: ({0x02, 0x05}, {0x85}), KeyKind.P256: ({0x00}, {0x0B}),
    }[kind]  # fmt: skip
    for template in ALL:
        allowed = fits[template == profile.CRT_CONFIDENTIALITY]
        for algorithm in (0x00, 0x01, 0x02, 0x05, 0x0B, 0x85, 0xFF):
            expected = 0x9000 if algorithm in allowed else 0x6A80
            assert host.choose(template, algorithm, Slot.SIG) == expected


@pytest.mark.parametrize(("p1", "p2", "data", "status"), [
    (0x41, 0xB6, "8401808001 00", 0x6A88), (0x41, 0xB6, "840184800100", 0x6A88),
    (0x41, 0xB6, "8401818000", 0x6A80), (0x41, 0xB6, "840181", 0x6A80),
    (0x41, 0xB6, "800100", 0x6A80), (0x41, 0xB6, "", 0x6A80),
    (0x41, 0xB6, "84018180010083 0110", 0x6A80), (0x41, 0xB6, "8402818180 0100", 0x6A80),
    (0x41, 0xB6, "840181840181800100", 0x6A80), (0x41, 0xB6, "8405", 0x6A80),
    (0x41, 0xAA, "800101", 0x6A80), (0x41, 0xAA, "", 0x6A80), (0x41, 0xAA, "800102840181", 0x6A80),
    (0x81, 0xAA, "800102", 0x6A86), (0x81, 0xB8, "830110", 0x6A86), (0x41, 0xB7, "", 0x6A86),
    (0x42, 0xB6, "", 0x6A86), (0x81, 0xB6, "830111", 0x6A88), (0x81, 0xB6, "830110800100", 0x6A80),
    (0x81, 0xB6, "840110", 0x6A80), (0x81, 0xA4, "830130", 0x6A80),
    (0x81, 0xA4, "830130800185", 0x6A80), (0x81, 0xA4, "830130800100", 0x9000),
    (0x81, 0xA4, "83023030800100", 0x6A80),
])  # fmt: skip
def test_mse_refuses_what_it_does_not_know(p1, p2, data, status):
    assert ready().status(Ins.MSE, p1, p2, bytes.fromhex(data)) == status


@pytest.mark.parametrize("p1p2", [0x0000, 0x9E9B, 0x8084, 0x90A0, 0x00AE, 0xFFFF])
def test_other_operations_are_unknown(p1p2):
    assert ready().status(Ins.PSO, p1p2 >> 8, p1p2 & 0xFF, b"x", 256) == 0x6A86


# ---- key pairs ---------------------------------------------------------------


def crt(slot, kind=None):
    inner = bytes((0x84, 1, slot.reference)) + (bytes((0x80, 1, kind)) if kind else b"")
    return tlv.encode(slot.template, inner)


def test_a_pair_is_made_on_the_card_and_its_public_half_can_be_read(kind):
    host = world.Host(SoftwareCard.in_memory("professional")).application()
    made = host.ok(Ins.GENERATE, 0x80, 0, crt(Slot.DEC, kind), 256)
    assert made == host.ok(Ins.GENERATE, 0x81, 0, crt(Slot.DEC), 256)
    host.file("EF.PUB.DEC")
    public = serialization.load_der_public_key(
        host.ok(Ins.READ_BINARY, answer=65536, extended=True)
    )
    ((tag, inner),) = tlv.parse(made)
    fields = tlv.fields(inner)
    assert tag == 0x7F49
    if kind is KeyKind.RSA_3072:
        assert public.key_size == 3072
        assert fields == {0x81: public.public_numbers().n.to_bytes(384, "big"), 0x82: b"\1\0\1"}
    else:
        assert fields == {0x86: public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )}  # fmt: skip


def test_a_new_pair_of_another_kind_unsets_what_was_chosen():
    host = ready(KeyKind.RSA_3072, operational=False)
    host.choose(profile.CRT_SIGNATURE, Algorithm.RSA_PSS, Slot.SIG)
    host.ok(Ins.GENERATE, 0x80, 0, crt(Slot.SIG, KeyKind.P256), 256)
    assert sign(host).status == 0x6985


@pytest.mark.parametrize(("p1", "p2", "data", "status"), [
    (0x82, 0, "B603840181", 0x6A86), (0x80, 1, "B606840181800102", 0x6A86),
    (0x80, 0, "B606840181800103", 0x6A80), (0x80, 0, "B603840181", 0x6A80),
    (0x81, 0, "B606840181800102", 0x6A80), (0x81, 0, "B803840181", 0x6A80),
    (0x81, 0, "B603840184", 0x6A88), (0x81, 0, "", 0x6A80), (0x81, 0, "B6038401", 0x6A80),
    (0x81, 0, "B603840181B603840181", 0x6A80), (0x81, 0, "B603840181A403840183", 0x6A80),
])  # fmt: skip
def test_generate_refuses_what_it_does_not_know(p1, p2, data, status):
    host = ready(operational=False)
    assert host.status(Ins.GENERATE, p1, p2, bytes.fromhex(data), 256) == status


def test_there_is_no_key_before_one_is_made():
    host = world.Host(SoftwareCard.in_memory("patient")).application()
    assert host.status(Ins.GENERATE, 0x81, 0, crt(Slot.SIG), 256) == 0x6A88
    assert host.choose(profile.CRT_SIGNATURE, Algorithm.ECDSA, Slot.SIG) == 0x6A88


# ---- challenges and partners -------------------------------------------------


@pytest.mark.parametrize(("answer", "status"), [
    (0, 0x6700), (7, 0x6700), (8, 0x9000), (64, 0x9000), (65, 0x6700), (256, 0x9000),
])  # fmt: skip
def test_challenges_have_a_length(answer, status):
    host = world.make()
    found = host.send(Ins.GET_CHALLENGE, answer=answer)
    assert found.status == status
    assert len(found.data) == (0 if status != 0x9000 else 32 if answer == 256 else answer)
    assert found.data != host.send(Ins.GET_CHALLENGE, answer=answer).data or not found.data
    assert host.status(Ins.GET_CHALLENGE, 1, 0, answer=8) == 0x6A86
    assert host.status(Ins.GET_CHALLENGE, data=b"x", answer=8) == 0x6700


@pytest.mark.parametrize(("kind", "algorithm"), SIGNING)
def test_the_card_authenticates_itself_by_its_prefix_and_the_challenge(kind, algorithm):
    host = ready(kind)
    assert host.choose(profile.CRT_AUTHENTICATION, algorithm, Slot.AUT) == 0x9000
    challenge = bytes(range(32))
    proof = host.ok(Ins.INTERNAL_AUTHENTICATE, data=challenge, answer=256)
    public = world.key(Slot.AUT, kind).public_key()
    check(public, algorithm, proof,
          hashlib.sha256(profile.AUTHENTICATION_PREFIX + challenge).digest())
    with pytest.raises(InvalidSignature):
        check(public, algorithm, proof, challenge)
    for length in (0, 7, 65):
        assert host.status(Ins.INTERNAL_AUTHENTICATE, data=bytes(length), answer=256) == 0x6700
    assert host.status(Ins.INTERNAL_AUTHENTICATE, 1, 0, challenge, 256) == 0x6A86


@pytest.mark.parametrize("role", ["insurance", "pharmacist", "physician", "hospital", "patient"])
def test_partners_of_each_role_are_verified_and_authenticated(role):
    host = ready()
    holder = partner(role)
    assert host.verify_certificate(role, holder.der()) == 0x9000
    assert host.authenticate(role, signer(holder.key)) == 0x9000
    assert {str(r) for r in host.card.volatile.status.partners} == {role}
    for other in profile.PARTNERS.values():
        if other != role:
            assert host.verify_certificate(other, holder.der()) == 0x6300
    host.card.reset()
    assert not host.card.volatile.status.partners


@pytest.mark.parametrize("kind", list(KeyKind), ids=lambda k: k.name)
def test_two_cards_authenticate_to_each_other(kind):
    """A doctor's card opens the notes of a patient's card, on which no PIN was entered."""
    doctor, patient = ready(kind), world.make("patient").application()
    algorithm = Algorithm.ECDSA if kind is KeyKind.P256 else Algorithm.RSA_PSS
    own = authority().leaf("Dr. Anna Arzt", uses=("tls-client",), role="physician",
                           key=world.key(Slot.AUT, kind))
    doctor.choose(profile.CRT_AUTHENTICATION, algorithm, Slot.AUT)

    def prove(challenge):
        return doctor.ok(Ins.INTERNAL_AUTHENTICATE, data=challenge, answer=256)

    patient.file("EF.NOTE")
    assert patient.status(Ins.UPDATE_BINARY, data=b"allergic to penicillin") == 0x6982
    patient.application()
    assert patient.verify_certificate("physician", own.der()) == 0x9000
    reference = bytes((0x83, 1, 0x30, 0x80, 1, algorithm))
    patient.ok(Ins.MSE, profile.MSE_PARTNER, profile.CRT_AUTHENTICATION, reference)
    proof = prove(patient.ok(Ins.GET_CHALLENGE, answer=32))
    assert patient.status(Ins.EXTERNAL_AUTHENTICATE, data=proof, extended=True) == 0x9000
    patient.file("EF.NOTE")
    patient.ok(Ins.UPDATE_BINARY, data=b"allergic to penicillin")
    assert patient.file("EF.PATIENT") == 0x9000
    assert patient.status(Ins.READ_BINARY, answer=256) == 0x6982  # that needs the PIN


def test_a_proof_is_good_once_and_for_the_last_challenge_alone():
    host, doctor = world.make("patient").application(), partner("physician")
    prove = signer(doctor.key)
    assert host.verify_certificate("physician", doctor.der()) == 0x9000
    data = bytes((0x83, 1, 0x30, 0x80, 1, Algorithm.ECDSA))
    host.ok(Ins.MSE, profile.MSE_PARTNER, profile.CRT_AUTHENTICATION, data)
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, data=bytes(64)) == 0x6985
    first = prove(host.ok(Ins.GET_CHALLENGE, answer=32))
    second = prove(host.ok(Ins.GET_CHALLENGE, answer=32))
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, data=first) == 0x6300
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, data=second) == 0x6985
    short = prove(host.ok(Ins.GET_CHALLENGE, answer=8))
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, data=short) == 0x6985
    good = prove(host.ok(Ins.GET_CHALLENGE, answer=32))
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, data=good) == 0x9000
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, data=good) == 0x6985
    assert not host.card.volatile.status.partners  # a failure takes the right away
    assert host.status(Ins.EXTERNAL_AUTHENTICATE, 1, 0, good) == 0x6A86


def test_nobody_is_authenticated_by_another_ones_key_or_certificate():
    host, doctor = world.make("patient").application(), partner("physician")
    assert host.verify_certificate("physician", doctor.der()) == 0x9000
    assert host.authenticate("physician", signer(fresh_key())) == 0x6300
    assert host.authenticate("pharmacist", signer(doctor.key)) == 0x6A88
    assert host.authenticate("physician", signer(doctor.key), Algorithm.RSA_PSS) == 0x6300
    assert host.authenticate("physician", lambda challenge: b"") == 0x6300
    sealing = partner("physician", "encryption")
    assert host.verify_certificate("physician", sealing.der()) == 0x9000
    assert host.authenticate("physician", signer(sealing.key)) == 0x6300
    assert host.verify_certificate("physician", doctor.der()) == 0x9000
    assert host.verify_certificate("physician", b"0") == 0x6A80
    assert host.authenticate("physician", signer(doctor.key)) == 0x6A88
    assert host.card.volatile.status.partners == set()


def test_certificates_that_the_card_refuses():
    host = ready()
    good = partner("physician")
    key = fresh_key()
    stranger = Maker.root("Trust centre").leaf("X", role="physician", key=key)  # of that name
    below = authority().authority("Issuing").leaf("X", role="physician", key=key)
    for certificate, status in (
        (altered(good.certificate), 0x6300), (stranger.certificate, 0x6300),
        (below.certificate, 0x6300),
        (authority().leaf("X", key=key).certificate, 0x6300),  # states no role
        (authority().leaf("X", role="physician", key=key, end=-DAY / 2).certificate, 0x6300),
        (authority().leaf("X", role="physician", key=key, begin=DAY).certificate, 0x6300),
    ):
        der = certificate.public_bytes(serialization.Encoding.DER)
        assert host.verify_certificate("physician", der) == status
    for wrong in (b"", b"0", good.der()[:-1], good.der() + b"\0", good.pem(), bytes(3000)):
        assert host.verify_certificate("physician", wrong) == 0x6A80
    assert not host.card.volatile.verified
    assert host.status(Ins.PSO, 0x00, 0xBE, good.der()) == 0x9000


def test_certificates_are_judged_at_the_time_of_the_clock():
    times = iter([datetime.datetime.now(datetime.UTC), datetime.datetime(2399, 1, 1)])
    card = SoftwareCard(world.MemoryStore(world.card_data().encode()), clock=lambda: next(times))
    host, doctor = world.Host(card).application(), partner("physician")
    assert host.verify_certificate("physician", doctor.der()) == 0x9000
    assert host.verify_certificate("physician", doctor.der()) == 0x6300


def test_without_the_authoritys_certificate_nobody_is_verified():
    data = world.card_data(operational=False)
    data.files.pop("EF.CERT.CA")
    host = world.Host(SoftwareCard(world.MemoryStore(data.encode()))).application()
    assert host.verify_certificate("physician", partner("physician").der()) == 0x6A88
    host.file("EF.CERT.CA")
    host.ok(Ins.UPDATE_BINARY, data=b"nothing")
    assert host.verify_certificate("physician", partner("physician").der()) == 0x6A80


def test_the_rest_of_an_older_certificate_behind_the_authoritys_does_not_matter():
    host = ready(operational=False)
    host.file("EF.CERT.CA")
    host.ok(Ins.UPDATE_BINARY, data=authority().der() + b"older", extended=True)
    assert host.verify_certificate("physician", partner("physician").der()) == 0x9000


def test_a_certificate_of_any_length_may_come_in_short_parts():
    host = world.make().application()
    der = partner("hospital").der()
    host.ok(Ins.MSE, profile.MSE_PARTNER, profile.CRT_SIGNATURE, b"\x83\x01\x40")
    for at in range(0, len(der), 100):
        last = at + 100 >= len(der)
        assert host.status(Ins.PSO, 0, 0xBE, der[at : at + 100], cla=0 if last else 0x10) == 0x9000
    assert host.card.volatile.verified
