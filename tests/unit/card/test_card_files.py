"""SELECT, READ, UPDATE and ERASE BINARY, chaining, GET RESPONSE, classes and lengths."""

import card_world as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomcrypt.card import profile, tlv
from dicomcrypt.card.profile import FILES, CardRole, Ins
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.errors import DamagedError, TokenError, UsageError


@pytest.fixture(scope="module")
def data():
    return {role: world.card_data(role) for role in CardRole}


@pytest.fixture
def host(data):
    return world.Host(SoftwareCard(world.CountingStore(data[CardRole.PATIENT].encode())))


def hexed(text):
    return bytes.fromhex(text)


# ---- ATR and the fixed files -------------------------------------------------


@pytest.mark.parametrize(("role", "digits"), [
    ("professional", "3b868131fe4548504a4301019c"), ("patient", "3b868131fe4548504a4301029f"),
])  # fmt: skip
def test_the_answer_to_reset(role, digits):
    card = SoftwareCard.in_memory(role)
    assert card.atr == card.reset() == hexed(digits)
    check = 0
    for byte in card.atr[1:]:
        check ^= byte
    assert check == 0
    assert card.atr[1] & 0xF == len(card.atr) - 7  # historical bytes


def test_the_applications_are_listed_and_each_can_be_selected(host):
    host.file("EF.DIR")
    content = host.ok(Ins.READ_BINARY, answer=256)
    names = [tlv.fields(value)[0x4F] for tag, value in tlv.parse(content) if tag == 0x61]
    assert names == [profile.AID_HPJC, profile.AID_NOTE]
    for name in names:
        host.application(name)


def test_the_serial_number_and_the_holder_are_where_other_programs_look(host):
    assert host.status(Ins.SELECT, 2, 0x0C, hexed("2f02")) == 0x9000
    content = host.ok(Ins.READ_BINARY, answer=256)
    assert content[:2] == hexed("5a0a")
    assert profile.parse_gdo(content) == (world.ICCSN, world.HOLDER)
    assert host.send(Ins.READ_BINARY, 0x80 | 2, 0, answer=256).data == content


def test_extended_lengths_and_chaining_are_announced(host):
    host.file("EF.ATR")
    found = tlv.fields(host.ok(Ins.READ_BINARY, answer=256))
    assert found[0x47][2] & 0xE0 == 0xE0
    assert [value for _, value in tlv.parse(found[0x7F66])] == [b"\xff\xff"] * 2


# ---- SELECT ------------------------------------------------------------------


def test_select_by_identifier_goes_up_down_and_aside(host):
    for fid, status in (("3f00", 0x9000), ("d001", 0x9000), ("c001", 0x9000), ("d002", 0x9000),
                        ("e011", 0x9000), ("c001", 0x6A82), ("2f02", 0x6A82), ("d002", 0x9000),
                        ("3f00", 0x9000), ("2f02", 0x9000), ("e011", 0x6A82)):  # fmt: skip
        assert host.status(Ins.SELECT, 0, 0x0C, hexed(fid)) == status, fid


@pytest.mark.parametrize(("how", "meant", "status"), [
    (0x00, "", 0x9000), (0x01, "d001", 0x9000), (0x01, "2f02", 0x6A82), (0x02, "2f02", 0x9000),
    (0x02, "d001", 0x6A82), (0x08, "d001c001", 0x9000), (0x08, "d001", 0x9000),
    (0x08, "3f00d001", 0x6A82), (0x08, "d0", 0x6A87), (0x08, "", 0x6A87),
    (0x08, "2f022f02", 0x6A82), (0x09, "d002e011", 0x9000), (0x09, "c001", 0x6A82),
    (0x00, "3f", 0x6A87), (0x01, "", 0x6A87), (0x02, "2f0200", 0x6A87), (0x03, "3f00", 0x6A87),
    (0x03, "", 0x6A82), (0x04, "", 0x6A87), (0x04, "f048504a430001", 0x9000),
    (0x04, "f048504a4300", 0x6A82), (0x04, "f048504a430003", 0x6A82),
    (0x04, "a0000000010000", 0x6A82), (0x04, "00" * 17, 0x6A87), (0x05, "3f00", 0x6A86),
])  # fmt: skip
def test_select_in_each_way(host, how, meant, status):
    assert host.status(Ins.SELECT, how, 0x0C, hexed(meant)) == status


def test_a_failed_select_leaves_everything_as_it_was(host):
    host.file("EF.NOTE")
    before = host.ok(Ins.READ_BINARY, answer=256)
    assert host.status(Ins.SELECT, 4, 0x0C, b"nothing") == 0x6A82
    assert host.ok(Ins.READ_BINARY, answer=256) == before


def test_the_parent_is_selected_from_an_application(host):
    host.application()
    host.ok(Ins.SELECT, 3, 0x0C)
    assert host.status(Ins.SELECT, 2, 0x0C, hexed("2f02")) == 0x9000


def test_a_file_that_the_role_does_not_have_is_not_found(data):
    professional = world.Host(SoftwareCard(world.MemoryStore(data["professional"].encode())))
    patient = world.Host(SoftwareCard(world.MemoryStore(data["patient"].encode())))
    assert professional.file("EF.PATIENT") == 0x6A82 == patient.file("EF.CERT.AUTHORISATION")
    professional.application()
    assert professional.status(Ins.READ_BINARY, 0x80 | 0x0E, 0, answer=256) == 0x6A82


@pytest.mark.parametrize(("p2", "tag"), [(0x00, 0x6F), (0x04, 0x62)])
def test_what_select_says_of_a_file_and_of_an_application(host, p2, tag):
    def told(*selection):
        ((found, inner),) = tlv.parse(host.ok(Ins.SELECT, *selection, answer=256))
        assert found == tag
        return tlv.fields(inner)

    application = told(4, p2, profile.AID_HPJC)
    assert application == {0x82: b"\x38", 0x83: hexed("d001"), 0x84: profile.AID_HPJC,
                           0x8A: b"\x05"}
    certificate = told(2, p2, hexed("c001"))
    size = len(host.card.data.files["EF.CERT.SIG"])
    assert certificate == {0x80: size.to_bytes(2, "big"), 0x82: b"\x01", 0x83: hexed("c001"),
                           0x88: b"\x30", 0x8A: b"\x05"}
    secret = told(2, p2, hexed("1001"))
    assert secret == {0x82: b"\x09", 0x83: hexed("1001"), 0x8A: b"\x05"}


def test_other_forms_of_the_answer_are_refused(host):
    assert host.status(Ins.SELECT, 0, 0x08, hexed("3f00"), 256) == 0x6A86


# ---- READ BINARY -------------------------------------------------------------


def note(host, content):
    host.file("EF.NOTE")
    host.pin()
    host.ok(Ins.ERASE_BINARY)
    if content:
        host.ok(Ins.UPDATE_BINARY, data=content, extended=True)


def test_reading_in_short_and_extended_form(host):
    content = bytes(range(256)) * 3
    note(host, content)
    assert host.ok(Ins.READ_BINARY, answer=256) == content[:256]
    assert host.ok(Ins.READ_BINARY, answer=65536, extended=True) == content
    assert host.ok(Ins.READ_BINARY, 2, 0, answer=256) == content[512:]
    assert host.ok(Ins.READ_BINARY, 0, 7, answer=10) == content[7:17]
    assert host.ok(Ins.READ_BINARY, 0x81, 0xFF, answer=3) == content[255:258]


def test_the_end_of_a_file(host):
    note(host, bytes(300))
    found = host.send(Ins.READ_BINARY, 1, 0, answer=100)
    assert (found.data, found.status) == (b"", 0x6C2C)
    assert host.ok(Ins.READ_BINARY, 1, 0, answer=44) == bytes(44)
    assert host.ok(Ins.READ_BINARY, 1, 0, answer=256) == bytes(44)
    found = host.send(Ins.READ_BINARY, 1, 0, answer=300, extended=True)
    assert (found.data, found.status) == (bytes(44), 0x6282)
    found = host.send(Ins.READ_BINARY, 1, 44, answer=256)
    assert (found.data, found.status) == (b"", 0x6282)
    assert host.status(Ins.READ_BINARY, 1, 45, answer=256) == 0x6B00


def test_what_cannot_be_read(host):
    assert host.status(Ins.READ_BINARY, answer=256) == 0x6986
    host.application()
    assert host.status(Ins.READ_BINARY, answer=256) == 0x6986
    assert host.status(Ins.READ_BINARY, 0x80 | 0x1E, 0, answer=256) == 0x6A82
    assert host.status(Ins.READ_BINARY, 0x80, 0, answer=256) == 0x6A86
    assert host.status(Ins.READ_BINARY, 0xA1, 0, answer=256) == 0x6A86
    host.file("EF.CERT.SIG")
    assert host.status(Ins.READ_BINARY) == 0x6700
    assert host.status(Ins.READ_BINARY, data=b"x", answer=1) == 0x6700
    host.file("EF.PIN")
    assert host.status(Ins.READ_BINARY, answer=256) == 0x6982


# ---- UPDATE and ERASE BINARY -------------------------------------------------


def test_writing_over_on_and_cutting_off(host):
    note(host, b"abcdef")
    host.ok(Ins.UPDATE_BINARY, 0, 2, b"XY")
    assert host.ok(Ins.READ_BINARY, answer=256) == b"abXYef"
    host.ok(Ins.UPDATE_BINARY, 0, 6, b"gh")
    host.ok(Ins.UPDATE_BINARY, 0x81, 7, b"HIJ")
    assert host.ok(Ins.READ_BINARY, answer=256) == b"abXYefgHIJ"
    host.ok(Ins.ERASE_BINARY, 0, 3)
    assert host.ok(Ins.READ_BINARY, answer=256) == b"abX"
    assert host.status(Ins.UPDATE_BINARY, 0, 4, b"gap") == 0x6B00
    assert host.status(Ins.ERASE_BINARY, 0, 4) == 0x6B00
    assert host.status(Ins.UPDATE_BINARY) == 0x6700 == host.status(Ins.ERASE_BINARY, data=b"x")


def test_a_file_takes_what_it_can_hold_and_no_byte_more(host):
    most = FILES["EF.NOTE"].most
    note(host, b"")
    host.ok(Ins.UPDATE_BINARY, data=bytes(most), extended=True)
    host.ok(Ins.ERASE_BINARY)
    assert host.status(Ins.UPDATE_BINARY, data=bytes(most + 1), extended=True) == 0x6A84
    assert host.send(Ins.READ_BINARY, answer=256).status == 0x6282


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=4096), step=st.integers(1, 255))
def test_whatever_is_written_is_read_again_in_pieces_of_any_size(data, content, step):
    host = world.Host(SoftwareCard(world.MemoryStore(data["patient"].encode())))
    note(host, b"")
    for at in range(0, len(content), 255):
        host.ok(Ins.UPDATE_BINARY, at >> 8, at & 0xFF, content[at : at + 255])
    back = bytearray()
    while True:
        found = host.send(Ins.READ_BINARY, len(back) >> 8, len(back) & 0xFF, answer=step)
        if found.status >> 8 == 0x6C:
            found = host.send(Ins.READ_BINARY, len(back) >> 8, len(back) & 0xFF,
                              answer=found.status & 0xFF)
        back += found.data
        if found.status == 0x6282:
            break
        assert found.status == 0x9000
    assert back == content


def test_each_command_is_one_write(host):
    note(host, b"abc")
    saves = host.card._store.saves
    for number in range(1, 5):
        host.ok(Ins.UPDATE_BINARY, data=bytes(number * 200), cla=0x10)
        assert host.card._store.saves == saves
    host.ok(Ins.UPDATE_BINARY, data=b"end")
    assert host.card._store.saves == saves + 1
    assert host.ok(Ins.READ_BINARY, answer=65536, extended=True) == bytes(2000) + b"end"


# ---- chaining, GET RESPONSE, lengths, classes --------------------------------


def test_a_chain_that_another_command_breaks_is_dropped(host):
    note(host, b"abc")
    host.ok(Ins.UPDATE_BINARY, data=b"never written", cla=0x10)
    assert host.status(Ins.READ_BINARY, answer=256) == 0x6883
    assert host.ok(Ins.READ_BINARY, answer=256) == b"abc"
    host.ok(Ins.UPDATE_BINARY, data=b"Z")
    assert host.ok(Ins.READ_BINARY, answer=256) == b"Zbc"


def test_a_chain_is_bounded(host):
    note(host, b"abc")
    host.ok(Ins.UPDATE_BINARY, data=bytes(60_000), cla=0x10, extended=True)
    assert host.status(Ins.UPDATE_BINARY, data=bytes(5_536), cla=0x10, extended=True) == 0x6700
    assert host.ok(Ins.READ_BINARY, answer=256) == b"abc"


def test_a_pin_cannot_be_chained(host):
    assert host.status(Ins.VERIFY, 0, 1, world.PIN_BLOCK, cla=0x10) == 0x6884


def test_get_response(host):
    assert host.status(Ins.GET_RESPONSE, answer=256) == 0x6985
    found = host.raw(hexed("00a4040007f048504a430001"))
    assert (found.data, found.status) == (b"", 0x6100 | 21)
    assert host.raw(hexed("00c00000ff")).status == 0x6C00 | 21
    first = host.raw(hexed("00c0000005"))
    assert (len(first.data), first.status) == (5, 0x6100 | 16)
    rest = host.raw(hexed("00c0000000"))
    assert (len(rest.data), rest.status) == (16, 0x9000)
    assert first.data + rest.data == host.raw(hexed("00a4040007f048504a43000100")).data
    assert host.status(Ins.GET_RESPONSE, answer=256) == 0x6985


def test_get_response_in_the_extended_form_takes_what_there_is(host):
    host.raw(hexed("00a4040007f048504a430001"))
    found = host.raw(hexed("00c0000000ffff"))
    assert (len(found.data), found.status) == (21, 0x9000)


def test_another_command_throws_the_rest_of_an_answer_away(host):
    host.raw(hexed("00a4040007f048504a430001"))
    host.status(Ins.VERIFY, 0, 1)
    assert host.status(Ins.GET_RESPONSE, answer=256) == 0x6985
    host.raw(hexed("00a4040007f048504a430001"))
    assert host.status(Ins.GET_RESPONSE, 1, 0, answer=256) == 0x6A86
    host.raw(hexed("00a4040007f048504a430001"))
    assert host.status(Ins.GET_RESPONSE) == 0x6700


@pytest.mark.parametrize(("command", "status"), [
    ("", 0x6700), ("00", 0x6700), ("00a404", 0x6700), ("00a4040002f0", 0x6700),
    ("00a4040000", 0x6A87), ("00a404000000", 0x6700), ("00a40400000000", 0x6A87),
    ("00a404000005aabb", 0x6700), ("01a40000", 0x6881), ("03a40000", 0x6881),
    ("04a40000", 0x6882), ("0ca40000", 0x6882), ("1ca40000", 0x6882), ("40a40000", 0x6E00),
    ("80a40000", 0x6E00), ("ffa40000", 0x6E00), ("00ff0000", 0x6D00), ("00b10000", 0x6D00),
    ("10ff0000", 0x6884),
])  # fmt: skip
def test_malformed_commands(host, command, status):
    assert host.raw(hexed(command)).status == status


def test_a_card_without_power_answers_nothing(host):
    host.application()
    host.pin()
    host.card.power_off()
    with pytest.raises(TokenError):
        host.status(Ins.SELECT)
    assert host.card.reset() == host.card.atr
    assert host.status(Ins.VERIFY, 0, 1) == 0x63C3
    assert host.status(Ins.READ_BINARY, 0x81, 0, answer=256) == 0x6A82


# ---- two applications side by side -------------------------------------------


def test_applications_share_the_pin_and_the_serial_number_but_not_the_keys(host):
    host.application(profile.AID_NOTE)
    assert host.pin() == 0x9000
    host.ok(Ins.UPDATE_BINARY, 0x81, 0, b"blood group A")
    assert host.choose(profile.CRT_SIGNATURE, 0, profile.Slot.SIG) == 0x6A88
    crt = bytes.fromhex("B603840181")
    assert host.status(Ins.GENERATE, 0x81, 0, crt, 256) == 0x6A88
    assert host.status(Ins.READ_BINARY, 0x80 | 6, 0, answer=256) == 0x6A82
    host.application()
    assert host.status(Ins.VERIFY, 0, 1) == 0x9000
    assert host.choose(profile.CRT_SIGNATURE, 0, profile.Slot.SIG) == 0x9000
    host.application(profile.AID_NOTE)
    host.application()
    assert host.status(Ins.PSO, 0x9E, 0x9A, bytes(32), 256) == 0x6985
    host.file("EF.GDO")
    assert host.ok(Ins.READ_BINARY, answer=256)


# ---- what files hold ---------------------------------------------------------


def test_contents_have_one_form():
    assert profile.parse_hash(profile.hash_content(bytes(32))) == ("sha256", bytes(32))
    assert profile.parse_hash(hexed("80010190" "14") + bytes(20)) == ("sha1", bytes(20))
    for wrong in ("", "8001029014" + "00" * 20, "80010390" "20" + "00" * 32, "800102", "9020"):
        with pytest.raises(DamagedError):
            profile.parse_hash(hexed(wrong))
    for wrong in ("", "5a0a" + "80" * 10, "5a0a" + "8a" * 10 + "5f200141", "5a0980" + "00" * 8,
                  "5a0a" + "80" * 10 + "5f2001ff"):
        with pytest.raises(DamagedError):
            profile.parse_gdo(hexed(wrong))
    for iccsn, name in (("1", "a"), ("x" * 20, "a"), ("1" * 20, ""), ("1" * 20, "a" * 65)):
        with pytest.raises(UsageError):
            profile.gdo(iccsn, name)
    with pytest.raises(UsageError):
        profile.hash_content(bytes(20))


@given(st.lists(st.tuples(st.sampled_from([0x5A, 0x80, 0x5F20, 0x7F49]), st.binary(max_size=70000)),
                max_size=4))
@settings(max_examples=30, deadline=None)
def test_data_objects_come_back(objects):
    blob = b"".join(tlv.encode(tag, value) for tag, value in objects)
    assert list(tlv.parse(blob)) == objects


@given(st.binary(max_size=70000), st.binary(max_size=20))
@settings(max_examples=30, deadline=None)
def test_the_first_object_is_found_whatever_is_behind_it(value, behind):
    assert tlv.first(tlv.encode(0x30, value) + behind) == tlv.encode(0x30, value)


@given(st.binary(max_size=300))
def test_any_bytes_are_data_objects_or_damaged(blob):
    assert blob.startswith(tlv.first(blob))
    try:
        for _, value in tlv.parse(blob):
            assert len(value) <= len(blob)
        assert len(tlv.fields(blob)) <= tlv.MOST_OBJECTS
    except DamagedError:
        pass
