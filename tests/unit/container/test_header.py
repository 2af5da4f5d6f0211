"""Slots: what is well-formed, which one is active, who opens it, and at what cost."""

import os
import struct

import pytest

import dicomcrypt as dc
from dicomcrypt.container import header
from dicomcrypt.container.layout import (
    FLAG_MIXED_PASSPHRASE,
    MAX_CAPACITY,
    Prefix,
    new_core,
    pack_capacity,
    parse_prefix,
)
from dicomcrypt.container.schedule import KeySchedule
from dicomcrypt.container.stanza import ARGON2ID, BATCH, SCRYPT, X25519, Stanza, parse_stanzas

ALICE, BOB = dc.X25519Identity.generate(), dc.X25519Identity.generate()
OBJECT_KEY = os.urandom(32)
CORE = new_core()
KEYS = KeySchedule.from_object_key(OBJECT_KEY, CORE)
CAPACITY = 2048
PREFIX = Prefix(CORE, CAPACITY, 0)


def quick(text="secret"):
    return dc.Passphrase(text, memory_kib=64, passes=1, lanes=1)


def for_alice(key=OBJECT_KEY, scope=1):
    return ALICE.recipient.wrap(key, scope, CORE)


def slot_bytes(stanzas, generation=2, keys=KEYS, capacity=CAPACITY):
    return header.pack_slot(CORE, capacity, generation, stanzas, keys)


def slots_of(a, b=bytes(CAPACITY)):
    return header.parse_slots(a + b, PREFIX)


def unlock(a, b=bytes(CAPACITY), identities=(ALICE,), flags=0, cache=None):
    prefix = Prefix(CORE, CAPACITY, flags)
    return header.unlock(prefix, header.parse_slots(a + b, prefix), identities, cache)


# ---- CORE and CAPACITY --------------------------------------------------


@pytest.mark.parametrize("capacity", [512, 1024, MAX_CAPACITY])
def test_a_capacity_in_range_is_taken(capacity):
    assert parse_prefix(CORE + pack_capacity(capacity)).capacity == capacity


@pytest.mark.parametrize("capacity", [0, 1, 511, 513, 768, MAX_CAPACITY + 512, 1 << 31])
def test_a_capacity_out_of_range_is_damage(capacity):
    with pytest.raises(dc.DamagedError):
        parse_prefix(CORE + pack_capacity(capacity))


@pytest.mark.parametrize("flag", range(1, 16))
def test_an_unknown_flag_is_damage(flag):
    with pytest.raises(dc.DamagedError):
        parse_prefix(new_core(1 << flag) + pack_capacity(512))


@pytest.mark.parametrize("size", [0, 7, 8, 63, 64, 71])
def test_a_short_prefix_is_damage(size):
    with pytest.raises(dc.DamagedError):
        parse_prefix((CORE + pack_capacity(512))[:size])


# ---- well-formed slots --------------------------------------------------


@pytest.mark.parametrize("generation", [2, 3, 4, 5, 1000, 2**32 - 1])
@pytest.mark.parametrize("number", [0, 1], ids="AB")
def test_even_generations_belong_into_slot_a_and_odd_ones_into_b(generation, number):
    slot = header.parse_slot(slot_bytes([for_alice()], generation), number, PREFIX)
    assert (slot is not None) == (generation % 2 == number)


@pytest.mark.parametrize("generation", [0, 1])
def test_a_generation_below_the_first_is_no_slot(generation):
    data = slot_bytes([for_alice()], generation)
    assert header.parse_slot(data, generation, PREFIX) is None


@pytest.mark.parametrize("at", [12 + 104, CAPACITY - 97])
def test_a_byte_in_the_padding_is_no_slot(at):
    data = bytearray(slot_bytes([for_alice()]))
    assert header.parse_slot(bytes(data), 0, PREFIX) is not None
    data[at] = 1
    assert header.parse_slot(bytes(data), 0, PREFIX) is None


@pytest.mark.parametrize("field", ["used -1", "used +1", "used 11", "count", "zero", "stanza"])
def test_a_slot_whose_numbers_do_not_fit_is_none(field):
    data = bytearray(slot_bytes([for_alice()]))
    used = struct.unpack_from("<I", data, 4)[0]
    where, code, value = {
        "used -1": (4, "<I", used - 1),
        "used +1": (4, "<I", used + 1),
        "used 11": (4, "<I", 11),
        "count": (8, "<H", 2),
        "zero": (10, "<H", 1),
        "stanza": (14, "<H", 93),
    }[field]
    struct.pack_into(code, data, where, value)
    assert header.parse_slot(bytes(data), 0, PREFIX) is None


def test_a_slot_may_be_filled_to_its_macs_and_not_beyond():
    room = CAPACITY - 96 - 12
    full = Stanza(200, 1, bytes(8), bytes(room - 12))
    assert header.fits([full], CAPACITY)
    assert slots_of(slot_bytes([full]))[0].stanzas == [full]
    more = Stanza(200, 1, bytes(8), bytes(room - 11))
    assert not header.fits([more], CAPACITY)


def test_a_thousand_and_twenty_four_stanzas_are_the_most():
    prefix = Prefix(CORE, 1 << 15, 0)
    for count in (1024, 1025):
        data = slot_bytes([Stanza(200, 1, bytes(8), b"")] * count, capacity=1 << 15)
        assert (header.parse_slot(data, 0, prefix) is not None) == (count == 1024)


@pytest.mark.parametrize("kind", [SCRYPT, ARGON2ID, BATCH])
@pytest.mark.parametrize("count", [8, 9])
def test_eight_costly_stanzas_are_the_most(kind, count):
    data = slot_bytes([Stanza(kind, 1, bytes(8), bytes(56))] * count)
    assert (header.parse_slot(data, 0, PREFIX) is not None) == (count == 8)


def test_the_two_passphrase_types_count_together():
    stanzas = [Stanza(SCRYPT, 1, bytes(8), b"")] * 5 + [Stanza(ARGON2ID, 1, bytes(8), b"")] * 4
    assert header.parse_slot(slot_bytes(stanzas), 0, PREFIX) is None
    assert header.parse_slot(slot_bytes(stanzas[1:]), 0, PREFIX) is not None


@pytest.mark.parametrize("cut", [1, 12, 91])
def test_stanzas_that_are_cut_off_are_damage(cut):
    data = for_alice().pack()
    with pytest.raises(dc.DamagedError):
        parse_stanzas(data[:-cut], 1)
    with pytest.raises(dc.DamagedError):
        parse_stanzas(data + bytes(cut), 1)
    assert parse_stanzas(data * 3, 3) == [for_alice_again(data)] * 3


def for_alice_again(data):
    return Stanza(X25519, 1, ALICE.recipient.hint, data[12:])


def test_without_a_well_formed_slot_the_header_is_damaged():
    with pytest.raises(dc.DamagedError):
        slots_of(bytes(CAPACITY))


# ---- capacity -----------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "count"), [(dc.HybridIdentity, 1), (dc.HybridIdentity, 5), (dc.X25519Identity, 9)]
)
def test_a_new_slot_has_room_for_one_more_hybrid_recipient(identity, count):
    more = dc.HybridIdentity.generate().recipient.wrap(OBJECT_KEY, 1, CORE)
    stanzas = [identity.generate().recipient.wrap(OBJECT_KEY, 1, CORE) for _ in range(count)]
    capacity = header.default_capacity(stanzas)
    assert capacity % 512 == 0
    assert header.fits([*stanzas, more], capacity)
    need = 12 + sum(len(s.pack()) for s in stanzas) + 96 + 1180
    assert capacity == -(-need // 512) * 512


def test_a_passphrase_s_slot_keeps_no_room_to_spare():
    assert header.default_capacity([quick().wrap(OBJECT_KEY, 1, CORE)]) == 512


def test_too_many_recipients_are_a_usage_error():
    with pytest.raises(dc.UsageError):
        header.default_capacity([Stanza(4, 1, bytes(8), bytes(1168))] * 1000)


# ---- which slot ---------------------------------------------------------


def test_the_higher_generation_is_active():
    a, b = slot_bytes([for_alice()], 4), slot_bytes([for_alice()], 3)
    assert unlock(a, b).slot.generation == 4
    assert unlock(a, slot_bytes([for_alice()], 5)).slot.generation == 5


@pytest.mark.parametrize("broken", [8, 12 + 12 + 40, -96, -64, -32], ids=str)
def test_the_older_slot_serves_while_the_newer_one_is_torn(broken):
    a, b = slot_bytes([for_alice()], 2), bytearray(slot_bytes([for_alice()], 3))
    assert unlock(a, bytes(b)).slot.generation == 3
    b[broken] ^= 1
    assert unlock(a, bytes(b)).slot.generation == 2
    with pytest.raises(dc.DamagedError):
        unlock(bytes(CAPACITY), bytes(b))


def test_a_slot_that_is_for_others_hands_on_to_the_older_one():
    other = BOB.recipient.wrap(OBJECT_KEY, 1, CORE)
    assert unlock(slot_bytes([for_alice()], 2), slot_bytes([other], 3)).slot.generation == 2


def test_no_slot_for_an_identity_is_no_damage():
    with pytest.raises(dc.NoIdentityError):
        unlock(slot_bytes([for_alice()]), identities=[BOB])
    with pytest.raises(dc.NoIdentityError):
        unlock(slot_bytes([for_alice()]), identities=[])


def test_a_stanza_of_another_object_with_my_hint_is_damage():
    foreign = ALICE.recipient.wrap(OBJECT_KEY, 1, new_core())
    with pytest.raises(dc.DamagedError):
        unlock(slot_bytes([foreign]))


def test_a_stanza_moved_to_another_scope_is_damage():
    stanza = for_alice()
    for scope in (2, 3, 4):
        with pytest.raises(dc.DamagedError):
            unlock(slot_bytes([Stanza(stanza.type, scope, stanza.hint, stanza.body)]))


@pytest.mark.parametrize("scope", [2, 3])
def test_a_scope_key_passed_off_as_the_object_key_is_damage(scope):
    with pytest.raises(dc.DamagedError):
        unlock(slot_bytes([for_alice(KEYS.scopes[scope], 1)]))


def test_several_scopes_of_one_identity_add_up():
    stanzas = [for_alice(KEYS.scopes[scope], scope) for scope in (3, 2)]
    opened = unlock(slot_bytes(stanzas))
    assert set(opened.keys.scopes) == {2, 3}
    assert opened.object_key is None


@pytest.mark.parametrize(
    "stanza",
    [
        Stanza(250, 1, ALICE.recipient.hint, b"?"),
        Stanza(X25519, 0, ALICE.recipient.hint, bytes(80)),
        Stanza(X25519, 5, ALICE.recipient.hint, bytes(80)),
        Stanza(X25519, 1, ALICE.recipient.hint, bytes(79)),
        Stanza(BATCH, 4, bytes(8), bytes(56)),
        Stanza(BATCH, 1, bytes(8), bytes(55)),
        Stanza(8, 1, bytes(8), b""),
    ],
    ids=["type", "scope 0", "scope 5", "length", "batch scope 4", "batch length", "reserved"],
)
def test_a_stanza_that_a_reader_ignores_does_not_stand_in_the_way(stanza):
    assert unlock(slot_bytes([stanza, for_alice()])).object_key == OBJECT_KEY


# ---- passphrases --------------------------------------------------------


@pytest.mark.parametrize("beside", [
    for_alice(), quick("other").wrap(OBJECT_KEY, 1, CORE), Stanza(250, 1, bytes(8), b"?"),
], ids=["recipient", "passphrase", "unknown"])  # fmt: skip
def test_a_passphrase_beside_others_is_damage_without_the_flag(beside):
    mixed = slot_bytes([quick().wrap(OBJECT_KEY, 1, CORE), beside])
    for who in (quick(), ALICE):
        with pytest.raises(dc.DamagedError):
            unlock(mixed, identities=[who])
    assert unlock(mixed, identities=[quick()], flags=FLAG_MIXED_PASSPHRASE).object_key == OBJECT_KEY


def test_a_slot_that_breaks_the_passphrase_rule_hands_on_to_the_older_one():
    mixed = slot_bytes([quick().wrap(OBJECT_KEY, 1, CORE), for_alice()], 3)
    assert unlock(slot_bytes([for_alice()], 2), mixed).slot.generation == 2


def test_a_wrong_passphrase_is_no_identity_and_a_torn_key_behind_a_right_one_is_damage():
    stanza = quick().wrap(OBJECT_KEY, 1, CORE)
    with pytest.raises(dc.NoIdentityError):
        unlock(slot_bytes([stanza]), identities=[quick("wrong")])
    torn = Stanza(stanza.type, 1, stanza.hint, stanza.body[:-1] + bytes([stanza.body[-1] ^ 1]))
    with pytest.raises(dc.DamagedError):
        unlock(slot_bytes([torn]), identities=[quick()])


class Counted:
    """An identity that notes when it is asked."""

    def __init__(self, identity, log, *, costly=False):
        self._identity, self._log, self.costly = identity, log, costly

    def matches(self, stanza):
        return self._identity.matches(stanza)

    def unwrap(self, stanza, binding):
        self._log.append(self._identity)
        return self._identity.unwrap(stanza, binding)


def test_identities_that_cost_a_key_derivation_are_asked_last_and_not_without_need():
    log, secret = [], quick()
    mixed = slot_bytes([secret.wrap(OBJECT_KEY, 1, CORE), for_alice()])
    identities = [Counted(secret, log, costly=True), Counted(ALICE, log)]
    assert unlock(mixed, identities=identities, flags=1).object_key == OBJECT_KEY
    assert secret not in log
    assert secret.costly


# ---- batches ------------------------------------------------------------


def batch_slots(count):
    """Slots of one batch as a job makes them, with their prefixes."""
    batch = dc.Batch([ALICE.recipient, BOB.recipient])
    for _ in range(count):
        keys, stanzas, capacity = batch._envelope.new()
        prefix = Prefix(keys.core, capacity, 0)
        data = header.pack_slot(keys.core, capacity, 2, stanzas, keys) + bytes(capacity)
        yield keys, prefix, header.parse_slots(data, prefix)


def test_a_job_asks_an_identity_once_for_all_objects_of_a_batch():
    log, cache = [], header.BatchKeyCache()
    asked = [Counted(ALICE, log)]
    for keys, prefix, slots in batch_slots(20):
        opened = header.unlock(prefix, slots, asked, cache)
        assert opened.keys.scopes == keys.scopes
    assert len(log) <= 2  # one for each of the batch's stanzas, however many objects
    for _, prefix, slots in batch_slots(1):
        header.unlock(prefix, slots, asked, cache)
    assert len(log) <= 4


def test_a_batch_cache_never_answers_for_another_identity():
    cache = header.BatchKeyCache()
    for _, prefix, slots in batch_slots(2):
        header.unlock(prefix, slots, [ALICE], cache)
        with pytest.raises(dc.NoIdentityError):
            header.unlock(prefix, slots, [dc.X25519Identity.generate()], cache)


def test_a_batch_cache_does_not_mistake_a_new_identity_for_one_that_is_gone():
    cache = header.BatchKeyCache()
    [(_, prefix, slots)] = batch_slots(1)
    for _ in range(200):  # ids of objects that are gone are given out again
        stranger = dc.X25519Identity(os.urandom(32))
        with pytest.raises(dc.NoIdentityError):
            header.unlock(prefix, slots, [stranger], cache)
        del stranger
        mine = dc.X25519Identity(ALICE.private_bytes())
        assert header.unlock(prefix, slots, [mine], cache).object_key
        del mine


def test_a_batch_stanza_of_another_object_is_damage():
    (_, _, first), (_, prefix, second) = batch_slots(2)
    foreign = [s for s in first[0].stanzas if s.type == BATCH]
    stanzas = [s for s in second[0].stanzas if s.type != BATCH] + foreign
    slot = header.Slot(2, stanzas, second[0].signed, second[0].macs)
    with pytest.raises(dc.DamagedError):
        header.unlock(prefix, [slot], [ALICE])
