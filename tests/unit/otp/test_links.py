"""Links, grants, registration, and asking for access."""

import pytest
from otp_world import OBJECT, other_than

from dicomcrypt.errors import NoIdentityError, PolicyError, ThrottledError, UsageError
from dicomcrypt.otp.factors import CodeFactor
from dicomcrypt.otp.links import Subject, new_token
from dicomcrypt.otp.tables import codes, links, requests, sa


def proofs(world):
    return {"email": world.mail.codes()[-1], "mobile": world.sms.codes()[-1]}


def register(world, token, name="anna"):
    world.service.register(name, token=token)
    world.home.outbox.deliver()
    world.service.prove(name, proofs(world), token=token)


@pytest.fixture
def unbound(world):
    world.anna()
    return world.link("anna", bound=False)


def test_a_link_is_of_use_after_registration(world, unbound):
    assert world.send(unbound) is None
    world.later(15)
    register(world, unbound)
    world.later(60)
    world.service.open("anna", world.send(unbound), token=unbound)


def test_codes_of_a_registration_open_nothing_and_the_other_way_round(world, unbound):
    world.service.register("anna", token=unbound)
    world.home.outbox.deliver()
    found = proofs(world)
    with pytest.raises(NoIdentityError):
        world.service.open("anna", found["email"], token=unbound)
    with pytest.raises(NoIdentityError):
        world.service.prove("anna", {"email": found["mobile"], "mobile": found["email"]},
                            token=unbound)
    world.later(1)
    world.service.prove("anna", found, token=unbound)


@pytest.mark.parametrize("wrong", ["email", "mobile"])
def test_both_codes_must_be_right_and_both_cost_a_try(world, unbound, wrong):
    world.service.register("anna", token=unbound)
    world.home.outbox.deliver()
    found = proofs(world)
    for _ in range(5):
        with pytest.raises(NoIdentityError):
            world.service.prove("anna", {**found, wrong: other_than(found[wrong])}, token=unbound)
        world.later(8)
    with pytest.raises(NoIdentityError):
        world.service.prove("anna", found, token=unbound)


def test_the_first_who_registers_has_the_link(world):
    world.anna()
    world.home.persons.add("bert", "bert@klinikum.example", "+491701234568")
    token = world.link(None, bound=False)
    for name in ("anna", "bert"):
        world.service.register(name, token=token)
    world.home.outbox.deliver()
    anna, bert = ({"email": world.mail.codes()[n], "mobile": world.sms.codes()[n]} for n in (0, 1))
    world.service.prove("bert", bert, token=token)
    with pytest.raises(NoIdentityError):
        world.service.prove("anna", anna, token=token)
    world.later(60)
    world.service.open("bert", world.send(token, "bert"), token=token)
    with pytest.raises(NoIdentityError):
        world.service.open("anna", {"code": "000000", "sum": "0"}, token=token)


def test_a_link_for_one_person_is_not_bound_to_another(world, unbound):
    world.home.persons.add("bert", "bert@klinikum.example", "+491701234568")
    world.service.register("bert", token=unbound)
    assert world.home.outbox.deliver() == []
    assert not world.mail.messages


def test_a_link_that_was_revoked_meanwhile_is_not_bound(world, unbound):
    world.service.register("anna", token=unbound)
    world.home.outbox.deliver()
    row = next(row for row in world.home.links.all() if row["bound"] is None)
    world.home.links.revoke(row["link"])
    with pytest.raises(NoIdentityError):
        world.service.prove("anna", proofs(world), token=unbound)
    assert all(row["bound"] or row["state"] == "revoked" for row in world.home.links.all())


def test_of_two_who_proved_at_once_one_is_bound(world):
    world.anna()
    world.link(None, bound=False)
    row = next(row for row in world.home.links.all() if row["bound"] is None)
    with world.home.context.store.transaction() as tx:
        bound = [world.home.links.bind(tx, Subject(row["link"], person, True))
                 for person in ("a" * 32, "b" * 32)]
    assert bound == [True, False]


# ---- uses ------------------------------------------------------------------------


def test_a_link_opens_as_often_as_its_grant_says(world):
    token = world.anna(uses=2)
    assert world.service.open("anna", world.send(token), token=token).left == 1
    world.later(15)
    assert world.service.open("anna", world.send(token), token=token).left == 0
    world.later(30)
    sent = len(world.mail.messages)
    world.send(token)
    assert len(world.mail.messages) == sent


@pytest.mark.parametrize("change", ["revoke", "expire"])
def test_what_changes_after_the_code_was_sent_counts(world, change):
    token = world.anna(seconds=100)
    answer = world.send(token)
    if change == "revoke":
        world.home.links.revoke(world.home.links.all()[0]["link"])
    else:
        world.later(100)
    with pytest.raises((PolicyError, NoIdentityError)):
        world.service.open("anna", answer, token=token)


def test_a_revoked_link_is_refused_even_while_it_is_opened(world):
    """Between the factor and its use."""
    token = world.anna()
    store, subject = world.home.context.store, None
    with store.transaction() as tx:
        subject = world.home.links.subject(tx, "open", "anna", token=token)
    assert subject.genuine
    world.home.links.revoke(subject.link)
    with pytest.raises(PolicyError), store.transaction() as tx:
        world.home.links.use(tx, subject)
    assert world.home.links.all()[0]["left"] == 1000


def test_the_list_tells_states_and_no_tokens(world):
    tokens = [world.anna(uses=1), world.link("anna"), world.link("anna", seconds=1),
              world.link(None, bound=False)]
    world.service.open("anna", world.send(tokens[0]), token=tokens[0])
    world.later(2)
    world.home.links.revoke(next(row["link"] for row in world.home.links.all()
                                 if row["state"] == "alive" and row["bound"]))
    found = world.home.links.all()
    assert sorted(row["state"] for row in found) == ["alive", "expired", "revoked", "used"]
    assert {tuple(row["objects"]) for row in found} == {(OBJECT,)}
    assert not any(token in str(found) for token in tokens)


def test_a_token_is_256_random_bits_stored_as_sha_256(world):
    import base64
    import hashlib

    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(base64.urlsafe_b64decode(t + "=")) == 32 for t in tokens)
    token = world.anna()
    with world.home.context.store.transaction() as tx:
        assert tx.first(sa.select(links.c.token)).token == hashlib.sha256(
            token.encode()).hexdigest()


@pytest.mark.parametrize("about", [
    {"objects": []}, {"objects": ["no id"]}, {"objects": ["ab" * 7]}, {"scope": "everything"},
    {"seconds": 0}, {"uses": 0}, {"person": "nobody"}, {"person": None, "bound": True},
])  # fmt: skip
def test_grants_that_cannot_be_are_refused(world, about):
    world.home.persons.add("anna", "anna@klinikum.example")
    with pytest.raises(UsageError):
        world.home.links.create(**{"objects": [OBJECT], "person": "anna", "seconds": 60, **about})
    assert world.home.links.all() == []


# ---- persons ------------------------------------------------------------------------


def test_names_are_found_without_case_and_blanks(world):
    token = world.anna()
    world.service.open(" ANNA ", world.send(token, "Anna"), token=token)
    with pytest.raises(UsageError, match="already"):
        world.home.persons.add("Anna", "other@klinikum.example")


@pytest.mark.parametrize("about", [
    ("", "a@b.example"), ("a\nb", "a@b.example"), ("x" * 129, "a@b.example"), ("\ud800", "a@b.c"),
    ("a", "no address"), ("a", "a@b\nBcc: x@y"), ("a", "a@b.example", "0170"),
    ("a", "a@b.example", "", "fr"),
])  # fmt: skip
def test_persons_that_cannot_be_are_refused(world, about):
    with pytest.raises(UsageError):
        world.home.persons.add(*about)


def test_a_person_who_is_removed_opens_nothing_and_leaves_nothing(world):
    token = world.anna()
    answer = world.send(token)
    world.home.totp.enroll("anna")
    world.home.persons.remove("anna")
    with pytest.raises((NoIdentityError, PolicyError)):
        world.service.open("anna", answer, token=token)
    assert world.home.links.all()[0]["state"] == "revoked"
    assert list(world.home.persons.all()) == []


def test_what_was_for_a_removed_person_goes_with_it(world, unbound):
    world.home.requests.ask("anna", [OBJECT], reason="second opinion")
    world.service.register("anna", token=unbound)
    world.home.persons.remove("anna")
    assert world.home.links.all()[0]["state"] == "revoked"  # it was for her, though not bound yet
    with world.home.context.store.transaction() as tx:
        assert tx.execute(sa.select(requests)).all() == []
        assert {row.state for row in tx.execute(sa.select(codes.c.state))} == {"void"}


@pytest.mark.parametrize("change", [lambda home: home.persons.remove("anna"),
                                    lambda home: home.links.revoke(home.links.all()[0]["link"])])
def test_what_changes_while_somebody_proves_counts(world, monkeypatch, change):
    world.home.persons.add("anna", "anna@klinikum.example", "+491701234567")
    token = world.link(None, bound=False)
    world.service.register("anna", token=token)
    world.home.outbox.deliver()
    judge = CodeFactor.judge

    def slow(self, attempt, answer):
        if attempt.purpose == "mobile":
            change(world.home)
        return judge(self, attempt, answer)

    monkeypatch.setattr(CodeFactor, "judge", slow)
    with pytest.raises(NoIdentityError):
        world.service.prove("anna", proofs(world), token=token)
    assert world.home.links.all()[0]["bound"] is None


# ---- asking ----------------------------------------------------------------------------


def test_a_request_is_granted(world):
    world.anna()
    world.home.requests.ask("anna", [OBJECT], scope="tags", reason="second opinion")
    (found,) = world.home.requests.all()
    assert (found["name"], found["objects"], found["scope"], found["reason"]) == (
        "anna", [OBJECT], "tags", "second opinion")
    _, token, person = world.home.requests.grant(found["request"], seconds=60, bound=True)
    assert person.name == "anna"
    assert world.service.open("anna", world.send(token), token=token).scope == "tags"
    assert world.home.requests.all() == []
    assert len(world.home.requests.all(state="granted")) == 1


def test_a_request_is_decided_once(world):
    world.anna()
    world.home.requests.ask("anna", [OBJECT])
    request = world.home.requests.all()[0]["request"]
    world.home.requests.refuse(request)
    for decide in (lambda: world.home.requests.refuse(request),
                   lambda: world.home.requests.grant(request, seconds=60)):
        with pytest.raises(UsageError, match="no such open request"):
            decide()


def test_who_is_not_registered_asks_in_vain_and_is_not_told(world):
    world.anna()
    for name in ("anna", "nobody"):
        assert world.home.requests.ask(name, [OBJECT], address="192.0.2.1") is None
    assert [row["name"] for row in world.home.requests.all()] == ["anna"]
    world.later(90_000)
    world.home.requests.ask("anna", [OBJECT])
    with world.home.context.store.transaction() as tx:
        assert len(tx.execute(sa.select(requests)).all()) == 2


@pytest.mark.parametrize("name", ["anna", "nobody"])
def test_asking_is_limited(world, name):
    world.anna()
    for _ in range(10):
        world.home.requests.ask(name, [OBJECT])
    with pytest.raises(ThrottledError):
        world.home.requests.ask(name, [OBJECT])
    assert (world.events[-1]["action"], world.events[-1]["outcome"]) == ("otp.ask", "refused")
