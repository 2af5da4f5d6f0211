"""The sealed state file: passphrase, damage, other processes, and power cuts at every step."""

import contextlib
import functools
import os
import stat
import subprocess
import sys

import card_world as world
import pytest
from card_world import PIN_BLOCK, PUK_BLOCK, WRONG_BLOCK, WRONG_PUK_BLOCK

from dicomcrypt import errors, policy
from dicomcrypt.card import profile, state
from dicomcrypt.card.profile import CardRole, Ins, KeyKind, Slot, reference_block
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.state import CardData, FileStore, Reference
from dicomcrypt.keys.passphrase import Passphrase

PASSPHRASE = "wet paint"  # noqa: S105


@pytest.fixture
def path(tmp_path):
    return tmp_path / "card"


def written(path, **options):
    """A personalised card's file."""
    FileStore(path, PASSPHRASE, world.card_data(**options).encode()).close()
    return path


# ---- the file ----------------------------------------------------------------


def test_a_card_is_the_same_after_it_was_opened_again(path):
    card = SoftwareCard.create(path, PASSPHRASE, "patient")
    host = world.Host(card)
    host.file("EF.GDO")
    host.ok(Ins.UPDATE_BINARY, data=profile.gdo(world.ICCSN, world.HOLDER))
    host.ok(Ins.CHANGE_REFERENCE_DATA, 1, 1, PIN_BLOCK)
    host.pin(WRONG_BLOCK)
    before = card.data
    card.close()
    again = SoftwareCard.open(path, PASSPHRASE)
    assert again.data == before
    assert again.role is CardRole.PATIENT
    assert world.Host(again).status(Ins.VERIFY, 0, 1) == 0x63C2
    again.close()


def test_whatever_a_card_keeps_comes_back():
    for data in (world.card_data(), world.card_data("patient", kind=KeyKind.RSA_3072),
                 CardData(CardRole.PATIENT)):
        assert CardData.decode(data.encode()) == data


def test_the_file_is_private_and_has_nothing_to_read(path):
    written(path)
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == ["card", "card.lock"]
    for word in (world.HOLDER.encode(), b"EF.GDO", b"professional",
                 world.private_der(world.key(Slot.SIG, KeyKind.P256))):
        assert word not in content


def test_a_wrong_passphrase_opens_nothing(path):
    written(path)
    with pytest.raises(errors.NoIdentityError) as error:
        SoftwareCard.open(path, "wet pain")
    assert "wet" not in str(error.value)
    SoftwareCard.open(path, PASSPHRASE).close()  # and holds no lock


def test_any_changed_byte_is_found(path):
    content = written(path).read_bytes()
    refused = (errors.DamagedError, errors.NoIdentityError)
    places = [*range(0, 8), 13, 14, 30, 62, 101, 102, 113, 114, len(content) // 2, -1]
    for at in (place % len(content) for place in places):
        path.write_bytes(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :])
        with pytest.raises(refused):
            SoftwareCard.open(path, PASSPHRASE)
    for wrong in (b"", content[:50], content[:-1], content + b"x", bytes(2 << 20)):
        path.write_bytes(wrong)
        with pytest.raises(errors.DamagedError):
            SoftwareCard.open(path, PASSPHRASE)


def test_a_file_that_asks_for_too_much_work_is_damaged(path):
    content = bytearray(written(path).read_bytes())
    content[8:12] = b"\xff" * 4  # KiB
    path.write_bytes(content)
    with pytest.raises(errors.DamagedError):
        SoftwareCard.open(path, PASSPHRASE)


def test_a_file_under_another_header_is_refused(path, tmp_path):
    """The ciphertext of one card under the passphrase part of another."""
    first, second = written(path).read_bytes(), written(tmp_path / "other").read_bytes()
    path.write_bytes(second[:102] + first[102:])
    with pytest.raises(errors.DamagedError):
        SoftwareCard.open(path, PASSPHRASE)


@pytest.mark.parametrize("content", [
    b"", b"[]", b"{}", b'{"role": "patient"}', b"null",
    CardData(CardRole.PATIENT, files={"EF.GDO": bytes(129)}).encode(),
    CardData(CardRole.PATIENT, files={"EF.X": b""}).encode(),
    CardData(CardRole.PATIENT, references={1: Reference(b"", b"", 4, 8)}).encode(),
    CardData(CardRole.PATIENT, references={3: Reference(b"", b"", 1, 8)}).encode(),
    CardData(CardRole.PATIENT, references={1: Reference(b"", b"", 1, 1 << 21)}).encode(),
])  # fmt: skip
def test_what_no_card_keeps_is_damaged(content):
    with pytest.raises(errors.DamagedError):
        CardData.decode(content)


def test_a_state_is_never_overwritten_by_a_new_card(path):
    content = written(path).read_bytes()
    with pytest.raises(errors.OutputExistsError):
        SoftwareCard.create(path, PASSPHRASE, "patient")
    assert path.read_bytes() == content


def test_errors_name_the_file(tmp_path):
    for how in (lambda p: SoftwareCard.open(p, PASSPHRASE),
                lambda p: SoftwareCard.create(p / "below", PASSPHRASE, "patient")):
        with pytest.raises(errors.UsageError, match="absent"):
            how(tmp_path / "absent")


def test_a_link_in_the_place_of_the_new_file_is_not_followed(path, tmp_path):
    written(path)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    os.symlink(victim, f"{path}.new")
    card = SoftwareCard.open(path, PASSPHRASE)
    assert world.Host(card).pin() == 0x9000
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    card.close()


def test_one_process_has_a_card_at_a_time(path):
    written(path)
    first = SoftwareCard.open(path, PASSPHRASE)
    with pytest.raises(errors.TokenError, match="in use"):
        SoftwareCard.open(path, PASSPHRASE)
    code = (
        "import sys; from dicomcrypt.card.software import SoftwareCard as C\n"
        "from dicomcrypt.errors import TokenError\n"
        "try: C.open(sys.argv[1], 'wet paint')\n"
        "except TokenError: sys.exit(6)"
    )
    words = [sys.executable, "-c", code, str(path)]
    assert subprocess.run(words, check=False).returncode == 6
    first.close()
    assert subprocess.run(words, check=False).returncode == 0
    SoftwareCard.open(path, PASSPHRASE).close()


def test_a_card_is_the_same_through_a_link(path, tmp_path):
    written(path)
    link = tmp_path / "link"
    link.symlink_to(path.name)
    card = SoftwareCard.open(path, PASSPHRASE)
    with pytest.raises(errors.TokenError, match="in use by another process"):
        SoftwareCard.open(link, PASSPHRASE)
    card.close()
    card = SoftwareCard.open(link, PASSPHRASE)
    assert world.Host(card).pin(WRONG_BLOCK) == 0x63C2
    card.close()
    assert link.is_symlink()
    card = SoftwareCard.open(path, PASSPHRASE)
    assert card.data.references[profile.PIN].left == 2
    card.close()


def test_a_closed_card_stays_without_power(path):
    card = SoftwareCard.open(written(path), PASSPHRASE)
    card.close()
    for how in (lambda: None, card.reset):
        how()
        with pytest.raises(errors.TokenError):
            world.Host(card).pin(WRONG_BLOCK)


def test_a_policy_that_seals_nothing_under_passphrases_has_no_new_card_files(path):
    policy.use(policy.preset("fips"))
    try:
        with pytest.raises(errors.PolicyError):
            SoftwareCard.create(path, PASSPHRASE, "patient")
    finally:
        policy.use(None)
    assert not path.exists()


def test_a_restored_file_has_its_tries_again(path):
    """What the specification admits: a file is no secure element."""
    old = written(path).read_bytes()
    card = SoftwareCard.open(path, PASSPHRASE)
    for _ in range(3):
        world.Host(card).pin(WRONG_BLOCK)
    card.close()
    path.write_bytes(old)
    card = SoftwareCard.open(path, PASSPHRASE)
    assert world.Host(card).pin() == 0x9000
    card.close()


# ---- power cuts --------------------------------------------------------------


class PowerCut(BaseException):
    """Nothing that the card could catch and go on from."""


class Medium:
    """Stands for `os` in `card.state`: counts what reaches the medium, cuts the power before step
    number `cut`, and knows what may be found on the medium then.

    A file has the bytes it was synced with, an unsynced one none; a name belongs to its new file
    for certain when the folder was synced, and perhaps from the rename on."""

    def __init__(self, path, cut=None) -> None:
        self._state, self.cut, self.step = str(path), cut, 0
        self.certain = path.read_bytes()
        self.perhaps = None
        self._names, self._synced = {}, {}

    def __getattr__(self, name):
        return getattr(os, name)

    def outcomes(self):
        return [self.certain] + ([self.perhaps] if self.perhaps is not None else [])

    def _tick(self):
        if self.step == self.cut:
            raise PowerCut
        self.step += 1

    def open(self, name, flags, *mode):
        self._tick()
        descriptor = os.open(name, flags, *mode)
        self._names[descriptor] = name
        if flags & os.O_CREAT:
            self._synced[name] = b""
        return descriptor

    def unlink(self, name):
        self._tick()
        os.unlink(name)

    def write(self, descriptor, data):
        self._tick()
        return os.write(descriptor, data[:1500])  # a medium may take less

    def fsync(self, descriptor):
        self._tick()
        name = self._names[descriptor]
        if os.path.isdir(name):
            if self.perhaps is not None:
                self.certain, self.perhaps = self.perhaps, None
        else:
            with open(name, "rb") as file:
                self._synced[name] = file.read()

    def replace(self, old, new):
        self._tick()
        os.replace(old, new)
        assert new == self._state
        self.perhaps = self._synced[old]

    def close(self, descriptor):
        os.close(descriptor)


NEW = reference_block("99887766")
COMMANDS = {
    "verify": (Ins.VERIFY, 0, 1, PIN_BLOCK),
    "verify wrong": (Ins.VERIFY, 0, 1, WRONG_BLOCK),
    "change": (Ins.CHANGE_REFERENCE_DATA, 0, 1, PIN_BLOCK + NEW),
    "change wrong": (Ins.CHANGE_REFERENCE_DATA, 0, 1, WRONG_BLOCK + NEW),
    "unblock": (Ins.RESET_RETRY_COUNTER, 0, 1, PUK_BLOCK + NEW),
    "unblock wrong": (Ins.RESET_RETRY_COUNTER, 0, 1, WRONG_PUK_BLOCK + NEW),
    "write": (Ins.UPDATE_BINARY, 0x84, 0, profile.hash_content(bytes(32))),
    "erase": (Ins.ERASE_BINARY, 0x84, 0),
    "generate": (Ins.GENERATE, 0x80, 0, bytes.fromhex("B606840181800102"), 256),
    "activate": (Ins.ACTIVATE,),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_power_cut_at_any_step_leaves_a_whole_card_and_no_try_more(path, monkeypatch, name):
    start = written(path, operational=False).read_bytes()
    compared, saved = [], []
    is_of, save = Reference.is_of, FileStore.save
    unwrap = functools.cache(Passphrase.unwrap)  # as long as hashing takes
    one = Passphrase(PASSPHRASE)
    monkeypatch.setattr(Passphrase, "unwrap", lambda _, *stanza: unwrap(one, *stanza))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(Reference, "is_of", lambda r, b: compared.append(r) or is_of(r, b))
    monkeypatch.setattr(
        FileStore, "save", lambda store, data: saved.append(CardData.decode(data))
        or save(store, data),
    )  # fmt: skip

    def run(cut):
        """Do the command with the power cut at a step; return the medium, None if it ended."""
        path.write_bytes(start)
        with contextlib.closing(SoftwareCard.open(path, PASSPHRASE)) as card:
            compared.clear()
            saved[:] = [card.data]
            medium = Medium(path, cut)
            host = world.Host(card).application()
            with monkeypatch.context() as power:
                power.setattr(state, "os", medium)
                with contextlib.suppress(PowerCut):
                    host.send(*COMMANDS[name])
                    assert medium.outcomes() == [path.read_bytes()]  # all of it counts
                    assert card.data == saved[-1]
            return medium

    steps = run(None).step
    assert steps >= 6  # open, write, sync, rename, open, sync
    for cut in range(steps + 1):
        medium = run(cut)
        before, number = saved[0], profile.PUK if name.startswith("unblock") else profile.PIN
        for content in medium.outcomes():
            path.write_bytes(content)
            with contextlib.closing(SoftwareCard.open(path, PASSPHRASE)) as card:
                found = card.data
                assert found in saved
                if compared and ("wrong" in name or number == profile.PUK):
                    assert found.references[number].left == before.references[number].left - 1
                elif compared:  # only a right PIN brings its try back
                    assert found in saved[1:]
                old = found.references[profile.PIN].is_of(PIN_BLOCK)
                assert world.Host(card).pin(PIN_BLOCK if old else NEW) == 0x9000  # it works


def test_a_killed_process_leaves_a_card_that_lost_its_tries(path):
    """The same with a real process, killed in the middle of wrong PINs."""
    written(path)
    code = (
        "import sys, os; sys.path[:0] = sys.argv[2:]\n"
        "from dicomcrypt.card.software import SoftwareCard as C; import card_world as world\n"
        "from dicomcrypt.card.state import Reference\n"
        "Reference.is_of = lambda *_: os.kill(os.getpid(), 9)\n"
        "world.Host(C.open(sys.argv[1], 'wet paint')).pin()"
    )
    for left in (2, 1, 0):
        killed = subprocess.run([sys.executable, "-c", code, str(path), *sys.path], check=False)
        assert killed.returncode == -9
        with contextlib.closing(SoftwareCard.open(path, PASSPHRASE)) as card:
            assert card.data.references[profile.PIN].left == left


def test_without_file_locks_there_is_no_software_card(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(errors.UsageError, match="cannot be locked on this system"):
        SoftwareCard.create(tmp_path / "card.hpjc", PASSPHRASE, "patient")
    assert not list(tmp_path.iterdir())
