"""Public keys, private keys and passphrases wrap 32 bytes and give them to nobody else."""

import hashlib
import multiprocessing
import os
import pickle
import unicodedata

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import dicomcrypt as dc
from dicomcrypt.container.stanza import ARGON2ID, HYBRID, NO_HINT, SCRYPT, X25519, Stanza

KEY, CORE = os.urandom(32), os.urandom(64)
PAIRS = {"hybrid": dc.HybridIdentity, "x25519": dc.X25519Identity}
FIXED = bytes(range(32))
every_pair = pytest.mark.parametrize("kind", PAIRS.values(), ids=PAIRS)


def quick(text="correct horse", kdf="argon2id"):
    return dc.Passphrase(text, kdf=kdf, log2_n=15, memory_kib=64, passes=1, lanes=1)


every_kdf = pytest.mark.parametrize("kdf", ["argon2id", "scrypt"])


def changed(stanza, **fields):
    parts = {name: getattr(stanza, name) for name in ("type", "scope", "hint", "body")}
    return Stanza(**parts | fields)


def flipped(body, at):
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


# ---- key pairs ----------------------------------------------------------


@every_pair
@pytest.mark.parametrize("scope", [1, 2, 3, 4])
def test_what_is_wrapped_is_unwrapped_by_its_identity_alone(kind, scope):
    identity, other = kind.generate(), kind.generate()
    stanza = identity.recipient.wrap(KEY, scope, CORE)
    assert identity.matches(stanza)
    assert identity.unwrap(stanza, CORE) == KEY
    assert not other.matches(stanza)
    assert other.unwrap(stanza, CORE) is None
    assert other.unwrap(changed(stanza, hint=other.recipient.hint), CORE) is None


@every_pair
def test_a_stanza_is_bound_to_its_scope_and_object(kind):
    identity = kind.generate()
    stanza = identity.recipient.wrap(KEY, 1, CORE)
    assert identity.unwrap(stanza, os.urandom(64)) is None
    assert identity.unwrap(changed(stanza, scope=2), CORE) is None
    assert identity.unwrap(changed(stanza, type=stanza.type ^ 5), CORE) is None


@every_pair
def test_any_change_of_a_stanza_s_body_is_refused(kind):
    identity = kind.generate()
    stanza = identity.recipient.wrap(KEY, 1, CORE)
    step = 1 if len(stanza.body) < 100 else 13
    for at in {*range(0, len(stanza.body), step), len(stanza.body) - 1}:
        damaged = changed(stanza, body=flipped(stanza.body, at))
        assert identity.unwrap(damaged, CORE) is None, at
    for body in (b"", stanza.body[:-1], stanza.body + b"\0"):
        assert identity.unwrap(changed(stanza, body=body), CORE) is None


@pytest.mark.parametrize("point", [0, 1, 2**255 - 19, 2**255 - 18], ids=str)
def test_a_low_order_point_opens_nothing(point):
    identity = dc.X25519Identity.generate()
    stanza = identity.recipient.wrap(KEY, 1, CORE)
    body = point.to_bytes(32, "little") + stanza.body[32:]
    assert identity.unwrap(changed(stanza, body=body), CORE) is None


@every_pair
@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_private_key_of_another_length_is_refused(kind, size):
    with pytest.raises(ValueError, match="32"):
        kind(bytes(size))


@pytest.mark.parametrize(("kind", "size"), [(dc.HybridRecipient, 1216), (dc.X25519Recipient, 32)])
def test_a_public_key_of_another_length_is_refused(kind, size):
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(ValueError, match=r"32|long"):
            kind(bytes(wrong))


def test_a_hybrid_seed_expands_as_x_wing_says():
    material = hashlib.shake_256(FIXED).digest(96)
    public = X25519PrivateKey.from_private_bytes(material[64:]).public_key().public_bytes_raw()
    recipient = dc.HybridIdentity(FIXED).recipient
    assert len(recipient.public_bytes) == 1216
    assert recipient.public_bytes[1184:] == public
    assert recipient.hint == hashlib.sha256(recipient.public_bytes).digest()[:8]


@pytest.mark.parametrize(("kind", "number", "size"), [
    (dc.HybridIdentity, HYBRID, 1168), (dc.X25519Identity, X25519, 80)
])  # fmt: skip
def test_stanzas_have_the_type_and_size_of_the_specification(kind, number, size):
    stanza = kind(FIXED).recipient.wrap(KEY, 1, CORE)
    assert (stanza.type, stanza.scope, len(stanza.body)) == (number, 1, size)
    assert stanza.body != kind(FIXED).recipient.wrap(KEY, 1, CORE).body


@every_pair
def test_recipients_are_equal_by_their_key(kind):
    one, same, other = kind(FIXED).recipient, kind(FIXED).recipient, kind.generate().recipient
    assert one == same
    assert len({one, same, other}) == 2
    assert one != FIXED


# ---- passphrases --------------------------------------------------------


@every_kdf
def test_a_passphrase_unwraps_what_it_wrapped(kdf):
    stanza = quick(kdf=kdf).wrap(KEY, 1, CORE)
    assert stanza.type == (ARGON2ID if kdf == "argon2id" else SCRYPT)
    assert stanza.hint == NO_HINT
    assert len(stanza.body) == (94 if kdf == "argon2id" else 89)
    assert quick(kdf=kdf).unwrap(stanza, CORE) == KEY
    assert dc.Passphrase("correct horse").unwrap(stanza, CORE) == KEY  # parameters are inside
    assert quick("correct horsf", kdf).unwrap(stanza, CORE) is None
    assert quick(kdf=kdf).unwrap(stanza, os.urandom(64)) is None
    assert quick(kdf=kdf).unwrap(changed(stanza, scope=2), CORE) is None


@pytest.mark.parametrize("text", ["Bücherkönigsgröße", "ångström", "가나다", "é"])
def test_a_passphrase_is_the_same_however_its_letters_are_composed(text):
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert quick(decomposed).unwrap(quick(composed).wrap(KEY, 1, CORE), CORE) == KEY
    assert quick(composed).unwrap(quick(decomposed).wrap(KEY, 1, CORE), CORE) == KEY


def test_passphrases_that_only_look_alike_are_not_the_same():
    stanza = quick("ﬁne").wrap(KEY, 1, CORE)
    for other in ("fine", "ﬁne ", "FINE"):  # no compatibility folding, no trimming
        assert quick(other).unwrap(stanza, CORE) is None


@every_kdf
def test_a_torn_key_behind_a_right_commitment_is_damage(kdf):
    stanza = quick(kdf=kdf).wrap(KEY, 1, CORE)
    torn = changed(stanza, body=flipped(stanza.body, len(stanza.body) - 1))
    with pytest.raises(dc.DamagedError):
        quick(kdf=kdf).unwrap(torn, CORE)
    salt = 6 if kdf == "argon2id" else 1
    for at in (salt, salt + 15, salt + 16, salt + 47):  # salt and commitment
        damaged = changed(stanza, body=flipped(stanza.body, at))
        assert quick(kdf=kdf).unwrap(damaged, CORE) is None


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        (SCRYPT, bytes([14])), (SCRYPT, bytes([21])), (SCRYPT, bytes([255])),
        (ARGON2ID, b"\x01\x00\x20\x00\x01\x01"), (ARGON2ID, b"\xff\xff\xff\xff\x01\x01"),
        (ARGON2ID, b"\x07\x00\x00\x00\x01\x01"), (ARGON2ID, b"\x0f\x00\x00\x00\x01\x02"),
        (ARGON2ID, b"\x40\x00\x00\x00\x00\x01"), (ARGON2ID, b"\x40\x00\x00\x00\x11\x01"),
        (ARGON2ID, b"\x40\x00\x00\x00\x01\x00"), (ARGON2ID, b"\xff\xff\x00\x00\x01\x11"),
    ],
)  # fmt: skip
def test_parameters_beyond_the_limits_are_damage_and_are_not_run(kind, start):
    with pytest.raises(dc.DamagedError):
        quick().unwrap(Stanza(kind, 1, NO_HINT, start + bytes(88)), CORE)


@pytest.mark.parametrize(
    "options",
    [
        {"kdf": "pbkdf2"}, {"kdf": "scrypt", "log2_n": 14}, {"kdf": "scrypt", "log2_n": 21},
        {"kdf": "scrypt", "log2_n": -1}, {"kdf": "scrypt", "log2_n": 300}, {"memory_kib": 7},
        {"memory_kib": 31}, {"memory_kib": (1 << 21) + 1}, {"memory_kib": 1 << 40},
        {"memory_kib": -1}, {"passes": 0}, {"passes": 17}, {"lanes": 0}, {"lanes": 17},
        {"passes": 256},
    ],
    ids=repr,
)  # fmt: skip
def test_a_passphrase_with_parameters_out_of_range_cannot_be_made(options):
    with pytest.raises(dc.UsageError):
        dc.Passphrase("x", **options)


def test_an_empty_passphrase_cannot_be_made():
    with pytest.raises(dc.UsageError):
        dc.Passphrase("")


@pytest.mark.parametrize("size", [0, 5, 93, 95])
def test_a_passphrase_stanza_of_another_length_is_not_tried(size):
    assert quick().unwrap(Stanza(ARGON2ID, 1, NO_HINT, bytes(size)), CORE) is None
    assert quick().unwrap(Stanza(X25519, 1, NO_HINT, bytes(94)), CORE) is None


# ---- what is never shown ------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "secret"),
    [(dc.HybridIdentity(FIXED), FIXED), (dc.X25519Identity(FIXED), FIXED),
     (quick("correct horse"), b"correct horse")],
    ids=["hybrid", "x25519", "passphrase"],
)  # fmt: skip
def test_no_text_of_an_identity_shows_its_secret(thing, secret):
    for shown in (repr(thing), str(thing), f"{thing}", repr([thing])):
        for form in (repr(secret)[2:-1], secret.hex(), secret.decode("latin-1")):
            assert form not in shown


# ---- other processes ----------------------------------------------------


CORE_OF_STANZA = bytes(64)


@pytest.mark.parametrize("identity", [dc.HybridIdentity(FIXED), dc.X25519Identity(FIXED), quick(),
                                      quick(kdf="scrypt")],
                         ids=["hybrid", "x25519", "argon2id", "scrypt"])  # fmt: skip
def test_an_identity_is_the_same_after_pickling(identity):
    recipient = getattr(identity, "recipient", identity)
    copy = pickle.loads(pickle.dumps(recipient))  # noqa: S301
    stanza = copy.wrap(KEY, 1, CORE_OF_STANZA)
    again = pickle.loads(pickle.dumps(identity))  # noqa: S301
    assert again.unwrap(stanza, CORE_OF_STANZA) == KEY
    assert identity.unwrap(stanza, CORE_OF_STANZA) == KEY


@pytest.mark.parametrize("identity", [dc.HybridIdentity(FIXED), quick()], ids=["hybrid", "phrase"])
def test_an_identity_works_in_a_process_that_was_spawned(identity):
    stanza = getattr(identity, "recipient", identity).wrap(KEY, 1, CORE_OF_STANZA)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(identity.unwrap, (stanza, CORE_OF_STANZA)) == KEY
        assert pool.apply(identity.unwrap, (stanza, CORE)) is None
