"""Changing who may open an object: adding leaves the streams alone, removing takes the key."""

import os

import object_files as make
import pytest

import dicomcrypt as dc
from dicomcrypt.container.layout import PREFIX_SIZE

ALICE, BOB, CAROL = (dc.X25519Identity.generate() for _ in range(3))
HYBRID = dc.HybridIdentity.generate()
DATA = make.dicom(30, 40, make.noise(30 * 40 * 3), frames=3)
QUICK = {"memory_kib": 64, "passes": 1, "lanes": 1}


def quick(passphrase):
    return dc.Passphrase(passphrase, **QUICK)


@pytest.fixture
def make_object(tmp_path):
    def write(recipients=(ALICE.recipient,), *, batch=False, **options):
        path = tmp_path / "object.dcmx"
        path.write_bytes(dc.Batch(recipients, batch=batch, **options).encrypt(DATA))
        os.chmod(path, 0o640)
        return path

    return write


def split(path):
    """Return (CORE, streams and trailer, slots) of an object."""
    blob = path.read_bytes()
    at = PREFIX_SIZE + 2 * int.from_bytes(blob[64:68], "little")
    return blob[:64], blob[at:], (blob[72 : (72 + at) // 2], blob[(72 + at) // 2 : at])


def opens(path, identity):
    try:
        return dc.decrypt(path.read_bytes(), [identity]) == DATA
    except dc.NoIdentityError:
        return False


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])
def test_adding_in_place_leaves_the_streams_byte_for_byte(make_object, batch):
    path = make_object(batch=batch)
    core, streams, slots = split(path)
    node = path.stat().st_ino
    report = dc.rewrap(path, [ALICE], add=[BOB.recipient])
    assert report["rewritten"] is False
    assert len(report["recipients"]) == 2
    now = split(path)
    assert now[:2] == (core, streams)
    assert path.stat().st_ino == node
    assert not any(now[2][0]), "the old slot is not wiped"
    assert any(now[2][1])
    assert slots != now[2]
    assert opens(path, ALICE)
    assert opens(path, BOB)
    assert not opens(path, CAROL)


def test_adding_many_one_by_one_keeps_all_and_grows_the_slots(make_object):
    path = make_object()
    core, streams, _ = split(path)
    many = [dc.X25519Identity.generate() for _ in range(25)]
    grown = 0
    for number, identity in enumerate(many):
        report = dc.rewrap(path, [many[number - 1] if number else ALICE], add=[identity.recipient])
        grown += report["rewritten"]
        now = split(path)
        assert now[0] == core
        assert now[1][:-96] == streams[:-96]
    assert grown >= 1
    assert all(opens(path, identity) for identity in [ALICE, *many])
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in path.parent.iterdir()) == ["object.dcmx"]


def test_adding_somebody_twice_keeps_one_stanza(make_object):
    path = make_object()
    for _ in range(3):
        report = dc.rewrap(path, [ALICE], add=[BOB.recipient])
    assert len(report["recipients"]) == 2
    assert opens(path, BOB)


def test_removing_encrypts_anew_under_a_new_core(make_object):
    path = make_object([ALICE.recipient, BOB.recipient, CAROL.recipient])
    core, streams, _ = split(path)
    report = dc.rewrap(path, [ALICE], remove=[BOB.recipient], add=[CAROL.recipient])
    assert report["rewritten"] is True
    assert split(path)[0] != core
    assert streams[:24] not in path.read_bytes()
    assert opens(path, ALICE)
    assert opens(path, CAROL)
    assert not opens(path, BOB)
    assert path.stat().st_mode & 0o777 == 0o640


def test_removing_keeps_name_mode_time_and_methods(make_object, tmp_path):
    source = tmp_path / "other name"
    source.write_bytes(DATA)
    os.chmod(source, 0o604)
    os.utime(source, ns=(1, 1_234_567_891))
    path = tmp_path / "object.dcmx"
    dc.encrypt_file(source, path, [ALICE.recipient, BOB.recipient], method="none")
    before = dc.inspect(path, [ALICE])["opened"]
    dc.rewrap(path, [ALICE], remove=[BOB.recipient])
    after = dc.inspect(path, [ALICE])["opened"]
    assert after == before


@pytest.mark.parametrize("method", ["aes-transposition", "vigenere", "multilevel"])
def test_removing_keeps_the_method_that_was_forced(tmp_path, method):
    path = tmp_path / "object.dcmx"
    path.write_bytes(dc.encrypt(DATA, [ALICE.recipient, BOB.recipient], method=method))
    dc.rewrap(path, [ALICE], remove=[BOB.recipient])
    assert set(dc.inspect(path, [ALICE])["opened"]["methods"]["pixels"]["blocks"]) == {method}


def test_removing_needs_the_keys_of_all_who_stay(make_object):
    path = make_object([ALICE.recipient, BOB.recipient, CAROL.recipient])
    before = path.read_bytes()
    with pytest.raises(dc.UsageError, match=CAROL.recipient.hint.hex()):
        dc.rewrap(path, [ALICE], remove=[BOB.recipient])
    assert path.read_bytes() == before


class Silent:
    """An identity of a plug-in that does not tell its public key."""

    def __init__(self, identity):
        self.matches, self.unwrap = identity.matches, identity.unwrap


def test_an_identity_that_does_not_tell_its_public_key_is_asked_for_it(make_object):
    path = make_object([ALICE.recipient, BOB.recipient])
    before = path.read_bytes()
    with pytest.raises(dc.UsageError, match=f"give --add for X25519 {ALICE.recipient.hint.hex()}"):
        dc.rewrap(path, [Silent(ALICE)], remove=[BOB.recipient])
    assert path.read_bytes() == before
    dc.rewrap(path, [Silent(ALICE)], remove=[BOB.recipient], add=[ALICE.recipient])
    assert opens(path, ALICE)
    assert not opens(path, BOB)


@pytest.mark.parametrize("entry", [BOB.recipient, BOB.recipient.hint], ids=["recipient", "hint"])
def test_the_fast_form_only_drops_the_stanza(make_object, entry):
    path = make_object([ALICE.recipient, BOB.recipient])
    core, streams, _ = split(path)
    assert dc.rewrap(path, [ALICE], remove=[entry], keep_key=True)["rewritten"] is False
    assert split(path)[:2] == (core, streams)
    assert opens(path, ALICE)
    assert not opens(path, BOB)


@pytest.mark.parametrize("keep_key", [True, False])
def test_a_batch_object_loses_only_the_one_who_is_removed(make_object, keep_key):
    path = make_object([ALICE.recipient, BOB.recipient], batch=True)
    dc.rewrap(path, [ALICE], remove=[BOB.recipient], keep_key=keep_key)
    assert opens(path, ALICE)
    assert not opens(path, BOB)


def test_whoever_is_added_to_a_batch_object_gets_no_batch_key(make_object):
    path = make_object(batch=True)
    dc.rewrap(path, [ALICE], add=[BOB.recipient])
    from_bob = dc.open(path, [BOB])
    stanzas = from_bob.container.unlocked.slot.stanzas
    assert {s.scope for s in stanzas if s.hint == BOB.recipient.hint} == {1}


@pytest.mark.parametrize(
    ("identities", "changes", "error"),
    [
        ([BOB], {"add": [CAROL.recipient]}, dc.NoIdentityError),
        ([ALICE], {}, dc.UsageError),
        ([ALICE], {"remove": [BOB.recipient]}, dc.UsageError),
        ([ALICE], {"remove": [b"12345678"]}, dc.UsageError),
        ([ALICE], {"remove": [ALICE.recipient], "keep_key": True}, dc.UsageError),
        ([ALICE], {"remove": [ALICE.recipient]}, dc.UsageError),
        ([ALICE], {"add": [HYBRID.recipient]}, dc.UsageError),
        ([ALICE], {"add": [quick("secret")]}, dc.UsageError),
        ([ALICE], {"add": [quick("secret")], "allow_mixed": True}, dc.UsageError),
    ],
    ids=["stranger", "nothing", "unknown", "hint", "last", "last anew", "hybrid", "mixed", "flag"],
)
def test_a_change_that_cannot_be_is_refused_and_changes_nothing(
    make_object, identities, changes, error
):
    path = make_object()
    before = path.read_bytes()
    with pytest.raises(error):
        dc.rewrap(path, identities, **changes)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_scope_holder_cannot_change_recipients(make_object):
    path = make_object(tags_to=[BOB.recipient])
    with pytest.raises(dc.NoIdentityError):
        dc.rewrap(path, [BOB], add=[CAROL.recipient])
    with pytest.raises(dc.UsageError):
        dc.rewrap(path, [ALICE], remove=[BOB.recipient])


def test_a_classical_key_comes_beside_a_hybrid_one_only_if_allowed(make_object):
    path = make_object([HYBRID.recipient])
    with pytest.raises(dc.UsageError):
        dc.rewrap(path, [HYBRID], add=[ALICE.recipient])
    dc.rewrap(path, [HYBRID], add=[ALICE.recipient], allow_classical=True)
    assert opens(path, ALICE)


def test_a_passphrase_can_be_replaced_and_stand_beside_others_if_the_object_allows(make_object):
    path = make_object([quick("first")])
    dc.rewrap(path, [quick("first")], add=[quick("second")], remove=[quick("first")])
    assert opens(path, quick("second"))
    assert not opens(path, quick("first"))
    path = make_object([ALICE.recipient, quick("first")], allow_mixed=True)
    dc.rewrap(path, [quick("first")], add=[BOB.recipient], allow_mixed=True)
    assert all(opens(path, who) for who in (ALICE, BOB, quick("first")))
    dc.rewrap(path, [ALICE], remove=[quick("any")], keep_key=True)
    assert not opens(path, quick("first"))


def test_a_crash_between_the_two_writes_leaves_an_object_that_opens(make_object, monkeypatch):
    path = make_object()
    before = path.read_bytes()
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        raise OSError("power cut")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="power cut"):
        dc.rewrap(path, [ALICE], add=[BOB.recipient])
    assert calls
    assert path.read_bytes() != before
    assert opens(path, ALICE)
    assert opens(path, BOB)
