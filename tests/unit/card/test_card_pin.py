"""The PIN and the PUK: tries, their order on the medium, unblocking, changing, life cycle."""

import hmac
from dataclasses import replace

import card_world as world
import pytest
from card_world import PIN_BLOCK, PUK_BLOCK, WRONG_BLOCK, WRONG_PUK_BLOCK

from dicomcrypt.card import profile, state
from dicomcrypt.card.profile import CardRole, Ins, reference_block
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.state import CardData, Reference
from dicomcrypt.errors import UsageError

NEW = reference_block("112233445566")


@pytest.fixture
def host():
    return world.make()


def left(host, reference=profile.PIN):
    return host.status(Ins.VERIFY, 0, reference)


def unblock(host, data, p1=0):
    return host.status(Ins.RESET_RETRY_COUNTER, p1, 1, data)


def stored(host):
    """The tries on the medium."""
    data = CardData.decode(host.card._store.load())
    return data.references[profile.PIN].left, data.references[profile.PUK].left


def test_wrong_pins_to_the_limit_and_the_way_back(host):
    assert left(host) == 0x63C3
    assert [host.pin(WRONG_BLOCK) for _ in range(4)] == [0x63C2, 0x63C1, 0x63C0, 0x6983]
    assert host.pin() == 0x6983 == left(host)
    host.card.reset()
    assert host.pin() == 0x6983
    assert unblock(host, WRONG_PUK_BLOCK + NEW) == 0x63C9
    assert host.pin() == 0x6983
    assert unblock(host, PUK_BLOCK + NEW) == 0x9000
    assert left(host, profile.PUK) == 0x63C8
    assert left(host) == 0x63C3
    assert host.pin() == 0x63C2
    assert host.pin(NEW) == 0x9000 == left(host)


def test_the_right_pin_brings_the_tries_back(host):
    host.pin(WRONG_BLOCK)
    host.pin(WRONG_BLOCK)
    assert host.pin() == 0x9000
    assert stored(host)[0] == 3
    assert host.pin(WRONG_BLOCK) == 0x63C2
    assert left(host) == 0x63C2  # and the PIN does not count as shown any more


def test_the_puk_alone_gives_the_old_pin_its_tries_back(host):
    for _ in range(3):
        host.pin(WRONG_BLOCK)
    assert unblock(host, PUK_BLOCK, 1) == 0x9000
    assert left(host) == 0x63C3
    assert host.pin() == 0x9000


def test_every_use_of_the_puk_counts_and_after_ten_it_is_over(host):
    for use in range(10):
        wrong = use % 2
        expected = 0x63C0 | (9 - use) if wrong else 0x9000
        assert unblock(host, WRONG_PUK_BLOCK if wrong else PUK_BLOCK, 1) == expected
    assert unblock(host, PUK_BLOCK, 1) == 0x6983 == left(host, profile.PUK)
    assert host.pin() == 0x9000  # the PIN itself lives on
    for _ in range(3):
        host.pin(WRONG_BLOCK)
    assert unblock(host, PUK_BLOCK + NEW) == 0x6983
    assert host.pin() == 0x6983


def test_changing_the_pin(host):
    def change(old, new):
        return host.status(Ins.CHANGE_REFERENCE_DATA, 0, 1, old + new)

    assert change(WRONG_BLOCK, NEW) == 0x63C2
    assert change(PIN_BLOCK, NEW) == 0x9000 == left(host)
    host.card.reset()
    assert host.pin() == 0x63C2
    assert host.pin(NEW) == 0x9000
    assert change(PIN_BLOCK, NEW) == 0x63C2
    assert left(host) == 0x63C2


def test_a_wrong_old_pin_costs_the_tries_of_verify(host):
    for expected in (0x63C2, 0x63C1, 0x63C0, 0x6983):
        answer = host.status(Ins.CHANGE_REFERENCE_DATA, 0, 1, WRONG_BLOCK + NEW)
        assert answer == expected
    assert host.pin() == 0x6983


@pytest.mark.parametrize(("block", "status"), [
    (b"", 0x63C3), (b"1" * 11, 0x6700), (b"1" * 13, 0x6700), (b"\xff" * 12, 0x6A80),
    (b"12345" + b"\xff" * 7, 0x6A80), (b"12345a" + b"\xff" * 6, 0x6A80),
    (b"123456" + b"\0" * 6, 0x6A80), (b"123\xff456" + b"\xff" * 5, 0x6A80),
])  # fmt: skip
def test_what_cannot_be_a_pin_costs_no_try(host, block, status):
    assert host.pin(block) == status
    assert left(host) == 0x63C3
    assert host.status(Ins.CHANGE_REFERENCE_DATA, 0, 1, PIN_BLOCK + block) in (0x6700, 0x6A80)
    assert unblock(host, block or b"x") in (0x6700, 0x6A80)
    assert stored(host) == (3, 10)


def test_the_pin_counts_as_not_shown_on_demand_and_after_a_reset(host):
    host.pin()
    assert left(host) == 0x9000
    assert host.status(Ins.VERIFY, 0xFF, 1) == 0x9000
    assert left(host) == 0x63C3
    host.pin()
    host.card.reset()
    assert left(host) == 0x63C3


@pytest.mark.parametrize(("command", "status"), [
    ((Ins.VERIFY, 1, 1), 0x6A86), ((Ins.VERIFY, 0, 3), 0x6A88), ((Ins.VERIFY, 0, 0), 0x6A88),
    ((Ins.VERIFY, 0, 0x81), 0x6A88), ((Ins.VERIFY, 0xFF, 2), 0x6A87),
    ((Ins.VERIFY, 0xFF, 1, PIN_BLOCK), 0x6A87), ((Ins.VERIFY, 0, 2, PUK_BLOCK), 0x6981),
    ((Ins.CHANGE_REFERENCE_DATA, 2, 1), 0x6A86), ((Ins.CHANGE_REFERENCE_DATA, 0, 3), 0x6A88),
    ((Ins.CHANGE_REFERENCE_DATA, 0, 2, PUK_BLOCK * 2), 0x6982),
    ((Ins.CHANGE_REFERENCE_DATA, 1, 1, PIN_BLOCK), 0x6982),
    ((Ins.RESET_RETRY_COUNTER, 2, 1), 0x6A86), ((Ins.RESET_RETRY_COUNTER, 0, 2), 0x6A88),
    ((Ins.RESET_RETRY_COUNTER, 0, 1, PUK_BLOCK), 0x6700), ((Ins.ACTIVATE, 0, 1), 0x6A86),
    ((Ins.ACTIVATE, 0, 0, b"x"), 0x6700), ((Ins.ACTIVATE,), 0x6982),
])  # fmt: skip
def test_refusals_that_cost_no_try(host, command, status):
    assert host.status(*command) == status
    assert stored(host) == (3, 10)


# ---- the order of things -----------------------------------------------------


@pytest.mark.parametrize("block", [PIN_BLOCK, WRONG_BLOCK])
@pytest.mark.parametrize("command", ["verify", "change", "unblock"])
def test_the_try_is_gone_from_the_medium_before_anything_is_compared(
    host, monkeypatch, command, block
):
    seen = []
    real = Reference.is_of

    def spy(reference, given):
        seen.append(stored(host))
        return real(reference, given)

    monkeypatch.setattr(Reference, "is_of", spy)
    if command == "verify":
        host.pin(block)
    elif command == "change":
        host.status(Ins.CHANGE_REFERENCE_DATA, 0, 1, block + NEW)
    else:
        unblock(host, PUK_BLOCK if block is PIN_BLOCK else WRONG_PUK_BLOCK, 1)
    assert seen == [(3, 9) if command == "unblock" else (2, 10)]


def test_nothing_is_compared_if_the_try_cannot_be_stored(host, monkeypatch):
    def full(data):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(Reference, "is_of", lambda *_: pytest.fail("compared"))
    monkeypatch.setattr(host.card._store, "save", full)
    assert [host.pin(), host.pin(WRONG_BLOCK), host.pin()] == [0x6581] * 3
    assert host.pin() == 0x6983  # each may be gone on the medium


def test_a_right_pin_whose_tries_cannot_be_stored_does_not_count(host, monkeypatch):
    real, count = host.card._store.save, iter(range(9))

    def second_fails(data):
        if next(count):
            raise OSError(28, "no space left on device")
        real(data)

    monkeypatch.setattr(host.card._store, "save", second_fails)
    assert host.pin() == 0x6581
    assert left(host) == 0x63C2
    assert stored(host)[0] == 2


def test_pins_are_compared_in_constant_time(host, monkeypatch):
    lengths = []
    real = hmac.compare_digest
    monkeypatch.setattr(state.hmac, "compare_digest",
                        lambda a, b: lengths.append((len(a), len(b))) or real(a, b))
    host.pin()
    host.pin(WRONG_BLOCK)
    assert lengths == [(32, 32)] * 2


def test_the_pin_is_kept_hashed_with_a_salt_of_its_own(host, cheap_hashes):
    assert cheap_hashes == (65536, 19456)
    first, second = (Reference.of(PIN_BLOCK, 3) for _ in range(2))
    assert first.salt != second.salt
    assert first.digest != second.digest
    data = host.card.data
    for secret in (world.PIN, world.PUK):
        assert secret.encode() not in data.encode()
        assert secret not in repr(data) + repr(host.card)
    assert first.is_of(PIN_BLOCK)
    assert not first.is_of(WRONG_BLOCK)


@pytest.mark.parametrize(("digits", "reference"), [
    ("12345", 1), ("1234567890123", 1), ("12345a", 1), ("１２３４５６", 1), ("", 1),
    ("1234567", 2), ("1234567890123", 2),
])  # fmt: skip
def test_a_pin_is_of_six_to_twelve_digits_and_a_puk_of_eight(digits, reference):
    with pytest.raises(UsageError) as error:
        reference_block(digits, reference)
    assert not digits or digits not in str(error.value)


# ---- life cycle --------------------------------------------------------------


def test_a_fresh_card_is_personalised_and_then_closed_for_good():
    host = world.Host(SoftwareCard.in_memory("patient"))
    assert left(host) == 0x6984 == left(host, profile.PUK)
    assert host.pin() == 0x6984 == unblock(host, PUK_BLOCK, 1)
    assert host.status(Ins.ACTIVATE) == 0x6985
    host.file("EF.GDO")
    host.ok(Ins.UPDATE_BINARY, data=profile.gdo(world.ICCSN, world.HOLDER))
    host.ok(Ins.CHANGE_REFERENCE_DATA, 1, 1, PIN_BLOCK)
    host.ok(Ins.CHANGE_REFERENCE_DATA, 1, 2, PUK_BLOCK)
    host.application()
    for slot in profile.Slot:
        assert host.status(Ins.ACTIVATE) == 0x6985
        crt = bytes((slot.template, 6, 0x84, 1, slot.reference, 0x80, 1, profile.KeyKind.P256))
        host.ok(Ins.GENERATE, 0x80, 0, crt, 256)
    assert host.pin() == 0x9000
    host.ok(Ins.ACTIVATE)
    assert host.card.data.operational
    assert left(host) == 0x63C3
    assert host.status(Ins.ACTIVATE) == 0x6982
    assert host.status(Ins.CHANGE_REFERENCE_DATA, 1, 1, NEW) == 0x6982
    host.file("EF.GDO")
    assert host.status(Ins.UPDATE_BINARY, data=b"x") == 0x6982


@pytest.mark.parametrize("lacking", ["EF.GDO", "PIN", "PUK", "key", "form"])
def test_a_card_that_lacks_something_cannot_be_closed(lacking):
    data = world.card_data(CardRole.PATIENT, operational=False)
    if lacking in ("EF.GDO", "form"):
        files = {**data.files, "EF.GDO": b"" if lacking == "EF.GDO" else b"\x5a\x01\x00"}
        data = replace(data, files=files)
    elif lacking == "key":
        data = replace(data, keys=dict(list(data.keys.items())[:2]))
    else:
        number = {"PIN": profile.PUK, "PUK": profile.PIN}[lacking]
        data = replace(data, references={number: data.references[number]})
    host = world.Host(SoftwareCard(world.MemoryStore(data.encode())))
    assert host.status(Ins.ACTIVATE) == 0x6985
