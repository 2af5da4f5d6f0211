"""Messages that go out: their texts, and deliveries that fail."""

import pytest
from otp_world import Kept, answer_in

from dicomcrypt.errors import DeliveryError, NoIdentityError, ThrottledError, UsageError
from dicomcrypt.otp.outbox import render

# ---- templates -----------------------------------------------------------------------


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_code_is_in_all_forms_of_its_message(language):
    found = render("code", language, "a@b.example", name="<b>Anna</b> $x", code="891632", sum="29",
                   minutes=5)
    for text in (found.text, found.html):
        assert "891632" in text
        assert "29" in text
    assert "<b>Anna</b> $x" in found.text
    assert "&lt;b&gt;Anna&lt;/b&gt; $x" in found.html
    assert "891632" not in found.subject
    assert "\n" not in found.subject
    assert "891632" not in repr(found)
    link = render("link", language, "a@b.example", name="Anna", url="https://p.example/#x_-9")
    assert "https://p.example/#x_-9" in link.text
    assert 'href="https://p.example/#x_-9"' in link.html


@pytest.mark.parametrize("language", ["de", "en"])
def test_an_sms_fits_into_one(language):
    found = render("sms", language, "+491701234567", name="x" * 128, code="891632", sum="29",
                   minutes=5)
    assert len(found.text) <= 160
    assert found.text.isascii()  # so in the alphabet of 7 bits
    assert answer_in(found) == {"code": "891632", "sum": "29"}


# ---- deliveries that fail ----------------------------------------------------------------


def test_a_failed_delivery_is_told_and_repeated_with_the_same_code(world):
    token = world.anna()
    world.mail.failures = 1
    world.service.request_code("anna", token=token)
    (found,) = world.home.outbox.deliver()
    assert (found.state, found.said) == ("failed", "the mail server cannot be reached")
    assert world.home.outbox.deliver() == []
    world.later(60)
    repeat(world, token)
    repeat(world, token)
    first, second = world.mail.codes()
    assert first == second
    assert len(set(world.mail.keys)) == 3  # a gateway must not take a repetition for the same one
    world.service.open("anna", first, token=token)
    with pytest.raises(NoIdentityError):
        world.service.open("anna", first, token=token)
    assert [e["outcome"] for e in world.events if e["action"] == "otp.send"] == [
        "failed", "ok", "ok"]


def repeat(world, token, name="anna"):
    with world.home.context.store.transaction() as tx:
        subject = world.home.links.subject(tx, "open", name, token=token)
    world.home.outbox.repeat(subject)
    return world.home.outbox.deliver()


def test_what_is_asked_for_again_during_its_delivery_is_sent_again(world):
    token = world.anna()
    world.service.request_code("anna", token=token)
    during = []

    class Slow(Kept):
        def deliver(self, message, key):
            if not during:
                during.append(True)
                with world.home.context.store.transaction() as tx:
                    subject = world.home.links.subject(tx, "open", "anna", token=token)
                world.home.outbox.repeat(subject)
                raise DeliveryError("the mail server cannot be reached")
            super().deliver(message, key)

    slow = world.home.outbox._channels["email"] = Slow()
    assert [found.state for found in world.home.outbox.deliver()] == ["failed", "sent"]
    assert len(slow.messages) == 1


def test_repeating_does_not_make_a_code_last_longer(world):
    token = world.anna()
    answer = world.send(token)
    world.later(299)
    repeat(world, token)
    world.later(1)
    with pytest.raises(UsageError, match="no code is valid"):
        repeat(world, token)
    with pytest.raises(NoIdentityError):
        world.service.open("anna", answer, token=token)


def test_repeating_is_limited(world):
    token = world.anna()
    world.send(token)
    for _ in range(3):
        repeat(world, token)
    with pytest.raises(ThrottledError):
        repeat(world, token)


def test_what_became_void_or_old_meanwhile_is_not_sent(world):
    token = world.anna()
    world.service.request_code("anna", token=token)
    world.later(300)
    assert [found.state for found in world.home.outbox.deliver()] == ["failed"]
    world.service.request_code("anna", token=token)
    world.later(60)
    world.service.request_code("anna", token=token)
    assert [found.state for found in world.home.outbox.deliver()] == ["failed", "sent"]
    assert len(world.mail.messages) == 1


def test_a_delivery_whose_process_died_is_taken_up_with_the_same_key(world):
    token = world.anna()

    class Died(Exception):
        pass

    class Dying(Kept):
        def deliver(self, message, key):
            super().deliver(message, key)
            raise Died

    dying, world.mail = world.mail, Dying()
    world.restart()
    world.service.request_code("anna", token=token)
    with pytest.raises(Died):
        world.home.outbox.deliver()
    keys, world.mail = world.mail.keys, dying
    world.restart()
    assert world.home.outbox.deliver() == []
    world.later(121)
    assert [found.state for found in world.home.outbox.deliver()] == ["sent"]
    assert world.mail.keys == keys


def test_without_a_channel_or_number_the_failure_is_told(world):
    world.home.persons.add("bert", "bert@klinikum.example")
    token = world.link("bert")
    world.service.request_code("bert", token=token, channel="mobile")
    (found,) = world.home.outbox.deliver()
    assert found.said == "no mobile number is registered"
    world.home._channels = dict
    world.restart()
    world.home._channels = dict
    world.later(15)
    world.service.request_code("bert", token=token)
    (found,) = world.home.outbox.deliver()
    assert found.said == "no channel for email is set up"
