"""Authenticators: a step is good once, tries are few, and who has none is not told from others."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from dicomcrypt.errors import (
    DamagedError,
    NoIdentityError,
    OutputExistsError,
    ThrottledError,
    UsageError,
)
from dicomcrypt.otp.factors import CodeFactor, Factor
from dicomcrypt.otp.links import Subject
from dicomcrypt.otp.tables import sa, totp
from dicomcrypt.otp.totp import TotpFactor, code_at


@pytest.fixture
def enrolled(world):
    """Anna's token and the secret of her authenticator."""
    token = world.anna()
    uri = urlsplit(world.home.totp.enroll("anna", issuer="Klinikum Nord"))
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Klinikum%20Nord:anna")
    said = parse_qs(uri.query)
    assert (said["algorithm"], said["digits"], said["period"]) == (["SHA1"], ["6"], ["30"])
    return token, base64.b32decode(said["secret"][0])


def open_by(world, token, key, steps=0, name="anna"):
    answer = {"code": code_at(key, world.now // 1000 + 30 * steps)}
    return world.service.open(name, answer, token=token, factor="totp")


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_step_beside_the_present_one_is_taken(world, enrolled, steps):
    open_by(world, *enrolled, steps)


@pytest.mark.parametrize("steps", [-3, -2, 2, 3])
def test_other_steps_are_refused(world, enrolled, steps):
    with pytest.raises(NoIdentityError, match="wrong"):
        open_by(world, *enrolled, steps)


def test_a_used_step_and_those_before_it_are_refused(world, enrolled):
    world.now -= world.now % 30_000
    open_by(world, *enrolled)
    for steps in (0, -1):
        world.later(8)
        with pytest.raises(NoIdentityError, match="wrong"):
            open_by(world, *enrolled, steps)
    world.restart()
    world.later(60)
    with pytest.raises(NoIdentityError, match="wrong"):
        open_by(world, *enrolled, -2)
    world.later(60)
    open_by(world, *enrolled)


def test_the_same_code_twice_at_once_is_used_once(world, enrolled):
    """Both were judged right before either was used."""
    factor, (_, key) = world.home.totp, enrolled
    store = world.home.context.store
    with store.transaction() as tx:
        person = world.home.persons.registered(tx, "anna")
    attempts = []
    for _ in range(2):
        with store.transaction() as tx:
            attempts.append(factor.spend(tx, Subject("", person, True)))
        assert factor.judge(attempts[-1], code_at(key, world.now // 1000).encode())
        world.later(5)
    used = []
    for attempt in attempts:
        with store.transaction() as tx:
            used.append(factor.use(tx, attempt))
    assert used == [True, False]


def test_ten_tries_a_day(world, enrolled):
    tries = 0
    while True:
        try:
            world.service.open("anna", {"code": "000000"}, token=enrolled[0], factor="totp")
        except ThrottledError as error:
            if error.seconds > 100:
                break
            world.later(error.seconds)
        except NoIdentityError:
            tries += 1
    assert tries == 10
    with pytest.raises(ThrottledError):
        open_by(world, *enrolled)


def test_who_has_none_is_answered_alike(world):
    token = world.anna()
    said = set()
    for name, link in (("anna", token), ("nobody", token), ("anna", "x" * 43)):
        with pytest.raises(NoIdentityError) as caught:
            world.service.open(name, {"code": "000000"}, token=link, factor="totp")
        said.add(str(caught.value))
    assert len(said) == 1


def test_a_second_one_replaces_only_when_told(world, enrolled):
    with pytest.raises(OutputExistsError):
        world.home.totp.enroll("anna")
    world.home.totp.enroll("anna", replace=True)
    with pytest.raises(NoIdentityError):
        open_by(world, *enrolled)
    with pytest.raises(UsageError, match="registered"):
        world.home.totp.enroll("nobody")


def test_the_secret_is_stored_encrypted_and_bound_to_its_person(world, enrolled):
    _, key = enrolled
    world.home.persons.add("bert", "bert@klinikum.example")
    world.home.totp.enroll("bert")
    store = world.home.context.store
    with store.transaction() as tx:
        rows = {row.person: row.sealed for row in tx.execute(sa.select(totp))}
        anna, bert = list(rows)
        tx.execute(totp.update().where(totp.c.person == bert).values(sealed=rows[anna]))
    assert all(key not in sealed for sealed in rows.values())
    with pytest.raises(DamagedError), store.transaction() as tx:
        world.home.totp.spend(tx, Subject("", bert, True))


def test_both_are_factors():
    for kind in (CodeFactor, TotpFactor):
        for name in ("begin", "spend", "read", "judge", "use"):
            assert callable(getattr(kind, name))
            assert hasattr(Factor, name)
        assert isinstance(kind.name, str)


def test_an_issuer_that_cannot_be_shown_is_refused_before_there_is_a_secret(world):
    world.anna()
    for issuer in ("a\udcff", "a\nb"):
        with pytest.raises(UsageError, match="issuer"):
            world.home.totp.enroll("anna", issuer=issuer)
    world.home.totp.enroll("anna")
