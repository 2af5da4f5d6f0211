"""The rules: five minutes, once, five tries, ten a day, waits, caps, unknown persons."""

import pytest
from otp_world import OBJECT, START, other_than, with_sum

from dicomcrypt.errors import NoIdentityError, PolicyError, ThrottledError, UsageError
from dicomcrypt.otp.code import entered
from dicomcrypt.otp.limits import DAY_MS, Limits, address_of
from dicomcrypt.otp.tables import codes, events, sa


def refuse(world, token, answer, name="anna", **options):
    with pytest.raises(NoIdentityError) as caught:
        world.service.open(name, answer, token=token, **options)
    return caught.value


def rows(world, table=codes):
    with world.home.context.store.transaction() as tx:
        return tx.execute(sa.select(table)).all()


# ---- five minutes ----------------------------------------------------------------


def test_a_code_opens_once(world):
    token = world.anna()
    answer = world.send(token)
    access = world.service.open("anna", answer, token=token)
    assert access.objects == (OBJECT,)
    assert access.scope == "all"
    refuse(world, token, answer)


@pytest.mark.parametrize(("after", "right"), [(0, True), (299_999, True), (300_000, False)])
def test_a_code_is_valid_for_exactly_five_minutes(world, after, right):
    token = world.anna()
    answer = world.send(token)
    world.now += after
    if right:
        world.service.open("anna", answer, token=token)
    else:
        refuse(world, token, answer)


def test_a_clock_that_is_put_back_opens_and_issues_nothing(world):
    token = world.anna()
    answer = world.send(token)
    world.later(200)
    world.send(token)  # the time is stored
    for behind in (3, 100, 86_400):
        world.now = START + 200_000 - behind * 1000
        with pytest.raises(PolicyError, match="clock"):
            world.service.open("anna", answer, token=token)
        with pytest.raises(PolicyError, match="clock"):
            world.service.request_code("anna", token=token)


def test_a_clock_that_trembles_makes_no_code_last_longer(world):
    token = world.anna()
    answer = world.send(token)
    world.later(299.999)
    world.home.links.all()
    world.now -= 1900
    world.home.links.all()
    world.now += 1901
    refuse(world, token, answer)


def test_after_the_clock_was_reset_no_code_is_valid_and_counts_stay(world):
    token = world.anna(seconds=86_400 * 1000)
    world.later(86_400 * 365)
    answer = world.send(token)
    world.now = START + 1000
    world.home.context.store.reset_clock()
    refuse(world, token, answer)
    with pytest.raises(ThrottledError):
        world.service.request_code("anna", token=token)
    world.later(15)
    world.service.open("anna", world.send(token), token=token)


# ---- tries -----------------------------------------------------------------------


def test_five_wrong_tries_spend_a_code(world):
    token = world.anna()
    answer = world.send(token)
    for _ in range(5):
        refuse(world, token, other_than(answer))
        world.later(10)
    refuse(world, token, answer)


def test_the_fifth_try_may_be_right(world):
    token = world.anna()
    answer = world.send(token)
    for _ in range(4):
        refuse(world, token, other_than(answer))
        world.later(10)
    world.restart()
    world.service.open("anna", answer, token=token)


def test_after_a_wrong_try_the_next_waits_and_costs_nothing(world):
    token = world.anna()
    answer = world.send(token)
    refuse(world, token, other_than(answer))
    for _ in range(20):
        assert isinstance(refuse(world, token, answer), ThrottledError)
    world.later(1)
    world.service.open("anna", answer, token=token)


def test_the_sum_must_be_right_as_well(world):
    token = world.anna()
    answer = world.send(token)
    refuse(world, token, {**answer, "sum": str(int(answer["sum"]) ^ 1)})
    assert rows(world)[0].tries == 4


def test_what_cannot_be_a_code_costs_no_try(world):
    token = world.anna()
    answer = world.send(token)
    with pytest.raises(UsageError):
        world.service.open("anna", {"code": "12345", "sum": "15"}, token=token)
    assert rows(world)[0].tries == 5
    world.service.open("anna", answer, token=token)


def test_a_try_is_paid_before_the_comparison(world, monkeypatch):
    token = world.anna()
    answer = world.send(token)

    class Power(Exception):
        pass

    def fail(attempt, answer):
        assert rows(world)[0].tries == 4
        raise Power

    monkeypatch.setattr(world.home.codes, "judge", fail)
    with pytest.raises(Power):
        world.service.open("anna", answer, token=token)
    assert rows(world)[0].tries == 4


# ---- codes -----------------------------------------------------------------------


def test_a_new_code_voids_the_one_before(world):
    token = world.anna()
    first = world.send(token)
    world.later(15)
    second = world.send(token)
    refuse(world, token, first)
    world.later(1)
    world.service.open("anna", second, token=token)


def test_codes_of_one_link_do_not_open_another(world):
    token = world.anna()
    other = world.link("anna")
    answer = world.send(token)
    refuse(world, other, answer)


def ask_for_all(world, token, name="anna"):
    given = 0
    while True:
        try:
            world.service.request_code(name, token=token)
            given += 1
        except ThrottledError as error:
            if error.seconds > 4000:
                return given, error.seconds
            world.later(error.seconds)


def test_ten_codes_a_day_with_growing_waits(world):
    token = world.anna()
    begin = world.now
    given, wait = ask_for_all(world, token)
    assert given == 10
    assert world.now - begin > 3_600_000
    world.restart()
    assert ask_for_all(world, token)[0] == 0
    world.later(wait)
    world.service.request_code("anna", token=token)


def test_in_no_24_hours_more_than_ten_codes_can_be_tried(world):
    token = world.anna()
    first = world.now
    ask_for_all(world, token)
    while True:
        try:
            world.service.request_code("anna", token=token)
            break
        except ThrottledError as error:
            world.later(error.seconds)
    assert world.now >= first + DAY_MS  # its tries come 24 h after the last ones of the first


def test_a_person_s_codes_are_limited_over_all_links(world):
    token = world.anna()
    given = ask_for_all(world, token)[0]
    while (found := ask_for_all(world, world.link("anna"))[0]) == 10:
        given += found
    assert given + found == 30


def test_who_has_no_link_of_a_person_cannot_use_up_what_it_may_do(world):
    token = world.anna()
    for number in range(40):
        world.service.request_code("anna", token=f"{number:043}")
    world.send(token)


def test_an_address_is_limited(world):
    token = world.anna()
    world.home.context.limits.__dict__["address_codes"] = 3
    for number in range(3):
        world.service.request_code(f"person {number}", token=token, address="192.0.2.7")
    with pytest.raises(ThrottledError):
        world.service.request_code("anna", token=token, address="192.0.2.7")
    world.service.request_code("anna", token=token, address="192.0.2.8")


def test_checks_of_a_person_and_an_address_are_limited(world):
    token = world.anna()
    world.home.context.limits.__dict__.update(person_checks=3, address_checks=5)
    answer = {"code": "000000", "sum": "0"}
    for _ in range(3):
        assert not isinstance(refuse(world, token, answer, address="2001:db8::1"), ThrottledError)
    assert isinstance(refuse(world, token, answer, address="2001:db8::2"), ThrottledError)
    for number in range(2):
        refuse(world, token, answer, name=f"p{number}", address="2001:db8::3")
    assert isinstance(refuse(world, token, answer, name="q", address="2001:db8::4"), ThrottledError)


def test_addresses_of_one_subscriber_count_as_one(world):
    secret = world.home.context.secret
    same = {address_of(secret, a) for a in ("2001:db8::1", "2001:db8:0:0:ffff::9")}
    assert len(same) == 1
    assert address_of(secret, "2001:db8:0:1::1") not in same
    assert address_of(secret, "::ffff:192.0.2.1") == address_of(secret, "192.0.2.1")
    assert address_of(secret, "192.0.2.2") != address_of(secret, "192.0.2.1")
    assert address_of(secret, None) is None


@pytest.mark.parametrize("wrong", [{"tries": 6}, {"codes": 11}, {"totp_tries": 11}, {"tries": -1},
                                   {"person_codes": True}, {"try_waits": (1, "2")}])
def test_limits_cannot_be_made_weaker(wrong):
    with pytest.raises(UsageError, match="limit"):
        Limits(**wrong)


def test_what_counts_no_more_is_forgotten(world):
    token = world.anna()
    world.send(token)
    world.now += DAY_MS + 1
    world.send(token)
    assert len(rows(world)) == 1
    assert {row.at for row in rows(world, events)} == {world.now}


# ---- who is not known ----------------------------------------------------------------


def strangers(world):
    """Ways to ask in vain: (name, token)."""
    token = world.anna()
    world.home.persons.add("bert", "bert@klinikum.example", "+491701234568")
    revoked = world.link("anna")
    world.home.links.revoke(world.home.links.all()[0]["link"])
    return {"unknown person": ("nobody", token), "another's link": ("bert", token),
            "unknown link": ("anna", "x" * 43), "neither": ("nobody", "y" * 43),
            "revoked": ("anna", revoked), "used up": ("anna", used_up(world)),
            "not bound": ("anna", world.link("anna", bound=False)),
            "expired": ("anna", expired(world))}


def used_up(world):
    token = world.link("anna", uses=1)
    world.service.open("anna", world.send(token), token=token)
    return token


def expired(world):
    token = world.link("anna", seconds=1)
    world.later(1)
    return token


@pytest.mark.parametrize("which", ["unknown person", "another's link", "unknown link", "neither",
                                   "revoked", "used up", "not bound", "expired"])
def test_answers_and_waits_are_the_same_for_who_is_not_known(world, which):
    name, token = strangers(world)[which]
    known = world.link("anna")
    sent = len(world.mail.messages)
    transcripts = []
    for who, link in (("anna", known), (name, token)):
        said, begin = [], world.now
        for step in range(14):
            try:
                if step in (0, 8):
                    said.append(world.service.request_code(who, token=link, address="192.0.2.1"))
                else:
                    world.service.open(who, {"code": "000000", "sum": "1"}, token=link,
                                       address="192.0.2.1")
            except NoIdentityError as error:
                said.append((type(error), str(error)))
            world.later(3)
        transcripts.append(said)
        world.later(100_000 - (world.now - begin) // 1000)
    assert transcripts[0] == transcripts[1]
    assert len(transcripts[0]) == 14
    world.home.outbox.deliver()
    assert len(world.mail.messages) == sent


def test_the_same_statements_run_for_who_is_not_known(world):
    token = world.anna()
    world.service.request_code("anna", token=token)  # a warm start: schemas are read, and so on
    log, transcripts = [], []
    sa.event.listen(world.home.context.store._engine, "before_cursor_execute",
                    lambda c, cursor, statement, *rest: log.append(statement))
    for name, link in (("anna", world.link("anna")), ("nobody", token), ("bert", "x" * 43)):
        log.clear()
        world.service.request_code(name, token=link)
        refuse(world, link, {"code": "000000", "sum": "0"}, name=name)
        transcripts.append(list(log))
    assert transcripts[0] == transcripts[1] == transcripts[2]


def test_the_same_signatures_are_made_for_who_is_not_known(world, monkeypatch):
    token = world.anna()
    key, made = world.home.codes._key, []
    real = key._sign
    monkeypatch.setattr(key, "_sign", lambda message: made.append(len(message)) or real(message))
    for name, link in (("anna", token), ("nobody", token), ("bert", "x" * 43)):
        made.clear()
        world.service.request_code(name, token=link)
        refuse(world, link, {"code": "000000", "sum": "0"}, name=name)
        assert made == made[:1] * 2, name
    made.clear()
    refuse(world, world.link("anna"), {"code": "000000", "sum": "0"})  # no code at all
    assert len(made) == 1


def test_a_code_made_for_nobody_opens_nothing(world):
    """Who has the key of the codes could compute it; the stored hash is of no code at all."""
    token = world.anna()
    world.service.request_code("nobody", token=token)
    row = rows(world)[0]
    code = world.home.codes._key.code(row.purpose, row.link, row.person, row.nonce, row.issued)
    refuse(world, token, with_sum(code.digits), name="nobody")


def test_a_hash_that_somebody_wrote_into_the_database_opens_nothing(world):
    """Not even one made with the key file: the key of the codes has its say."""
    token = world.anna()
    world.service.request_code("anna", token=token)
    row = rows(world)[0]
    wrong = entered("123456", "21")
    with world.home.context.store.transaction() as tx:
        tx.execute(codes.update().values(verifier=world.home.codes._verifier(row.id, wrong)))
    refuse(world, token, with_sum(wrong.digits))


# ---- what is stored and recorded --------------------------------------------------------


def test_the_database_holds_no_code_token_name_or_address(world):
    token = world.anna()
    answer = world.send(token)
    world.service.request_code("nobody", token=token, address="192.0.2.77")
    with pytest.raises(NoIdentityError):
        world.service.open("anna", other_than(answer), token=token, address="192.0.2.77")
    world.home.close()
    for file in world.folder.glob("otp.db*"):
        data = file.read_bytes()
        for secret in (answer["code"], token, "anna", "klinikum", "1701234567", "nobody",
                       "192.0.2.77"):
            assert secret.encode() not in data, secret


def test_every_event_is_recorded_by_ids_alone(world):
    token = world.anna()
    answer = world.send(token)
    refuse(world, token, other_than(answer))
    refuse(world, token, answer)
    world.later(1)
    world.service.open("anna", answer, token=token)
    with pytest.raises(ThrottledError):
        world.service.request_code("anna", token=token)
    seen = [(event["action"], event["outcome"], event["details"].get("reason"))
            for event in world.events]
    assert seen == [
        ("otp.person", "ok", None), ("otp.link", "ok", None), ("otp.issue", "ok", None),
        ("otp.send", "ok", None), ("otp.open", "no-identity", "wrong-code"),
        ("otp.open", "refused", "too-many"), ("otp.open", "ok", None),
        ("otp.issue", "refused", "too-many"),
    ]  # fmt: skip
    assert answer["code"] not in str(world.events)
    assert "anna" not in str(world.events)
