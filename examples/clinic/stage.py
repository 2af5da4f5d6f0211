"""What the clinic's example runs on: processes for the levels, servers, readers and cards."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import card_readers
import ldap_server

from dicomcrypt.card.profile import Ins
from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.transport import readers
from dicomcrypt.card.vpcd import FIRST_PORT, Slot

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 60.0  # seconds


class Row(NamedTuple):
    """A refusal: what was tried, the exit status, what was said."""

    tried: str
    status: int
    said: str


class Loose:
    """A card that is pulled, by `pull`, in the middle of a command, when its key is to be used."""

    pull: Callable[[], None]

    def __init__(self, card: SoftwareCard) -> None:
        self._card = card
        self.atr, self.reset, self.power_off = card.atr, card.reset, card.power_off

    def transmit(self, command: bytes) -> bytes:
        if command[1] == Ins.PSO:
            self.pull()
        return self._card.transmit(command)


class Stage:
    """Everything that runs; it ends with the `with` block. folder: an empty one.

    quiet: whether commands and what they say are kept from the transcript."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.refusals: list[Row] = []
        self.quiet = False
        self._stack = contextlib.ExitStack()
        self._cards: list[tuple[Slot, threading.Thread, SoftwareCard] | None] = [None, None]

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        for held in self._cards:
            if held is not None:
                held[0].close()
        self._stack.close()

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def process(self, *words: object, **options) -> subprocess.Popen:
        """Start a program that ends with the stage."""
        process = subprocess.Popen([str(w) for w in words], **options)
        self._stack.callback(_end, process)
        return process

    def dicomcrypt(self, *words: object, **options) -> subprocess.Popen:
        """Start a dicomcrypt command that goes on."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                   "stderr": subprocess.STDOUT, "text": True, **options}
        return self.process(sys.executable, "-m", "dicomcrypt", *words, **options)

    def said(self, process: subprocess.Popen, text: str) -> str:
        """Wait for a line of a process that begins with a text, and return the rest of it."""
        for line in process.stdout:
            if line.startswith(text):
                return line.removeprefix(text).strip()
        raise SystemExit(f"a process ended before it said {text!r}")

    # ---- servers -------------------------------------------------------------

    def directory(self, name: str, suffix: str, pem: bytes) -> ldap_server.Server:
        return self._stack.enter_context(
            ldap_server.serve(self.folder / name, suffix, pem=pem))

    def mail_server(self, pem: pathlib.Path) -> int:
        """Start one, and return its port. Each address has a mailbox."""
        (self.folder / "mail").mkdir()
        told = self.folder / "mail-port"
        self.process(sys.executable, HERE / "mail_server.py", self.folder / "mail" / "{}", pem,
                     told)
        _await(told.exists, "the mail server")
        return int(told.read_text())

    def card_service(self) -> None:
        """Start pcscd with two empty readers."""
        card_readers.write_configuration(self.folder / "readers")
        log = self._stack.enter_context(open(self.folder / "pcscd.log", "ab"))
        self.process(card_readers.find_pcscd(), "--foreground", "--error", "--config",
                     self.folder / "readers", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _await(pathlib.Path("/run/pcscd/pcscd.comm").exists, "pcscd")
        _await(lambda: len(readers()) == 2, "the readers")

    def insert(self, reader: int, name: str, *, loose: bool = False) -> None:
        """Put a card into a reader, in place of the one that was there. loose: it comes out when
        its key is to be used."""
        self.pull(reader)
        words = (self.folder / "cards" / "words").read_text().strip()
        card = SoftwareCard.open(self.folder / "cards" / f"{name}.hpjc", words)
        for patience in (5.0, 5.0, PATIENCE):
            held = Loose(card) if loose else card
            slot = Slot(held, FIRST_PORT + reader)
            if loose:
                held.pull = slot.remove
            thread = threading.Thread(target=slot.run, daemon=True)
            thread.start()
            self._cards[reader] = slot, thread, card
            if _becomes(lambda: readers()[reader].atr is not None, patience):
                break
            # A card service that did not see the last card go takes no notice of this one: take it
            # out for a moment, as a person would.
            slot.close()
            thread.join()
            time.sleep(1)
        else:
            raise SystemExit(f"the card {name} is not seen in its reader")
        self.say(f"\n  ({name}'s card is put into reader {card_readers.NAMES[reader]!r})")

    def pull(self, reader: int) -> None:
        """Take the card out."""
        if self._cards[reader] is not None:
            slot, thread, card = self._cards[reader]
            self._cards[reader] = None
            slot.close()
            thread.join()
            card.close()
            _await(lambda: readers()[reader].atr is None, "the reader to be empty")


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _becomes(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.03)
    return True


def _await(true: Callable[[], bool], what: str) -> None:
    if not _becomes(true, PATIENCE):
        raise SystemExit(f"waited {PATIENCE:g} s for {what}")


class Level:
    """A level of the health system: a folder of its own, a PIN, and a process that works there."""

    def __init__(self, stage: Stage, name: str, title: str) -> None:
        self.stage, self.name, self.title = stage, name, title
        self.folder = stage.folder / name
        self.folder.mkdir(mode=0o700)
        self.pin = f"{secrets.randbelow(10**8):08}"
        for file, text in (("pin", self.pin), ("wrong-pin", self.pin[::-1] + "0")):
            self.write(file, f"{text}\n".encode())
        self.write("config.toml", b"")
        self.environment = {**os.environ, "DICOMCRYPT_CONFIG": str(self.folder / "config.toml"),
                            "COLUMNS": "110", "PYTHONUNBUFFERED": "1"}
        self._process = stage.process(
            sys.executable, HERE / "level.py", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=self.folder, env=self.environment,
        )

    def write(self, name: str, content: bytes) -> pathlib.Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(content)
        return path

    def run(self, command: str, expect: int = 0, text: str = "") -> str:
        """Run a dicomcrypt command, show it and what it says, and return that. It must end with
        this status and say this text."""
        self.begin(command)
        return self.finish(command, expect, text)

    def begin(self, command: str) -> None:
        """Begin a command that waits for somebody else."""
        self._process.stdin.write(json.dumps(shlex.split(command)) + "\n")
        self._process.stdin.flush()

    def finish(self, command: str, expect: int = 0, text: str = "") -> str:
        """Wait for the end of what was begun; as `run`."""
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.title}: its process ended in: dicomcrypt {command}")
        status, said = json.loads(line)
        right = status == expect and text in said
        if not self.stage.quiet or not right:
            self.stage.say(f"\n{self.title}$ dicomcrypt {command}")
            for one in said.splitlines():
                self.stage.say(f"    {one}")
            if status:
                self.stage.say(f"    (exit status {status})")
        if not right:
            raise SystemExit(f"expected exit status {expect} and {text!r}")
        return said

    def refused(self, tried: str, status: int, text: str, command: str) -> None:
        """Run a command that must be refused, for the table."""
        self.note(tried, status, text, self.run(command, status, text))

    def note(self, tried: str, status: int, text: str, said: str) -> None:
        line = next(one for one in reversed(said.splitlines()) if text in one)
        self.stage.refusals.append(Row(tried, status, line.removeprefix("dicomcrypt: ")))

    def starts(self, command: str, **options) -> subprocess.Popen:
        """Start a program of this level's, which answers others."""
        if not self.stage.quiet:
            self.stage.say(f"\n{self.title}$ dicomcrypt {command} &")
        return self.stage.dicomcrypt(*shlex.split(command), cwd=self.folder,
                                     env=self.environment, **options)
