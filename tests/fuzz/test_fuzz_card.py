"""Fuzzing of the software card: no command makes it fail, give out a secret, or do what its access
rules forbid. Seeds are commands of every kind; the budget is fixed, `make soak` takes more.
"""

import base64
import itertools
import os
import random
import time

import card_world as world
import pytest
from card_world import PIN_BLOCK, PUK_BLOCK, WRONG_BLOCK, partner
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomcrypt.card import profile, tlv
from dicomcrypt.card.apdu import CommandApdu
from dicomcrypt.card.profile import FILES, CardRole, Ins, KeyKind, Slot
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.state import CardData
from dicomcrypt.card.status import StatusWord

BUDGET = 4000
SECRET_NOTE = b"medication of the patient: secret"


def secrets(data):
    """Bytes that no response may ever hold: parts of private keys, PIN and PUK, hashed or not."""
    found = [world.PIN.encode(), world.PUK.encode(), PIN_BLOCK, PUK_BLOCK]
    for reference in data.references.values():
        found += [reference.salt, reference.digest]
    for stored in data.keys.values():
        numbers = serialization.load_der_private_key(stored.der, None).private_numbers()
        if stored.kind is KeyKind.P256:
            found.append(numbers.private_value.to_bytes(32, "big"))
        else:
            for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp"):
                number = getattr(numbers, name)
                found.append(number.to_bytes((number.bit_length() + 7) // 8, "big")[:32])
    return found + [base64.b64encode(secret) for secret in found]


def points():
    key = world.key(Slot.AUT, KeyKind.P256).public_key()
    point = key.public_bytes(serialization.Encoding.X962,
                             serialization.PublicFormat.UncompressedPoint)
    return tlv.encode(0xA6, tlv.encode(0x7F49, tlv.encode(0x86, point)))


def seeds():
    """Commands that make sense, without the right PIN and PUK."""
    made = [(Ins.SELECT, 4, p2, file.aid, 256) for file in FILES.values() if file.aid
            for p2 in (0, 12)]
    made += [(Ins.SELECT, how, 0, file.fid.to_bytes(2, "big"), 256) for file in FILES.values()
             for how in (0, 1, 2)]
    made += [(Ins.SELECT, 8, 12, FILES[file.parent].fid.to_bytes(2, "big")
              + file.fid.to_bytes(2, "big"), 0) for file in FILES.values() if file.parent]
    made += [(Ins.READ_BINARY, p1, p2, b"", answer) for p1 in (0, 1, *range(0x81, 0x90), 0x9E)
             for p2 in (0, 7) for answer in (1, 256)]
    made += [(ins, p1, 0, b"x" * 40, 0) for ins in (Ins.UPDATE_BINARY, Ins.ERASE_BINARY)
             for p1 in (0, 0x84, 0x8E, 0x81)]
    made += [(Ins.VERIFY, 0, n, block, 0) for n in (1, 2) for block in (b"", WRONG_BLOCK)]
    made += [(Ins.CHANGE_REFERENCE_DATA, p1, n, WRONG_BLOCK * times, 0)
             for p1 in (0, 1) for n in (1, 2) for times in (1, 2)]
    made += [(Ins.RESET_RETRY_COUNTER, 1, 1, WRONG_BLOCK, 0), (Ins.ACTIVATE, 0, 0, b"", 0)]
    made += [(Ins.MSE, 0x41, slot.template, bytes((0x84, 1, slot.reference, 0x80, 1, algorithm)), 0)
             for slot in Slot for algorithm in profile.Algorithm]
    made += [(Ins.MSE, 0x81, t, bytes((0x83, 1, 0x30, *more)), 0)
             for t, more in ((0xB6, ()), (0xA4, (0x80, 1, 0)))]
    made += [(Ins.MSE, 0x41, 0xAA, b"\x80\x01\x02", 0)]
    made += [(Ins.PSO, 0x9E, 0x9A, bytes(32), 256), (Ins.PSO, 0x80, 0x86, points(), 256),
             (Ins.PSO, 0x90, 0x80, b"text", 256), (Ins.PSO, 0x80, 0x86, bytes(385), 256),
             (Ins.PSO, 0x00, 0xBE, partner("physician").der(), 0)] * 3
    made += [(Ins.GET_CHALLENGE, 0, 0, b"", 32), (Ins.INTERNAL_AUTHENTICATE, 0, 0, bytes(32), 256),
             (Ins.EXTERNAL_AUTHENTICATE, 0, 0, bytes(64), 0), (Ins.GET_RESPONSE, 0, 0, b"", 256)]
    made += [(Ins.GENERATE, 0x81, 0, tlv.encode(s.template, bytes((0x84, 1, s.reference))), 256)
             for s in Slot]
    return [CommandApdu(0, *parts).encode() for parts in made]


def mutate(rng, raw):
    """A command as it is, or with bytes turned, cut off, put in, or of any kind at all."""
    kind = rng.random()
    if kind < 0.45:
        return raw
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(raw) or 1)
        what = rng.random()
        if what < 0.5 and raw:
            raw[min(at, len(raw) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif what < 0.7:
            del raw[at:]
        elif what < 0.8:
            raw[at:at] = rng.randbytes(rng.randint(1, 300))
        elif raw:
            raw[0] = rng.choice((0x10, 0x10, 0x01, 0x0C, 0x80, 0xFF))
    if kind > 0.97:
        return rng.randbytes(rng.choice((0, 1, 3, 4, 5, 261, 70_000)))
    return bytes(raw)


def batter(seed, commands, *, seconds=None):
    """Send commands without a PIN, resets in between; return how many there were."""
    rng = random.Random(seed)
    role = list(CardRole)[seed % 2]
    kind = list(KeyKind)[seed // 2 % 2]
    data = world.card_data(role, kind=kind)
    files = {**data.files, "EF.PATIENT": SECRET_NOTE}
    data = CardData(role, True, files, data.references, data.keys)
    hidden = [*secrets(data), SECRET_NOTE]
    host = world.Host(SoftwareCard(world.MemoryStore(data.encode())))
    known, count, started = seeds(), 0, time.monotonic()
    while count < commands and (seconds is None or time.monotonic() - started < seconds):
        count += 1
        if rng.random() < 0.01:
            host.card.reset()
        response = host.raw(mutate(rng, rng.choice(known)))
        assert StatusWord.of(response.status) is not StatusWord.UNKNOWN_ERROR
        for secret in hidden:
            assert secret not in response.data
        host.heard.clear()
    after = host.card.data
    assert after.keys == data.keys  # nothing that the PIN protects was changed
    assert after.operational
    writable = {"EF.NOTE"} if host.card.volatile.status.partners else set()
    assert {n for n in after.files if after.files[n] != data.files[n]} <= writable
    for number, reference in after.references.items():
        assert reference.digest == data.references[number].digest
        assert reference.left <= data.references[number].left
    return count


@pytest.mark.parametrize("seed", range(4))
def test_a_card_withstands_commands_of_any_kind(seed):
    assert batter(seed, BUDGET) == BUDGET


@pytest.mark.soak
def test_a_card_withstands_commands_for_long():
    seconds = float(os.environ.get("DICOMCRYPT_SOAK_SECONDS", "60"))
    total = sum(batter(seed, 10**9, seconds=seconds / 8) for seed in range(100, 108))
    print(f"{total:,} commands, no failure, no secret")


def test_a_card_in_its_initialisation_and_with_its_pin_withstands_them_too():
    rng = random.Random(9)
    for operational in (False, True):
        data = world.card_data("patient", operational=operational)
        hidden = secrets(data)
        host = world.Host(SoftwareCard(world.MemoryStore(data.encode())))
        known = seeds()
        for number in range(BUDGET // 2):
            if number % 20 == 0:
                host.card.reset()
                host.application()
                host.pin()
            host.raw(mutate(rng, rng.choice(known)))
        heard = b"\0".join(host.heard)
        for secret in hidden:
            assert secret not in heard


@pytest.fixture(scope="module")
def battered():
    """One card that all examples share, so that they find it in many states."""
    data = world.card_data("patient", kind=KeyKind.RSA_3072)
    return world.Host(SoftwareCard(world.MemoryStore(data.encode())))


@settings(max_examples=400, deadline=None)
@given(raw=st.one_of(
    st.binary(max_size=600),
    st.builds(lambda head, body: bytes(head) + body,
              st.tuples(st.sampled_from([0, 0x10]), st.sampled_from([int(i) for i in Ins]),
                        st.integers(0, 255), st.integers(0, 255)),
              st.binary(max_size=300)),
))  # fmt: skip
def test_any_bytes_get_a_status(battered, raw):
    response = battered.raw(raw)
    assert response.status >> 12 in (6, 9)
    if response.data:
        assert response.status == 0x9000 or response.status >> 8 in (0x61, 0x62)


@settings(max_examples=300, deadline=None)
@given(
    command=st.tuples(
        st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)
    ),
    data=st.binary(max_size=70), answer=st.integers(0, 300), extended=st.booleans(),
)  # fmt: skip
def test_every_class_and_instruction_gets_a_status(battered, command, data, answer, extended):
    if not extended:
        answer = min(answer, 256)
    battered.raw(CommandApdu(*command, data, answer, extended).encode())


def flawed(objects):
    """Data objects with one of them, or two, dropped, emptied, doubled or of another tag."""
    def variants(tag, value):
        return [b"", tlv.encode(tag, b""), tlv.encode(tag, value * 2), tlv.encode(tag, value) * 2,
                tlv.encode(tag ^ 1, value), tlv.encode(tag, b"\xff" * len(value)),
                tlv.encode(tag, value), tlv.encode(tag, value)[:-1]]

    for parts in itertools.product(*(variants(*one) for one in objects)):
        yield b"".join(parts)


def test_data_objects_with_any_flaw_get_a_status(battered):
    """Each of these commands in each way that its objects can be wrong."""
    for slot in Slot:
        for algorithm in (profile.Algorithm.RSA_OAEP, profile.Algorithm.RSA_PSS):
            for data in flawed([(0x84, bytes((slot.reference,))), (0x80, bytes((algorithm,)))]):
                battered.card.reset()
                battered.application()
                for template in (slot.template, profile.CRT_HASH, 0xB7):
                    for where in (profile.MSE_OWN, profile.MSE_PARTNER):
                        battered.send(Ins.MSE, where, template, data)
                for p1 in (0x80, 0x81):
                    for inner in (data, tlv.encode(slot.template, data)):
                        battered.send(Ins.GENERATE, p1, 0, inner, 256)
    for data in flawed([(0x83, b"\x30"), (0x80, b"\x05")]):
        for template in (profile.CRT_SIGNATURE, profile.CRT_AUTHENTICATION):
            battered.send(Ins.MSE, profile.MSE_PARTNER, template, data)
            battered.send(Ins.EXTERNAL_AUTHENTICATE, 0, 0, data)
            battered.send(Ins.PSO, 0, 0xBE, data)


def test_a_certificate_with_any_byte_turned_is_refused(battered):
    battered.card.reset()
    battered.application()
    der = partner("physician").der()
    for at in range(len(der)):
        for mask in (0x01, 0x80):
            wrong = der[:at] + bytes((der[at] ^ mask,)) + der[at + 1 :]
            assert battered.verify_certificate("physician", wrong) in (0x6300, 0x6A80)
    assert battered.verify_certificate("physician", der) == 0x9000


def test_the_longest_command_is_no_trouble(battered):
    battered.card.reset()
    battered.application()
    raw = CommandApdu(0, Ins.PSO, 0x00, 0xBE, bytes(65_535), 0).encode()
    assert battered.raw(raw).status == 0x6985
    assert battered.raw(raw + b"\0\0\0").status == 0x6700
    assert battered.raw(bytes(1 << 20)).status == 0x6700
