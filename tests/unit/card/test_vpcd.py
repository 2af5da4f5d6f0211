"""The card's side of vpcd, against a stand-in for the driver; a real one is in
tests/interop/test_card_vpcd.py."""

import contextlib
import os
import signal
import socket
import threading

import card_world as world
import pytest

from dicomcrypt.card import vpcd
from dicomcrypt.card.vpcd import Slot
from dicomcrypt.errors import TokenError

OFF, ON, RESET, ATR = b"\0", b"\1", b"\2", b"\4"
TRIES = b"\x00\x20\x00\x01"


class Driver:
    """Waits for a card as the driver does."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port = self.listener.getsockname()[1]
        self.card = None

    def accept(self):
        if self.card is not None:
            self.card.close()
        self.card, _ = self.listener.accept()
        self.card.settimeout(10)
        return self

    def send(self, message, *, whole=False):
        head = len(message).to_bytes(2, "big")
        if whole:
            self.card.sendall(head + message)
        else:  # in two parts, as the driver does
            self.card.sendall(head)
            self.card.sendall(message)

    def ask(self, message, **options):
        self.send(message, **options)
        return self.receive(int.from_bytes(self.receive(2), "big"))

    def receive(self, length):
        data = b""
        while len(data) < length:
            part = self.card.recv(length - len(data))
            assert part, "the card closed the connection"
            data += part
        return data

    def is_pulled(self):
        with contextlib.suppress(ConnectionResetError):
            return self.card.recv(1) == b""
        return True

    def close(self):
        self.listener.close()
        if self.card is not None:
            self.card.close()


@pytest.fixture
def driver():
    made = Driver()
    yield made
    made.close()


@contextlib.contextmanager
def inserted(driver, **options):
    """A slot that runs in a thread."""
    slot = Slot(world.make("patient").card, driver.port, **options)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(slot.run()))
    thread.start()
    try:
        driver.accept()
        yield slot
    finally:
        slot.close()
        thread.join(100)
        assert not thread.is_alive()


def test_control_messages_and_commands(driver):
    with inserted(driver) as slot:
        assert driver.ask(ATR) == slot.card.atr  # asked before power
        driver.send(ON)
        assert driver.ask(TRIES) == b"\x63\xc3"
        assert driver.ask(TRIES + b"\x0c" + world.PIN_BLOCK) == b"\x90\x00"
        assert driver.ask(TRIES, whole=True) == b"\x90\x00"
        driver.send(RESET)
        assert driver.ask(TRIES) == b"\x63\xc3"
        for unknown in (b"\3", b"\5", b"\xff", b""):
            driver.send(unknown)
        assert driver.ask(ATR) == slot.card.atr


def test_a_card_without_power_answers_commands_all_the_same(driver):
    with inserted(driver):
        driver.send(OFF)
        assert driver.ask(TRIES) == b"\x6f\x00"
        driver.send(ON)
        assert driver.ask(TRIES) == b"\x63\xc3"


def test_the_longest_messages(driver):
    with inserted(driver):
        assert driver.ask(b"\xff" * 65_535) == b"\x67\x00"
        driver.ask(b"\x00\xa4\x08\x0c\x04\xd0\x01\xc0\x01")
        assert driver.ask(b"\x00\xb0\x00\x00\x00\x00\x00")[-2:] == b"\x90\x00"


def test_a_card_is_pulled_and_put_in_again(driver):
    told = []
    with inserted(driver, told=told.append) as slot:
        driver.send(ON)
        driver.ask(TRIES + b"\x0c" + world.PIN_BLOCK)
        slot.toggle()
        assert driver.is_pulled()
        slot.toggle()
        driver.accept()
        driver.send(ON)
        assert driver.ask(TRIES) == b"\x63\xc3"  # the PIN was forgotten
    assert told == ["inserted", "removed"] * 2


def test_a_card_is_pulled_in_the_middle_of_a_command(driver):
    with inserted(driver) as slot:
        driver.card.sendall(b"\x00\x20\x00")  # of 32 bytes, one
        slot.remove()
        assert driver.is_pulled()
        slot.insert()
        driver.accept()
        assert driver.ask(ATR) == slot.card.atr


def test_the_card_dials_again_when_the_driver_has_closed(driver):
    with inserted(driver) as slot:
        driver.card.close()
        driver.accept()
        assert driver.ask(ATR) == slot.card.atr


def test_the_card_gives_up_when_the_driver_is_gone(driver):
    slot = Slot(world.make().card, driver.port, patience=0.3)
    thread = threading.Thread(target=slot.run)
    thread.start()
    driver.accept().close()
    thread.join(100)
    assert not thread.is_alive()


def test_without_a_driver_there_is_an_error_with_its_port(driver):
    driver.close()
    slot = Slot(world.make().card, driver.port, patience=0.1)
    with pytest.raises(TokenError, match=str(driver.port)):
        slot.run()
    with pytest.raises(TokenError, match="is pcscd running"):
        vpcd.emulate([slot, Slot(world.make().card, driver.port, patience=0.1)])


def test_two_cards_at_once_ruled_by_signals():
    drivers = [Driver(), Driver()]
    cards = [world.make(role).card for role in ("professional", "patient")]
    seen = []

    def play():
        try:
            first, second = (driver.accept() for driver in drivers)
            seen.append([driver.ask(ATR) for driver in drivers])
            os.kill(os.getpid(), signal.SIGUSR2)
            seen.append(second.is_pulled())
            seen.append(first.ask(ATR))
            os.kill(os.getpid(), signal.SIGUSR2)
            seen.append(second.accept().ask(ATR))
            os.kill(os.getpid(), signal.SIGUSR1)
            seen.append(first.is_pulled())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = [signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)]
    thread = threading.Thread(target=play)
    thread.start()
    vpcd.emulate([Slot(card, driver.port) for card, driver in zip(cards, drivers, strict=True)])
    thread.join(100)
    for driver in drivers:
        driver.close()
    first, second = (card.atr for card in cards)
    assert seen == [[first, second], True, first, second, True]
    after = [signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)]
    assert after == before


def test_a_card_in_no_hurry_is_closed_while_it_waits(driver):
    driver.close()
    slot = Slot(world.make().card, driver.port, patience=60)
    thread = threading.Thread(target=slot.run)
    thread.start()
    slot.remove()
    slot.close()
    thread.join(100)
    assert not thread.is_alive()
