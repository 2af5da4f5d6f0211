"""What is left for who guesses: by arithmetic, and by an attacker on the real code path."""

import math
from fractions import Fraction

import pytest
from otp_world import with_sum

from dicomcrypt.errors import NoIdentityError, ThrottledError
from dicomcrypt.otp.code import truncate
from dicomcrypt.otp.factors import CodeFactor
from dicomcrypt.otp.limits import Limits, guessing_chance, likeliest, totp_chance


def test_the_chance_is_below_one_in_ten_thousand_a_link_and_day():
    assert likeliest() == Fraction(2148, 1 << 31)
    chance = guessing_chance(Limits())
    assert chance == 1 - (1 - Fraction(5 * 2148, 1 << 31)) ** 10
    assert Fraction(5, 100_000) * Fraction(999, 1000) < chance < Fraction(1, 10_000)
    both = 1 - (1 - chance) * (1 - totp_chance(Limits()))
    assert both < Fraction(1, 10_000)


def test_no_code_is_likelier_than_that():
    """Of all 2^31 truncated values: remainders below 2^31 mod 10^6 have one value more."""
    whole, rest = divmod(1 << 31, 10**6)
    assert Fraction(whole + (rest > 0), 1 << 31) == likeliest()
    for value in (0, rest - 1, rest, 999_999):
        assert truncate(value.to_bytes(4, "big") + bytes(28)) == f"{value:06}"


def attack(world, token, guess, restarts=False):
    """Ask for codes and try them for 24 hours, as quickly as it is let; return (right, compared).

    guess: gives the next one."""
    end, right, compared = world.now + 86_400_000, 0, 0
    while world.now < end:
        try:
            world.service.request_code("anna", token=token)
        except ThrottledError as error:
            world.later(error.seconds)
            continue
        if restarts:
            world.restart()
        tries = 0
        while tries < 6 and world.now < end:  # the sixth is never compared
            try:
                world.service.open("anna", with_sum(f"{guess(compared + tries):06}"), token=token)
                right += 1
                tries += 1
                break
            except ThrottledError as error:
                world.later(error.seconds)
            except NoIdentityError:
                tries += 1
        compared += min(tries, 5)
    return right, compared


def shorten(world, monkeypatch, digits):
    """Codes of fewer digits, so that guesses hit often enough to be counted."""
    monkeypatch.setattr(world.home.codes._key, "_truncated",
                        lambda digest: f"{truncate(digest, digits):0>6}")


@pytest.mark.parametrize("restarts", [False, True])
def test_fifty_guesses_a_link_and_day_are_compared_at_most(world, monkeypatch, restarts):
    token = world.anna()
    judged, real = [], CodeFactor.judge

    def judge(self, attempt, answer):
        if attempt is not None:
            judged.append(world.now)
        return real(self, attempt, answer)

    monkeypatch.setattr(CodeFactor, "judge", judge)
    assert attack(world, token, lambda n: n, restarts)[1] <= 50
    assert len(judged) == 50


def simulate(world, monkeypatch, days):
    """Return how many link-days were won, at three digits, and how many are expected."""
    digits = 3
    shorten(world, monkeypatch, digits)
    world.home.persons.add("anna", "anna@klinikum.example")
    won = 0
    for day in range(days):
        token = world.link("anna", seconds=86_400 * 3000)
        right, compared = attack(world, token, lambda n: (7 * n + day) % 1000)  # noqa: B023
        assert compared <= 50
        won += right > 0
        world.later(3600)
    return won, days * float(guessing_chance(Limits(), digits))


def test_a_simulation_agrees_with_the_arithmetic(world, monkeypatch):
    won, expected = simulate(world, monkeypatch, 3)
    assert won <= expected + 5 * math.sqrt(expected) + 1  # five deviations: once in a million runs


@pytest.mark.soak
def test_a_long_simulation_agrees_with_the_arithmetic(world, monkeypatch):
    won, expected = simulate(world, monkeypatch, 2000)
    assert abs(won - expected) < 5 * math.sqrt(expected)
