"""Wrong passwords are counted before they are tried, and slowed down."""

import sqlite3
import time

import pytest

from dicomcrypt.errors import NoIdentityError, ThrottledError
from dicomcrypt.keys import HybridIdentity, Passphrase
from dicomcrypt.keytable import KeyTable, access


def cheap(text):
    return Passphrase(text, memory_kib=64, passes=1, lanes=1)


class Clock:
    now = 2_000_000_000.0

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(access.time, "time", clock.time)
    return clock


@pytest.fixture(scope="module")
def backup():
    return HybridIdentity.generate()


@pytest.fixture
def locked(tmp_path, backup):
    recipients = {"anna": cheap("right"), "bob": cheap("bobs"), "backup": backup.recipient}
    KeyTable.create(tmp_path / "keys.db", recipients).close()
    return KeyTable(tmp_path / "keys.db")


def guess(table, login="anna", password="wrong"):  # noqa: S107
    """Return 0 for a wrong password, how long to wait for one not tried."""
    try:
        table.unlock(login, password).close()
    except ThrottledError as error:
        return error.seconds
    except NoIdentityError:
        return 0
    return None


@pytest.mark.parametrize("login", ["anna", "nobody"])
def test_delays_grow_to_thirty_seconds(locked, clock, login):
    assert [guess(locked, login) for _ in range(5)] == [0] * 5
    waits = []
    for _ in range(8):
        waits.append(guess(locked, login))
        clock.now += waits[-1]
        assert guess(locked, login) == 0
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_while_waiting_the_right_password_is_not_tried_either(locked, clock):
    for _ in range(5):
        guess(locked)
    with pytest.raises(ThrottledError, match="wait 1 s and try again") as raised:
        locked.unlock("anna", "right")
    assert raised.value.exit_status == 3
    clock.now += 1
    assert guess(locked, "anna", "right") is None


def test_a_refused_attempt_does_not_lengthen_the_wait(locked, clock):
    for _ in range(5):
        guess(locked)
    assert [guess(locked) for _ in range(20)] == [1] * 20


def test_a_success_forgets_the_failures(locked, clock):
    for _ in range(4):
        guess(locked)
    assert guess(locked, "anna", "right") is None
    assert [guess(locked) for _ in range(5)] == [0] * 5


def test_others_do_not_wait(locked, clock, backup):
    for _ in range(6):
        guess(locked)
    assert guess(locked) > 0
    assert guess(locked, "bob", "bobs") is None
    locked.unlock(identities=[backup]).close()


def test_the_count_outlives_the_process_and_is_spent_before_the_comparison(
    locked, clock, monkeypatch
):
    def killed(self, stanza, binding):
        raise KeyboardInterrupt

    monkeypatch.setattr(Passphrase, "unwrap", killed)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            locked.unlock("anna", "wrong")
    with pytest.raises(ThrottledError):
        locked.unlock("anna", "wrong")


def test_a_clock_set_back_delays_thirty_seconds_at_most(locked, clock):
    for _ in range(5):
        guess(locked)
    clock.now -= 3600
    assert guess(locked) == 30
    clock.now += 30
    assert guess(locked, "anna", "right") is None


def test_a_change_of_password_is_slowed_down_too(locked, clock):
    with locked.unlock("anna", "right") as table:
        for _ in range(5):
            with pytest.raises(NoIdentityError):
                table.change_password("anna", "wrong", cheap("new"))
        with pytest.raises(ThrottledError):
            table.change_password("anna", "right", cheap("new"))


def test_an_unknown_login_answers_the_same_and_derives_a_key_as_often(locked, monkeypatch):
    tried, unwrap = [], Passphrase.unwrap

    def counted(self, stanza, binding):
        tried.append(len(stanza.body))
        return unwrap(self, stanza, binding)

    monkeypatch.setattr(Passphrase, "unwrap", counted)
    answers = []
    for login, password in (("anna", "wrong"), ("nobody", "wrong"), ("nobody", "right"),
                            ("backup", "wrong")):
        with pytest.raises(NoIdentityError) as raised:
            locked.unlock(login, password)
        answers.append(str(raised.value))
    assert len(set(answers)) == 1
    assert len(tried) == 4
    assert len(set(tried)) == 1


def test_without_any_login_an_unknown_one_costs_too(tmp_path, backup, monkeypatch):
    KeyTable.create(tmp_path / "keys.db", {"backup": backup.recipient}).close()
    started = time.perf_counter()
    with pytest.raises(NoIdentityError):
        KeyTable(tmp_path / "keys.db").unlock("nobody", "x")
    assert time.perf_counter() - started > 0.02


def test_unknown_logins_do_not_fill_the_file(locked, tmp_path):
    for number in range(20):
        guess(locked, f"nobody {number}")
    connection = sqlite3.connect(tmp_path / "keys.db")
    longest = connection.execute("SELECT max(length(key)) FROM attempts").fetchone()[0]
    connection.close()
    assert longest == 1  # 256 rows at most
