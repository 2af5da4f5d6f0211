"""A doctor's and a patient's card, personalised by an authority, for tests of the host."""

from __future__ import annotations

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import click.testing

from dicomcrypt.card import personal
from dicomcrypt.card.profile import CardRole, KeyKind
from dicomcrypt.card.session import CardSession
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import InProcess, PcscTransport, readers
from dicomcrypt.card.vpcd import Slot
from dicomcrypt.cli import cli
from dicomcrypt.pki import names
from dicomcrypt.pki.authority import Authority

PIN, PUK, OTHER, WRONG = "493817", "48151623", "271828", "111222"
WORDS = "of the authority"
DOCTOR = names.Subject("Arzt", "Anna", "Klinikum Nord", email="anna@klinikum.example",
                       role="physician")
PATIENT = names.Subject("Muster", "Max", email="max@muster.example", role="patient")


def invoke(*words: object) -> click.testing.Result:
    """Run the command line in this process; return its result, raise what it raised. No secret of
    the clinic is ever shown."""
    result = click.testing.CliRunner().invoke(cli, [str(w) for w in words])
    for secret in (PIN, PUK, WRONG, OTHER):
        assert secret not in result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[CardSession]:
    """A session with the software card of a file."""
    card = SoftwareCard.open(path, WORDS)
    try:
        yield CardSession(InProcess(card))
    finally:
        card.close()


class Watched:
    """A card that counts its commands, and is pulled in the middle of what it does.

    pull: called once, at the command `pull_at` from now on; `done`: after that was carried out."""

    def __init__(self, card: SoftwareCard) -> None:
        self.card = card
        self.commands: list[bytes] = []
        self.pull_at, self.done = 0, False
        self.pull: Callable[[], None] = lambda: None

    @property
    def atr(self) -> bytes:
        return self.card.atr

    def reset(self) -> bytes:
        return self.card.reset()

    def power_off(self) -> None:
        self.card.power_off()

    def transmit(self, command: bytes) -> bytes:
        self.commands.append(command)
        pulled = self.pull_at == 1
        self.pull_at -= 1
        if pulled and not self.done:
            self.pull()
            return b"\x6f\x00"
        answer = self.card.transmit(command)
        if pulled:
            self.pull()
        return answer

    def operations(self) -> int:
        """How often a private key was used: PSO and INTERNAL AUTHENTICATE."""
        return sum(c[1] in (0x2A, 0x88) for c in self.commands)


class Clinic:
    """An authority, and an empty card of either role, in memory."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        Authority.create(folder / "ca", organisation="Klinikum Nord", passphrase=WORDS,
                         kind="p256").__exit__()
        for name, text in (("pin", PIN), ("puk", PUK), ("other", OTHER), ("wrong", WRONG),
                           ("words", WORDS)):
            (folder / name).write_text(f"{text}\n")
        self.cards = [Watched(SoftwareCard.in_memory(role)) for role in CardRole]

    @property
    def pin(self) -> tuple:
        return "--pin-file", self.folder / "pin"

    def place(self, name: str) -> tuple:
        """The options that name a software card's file."""
        return "--card-file", name, "--card-passphrase-file", self.folder / "words"

    def new_file(self, name: str, role: str, surname: str, first: str, *more: object) -> tuple:
        """Make a software card's file, personalised by the command; return its options."""
        place = self.place(name)
        invoke("card", "init", *place, "--ca", self.folder / "ca", "--role", role, "--name",
               surname, "--first-name", first, *self.pin, "--puk-file", self.folder / "puk",
               "--passphrase-file", self.folder / "words", *more)
        return place

    def personalise(self, session: CardSession, kind: KeyKind = KeyKind.P256) -> None:
        with Authority(self.folder / "ca") as authority:
            subject = DOCTOR if session.role is CardRole.PROFESSIONAL else PATIENT

            def certify(slot, request, deliver) -> None:
                authority.issue(request.public_key(), subject, [personal.USES[slot]],
                                lambda: WORDS, deliver=deliver)

            personal.personalise(
                session, subject, certify, pin=PIN, puk=PUK, iccsn=personal.new_iccsn(),
                kind=kind, authority=authority.certificate("issuing"),
            )


class Inserted:
    """Cards in the readers of a pcscd (`pcscd.Room`)."""

    def __init__(self, room, cards: list[Watched]) -> None:
        self.cards = cards
        self.slots = [Slot(card, dial=lambda n=number: room.connect(n))
                      for number, card in enumerate(cards)]
        for card, slot in zip(cards, self.slots, strict=True):
            card.pull = slot.remove
        self._threads = [threading.Thread(target=slot.run, daemon=True) for slot in self.slots]

    def __enter__(self) -> Inserted:
        for thread in self._threads:
            thread.start()
        self.settle()
        return self

    def __exit__(self, *exc: object) -> None:
        for slot in self.slots:
            slot.close()
        for thread in self._threads:
            thread.join(5)

    def settle(self, pulled: bool = False) -> None:
        """Put all cards in, and wait until the service has seen them. pulled: one of them was taken
        out just now: the service looks every 0.4 s, and must have seen that it is gone."""
        if pulled:
            time.sleep(0.45)
        for slot in self.slots:
            slot.insert()
        await_cards([True] * len(self.slots))

    def session(self, number: int = 0) -> CardSession:
        return CardSession(PcscTransport(readers()[number].name))


def await_cards(wanted: list[bool]) -> None:
    end = time.monotonic() + 60
    while [r.atr is not None for r in readers()][: len(wanted)] != wanted:
        assert time.monotonic() < end, f"the service sees {readers()}"
        time.sleep(0.03)
