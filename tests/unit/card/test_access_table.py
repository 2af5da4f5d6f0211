"""Every cell of the table of access rules, tried on a card: each role, before and after the
initialisation, with nothing shown, with the PIN, with a physician, with both."""

import itertools
import pathlib

import card_world as world
import pytest

from dicomcrypt.card import access, profile
from dicomcrypt.card.access import Condition, Operation
from dicomcrypt.card.profile import FILES, Algorithm, CardRole, Ins, KeyKind, Slot

SPEC = pathlib.Path(__file__).resolve().parents[3] / "docs" / "spec" / "hpjc-v1.md"
OK, DENIED, ABSENT = 0x9000, 0x6982, 0x6A82
SHOWN = list(itertools.product((False, True), (False, True)))  # PIN, physician


def slot_of(file):
    return Slot(file.name.rpartition(".")[2])


def tried(host, file, operation):
    """Do an operation to a file and return the status."""
    if operation in (Operation.READ, Operation.UPDATE):
        selected = host.file(file.name)
        if selected != OK:
            return selected
    else:
        host.application()
    reference = {"EF.PIN": profile.PIN, "EF.PUK": profile.PUK}.get(file.name)
    block = world.PUK_BLOCK if reference == profile.PUK else world.PIN_BLOCK
    if operation is Operation.READ:
        return host.status(Ins.READ_BINARY, answer=256)
    if operation is Operation.UPDATE:
        written = host.status(Ins.UPDATE_BINARY, data=b"x")
        assert host.status(Ins.ERASE_BINARY) == written
        return written
    if operation is Operation.SET:
        return host.status(Ins.CHANGE_REFERENCE_DATA, 1, reference, block)
    if operation is Operation.CHANGE:
        return host.status(Ins.CHANGE_REFERENCE_DATA, 0, reference, block * 2)
    if operation is Operation.UNBLOCK:
        return host.status(Ins.RESET_RETRY_COUNTER, 1, reference, world.PUK_BLOCK)
    if operation is Operation.VERIFY:
        if reference:
            return host.pin()
        return host.verify_certificate("physician", world.partner("physician").der())
    if operation is Operation.ACTIVATE:
        return host.status(Ins.ACTIVATE)
    slot = slot_of(file)
    if operation is Operation.GENERATE:
        crt = bytes((slot.template, 6, 0x84, 1, slot.reference, 0x80, 1, KeyKind.P256))
        return host.status(Ins.GENERATE, 0x80, 0, crt, 256)
    if operation is Operation.SIGN:
        assert host.choose(profile.CRT_SIGNATURE, Algorithm.ECDSA, slot) == OK
        return host.status(Ins.PSO, 0x9E, 0x9A, bytes(32), 256)
    if operation is Operation.DECIPHER:
        assert host.choose(profile.CRT_CONFIDENTIALITY, Algorithm.ECDH, slot) == OK
        point = bytes.fromhex("A6467F49438641") + world.key(
            slot, KeyKind.P256
        ).public_key().public_bytes(
            world.serialization.Encoding.X962,
            world.serialization.PublicFormat.UncompressedPoint,
        )
        return host.status(Ins.PSO, 0x80, 0x86, point, 256)
    assert operation is Operation.AUTHENTICATE
    assert host.choose(profile.CRT_AUTHENTICATION, Algorithm.ECDSA, slot) == OK
    return host.status(Ins.INTERNAL_AUTHENTICATE, 0, 0, bytes(32), 256)


def expected(condition, pin, physician):
    """What the words of the table mean, said once more."""
    if condition == "absent":
        return ABSENT
    met = {"always": True, "never": False, "PIN": pin, "PIN or physician": pin or physician}
    return OK if met[condition] else DENIED


@pytest.fixture(scope="module")
def cards():
    return {
        (role, operational): world.card_data(role, operational=operational)
        for role in CardRole for operational in (False, True)
    }  # fmt: skip


@pytest.mark.parametrize("rule", access.TABLE, ids=lambda r: f"{r.file}-{r.operation}")
def test_each_cell_is_what_the_card_does(rule, cards):
    file = FILES[rule.file]
    for (role, operational), data in cards.items():
        for pin, physician in SHOWN:
            host = world.Host(world.SoftwareCard(world.MemoryStore(data.encode())))
            host.application()
            if physician:
                world.as_physician(host)
            if pin:
                assert host.pin() == OK
            column = str(role) if operational else "initialisation"
            told = getattr(rule, column)
            if getattr(rule, str(role)) is Condition.ABSENT:
                told = Condition.ABSENT
            status = tried(host, file, rule.operation)
            assert status == expected(told, pin, physician), (role, column, pin, physician)


def test_every_file_has_a_row_for_reading_and_for_writing():
    rows = {(rule.file, rule.operation) for rule in access.TABLE}
    for file in FILES.values():
        if not file.is_folder:
            assert {(file.name, Operation.READ), (file.name, Operation.UPDATE)} <= rows


def test_no_row_comes_twice_and_none_lets_a_secret_be_read_or_written():
    rows = [(rule.file, rule.operation) for rule in access.TABLE]
    assert len(rows) == len(set(rows))
    for rule in access.TABLE:
        if FILES[rule.file].secret and rule.operation in (Operation.READ, Operation.UPDATE):
            conditions = {rule.initialisation, rule.professional, rule.patient}
            assert conditions == {Condition.NEVER}


def test_what_has_no_row_is_never_allowed():
    found = access.condition("EF.GDO", Operation.SIGN, CardRole.PATIENT, False)
    assert found is Condition.NEVER


def test_the_specification_prints_the_table_of_the_code():
    assert access.markdown() in SPEC.read_text()


def test_the_specification_prints_the_files_of_the_code():
    text = SPEC.read_text()
    for file in FILES.values():
        if file.is_folder:
            kind = "application" if file.aid else "folder"
        else:
            kind = "secret" if file.secret else f"{file.most:,} bytes"
        sfi = f"{file.sfi:02X}" if file.sfi else "–"
        assert f"| {file.name} | {file.fid:04X} | {sfi} | {kind} |" in text
