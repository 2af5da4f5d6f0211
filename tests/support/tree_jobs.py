"""Trees' jobs for the tests: both directions behind one face, and processes that get killed."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import sys
import traceback

from kill_table import plain_outputs

from dicomcrypt.keys.batch import Envelope
from dicomcrypt.objects.atomic import is_part
from dicomcrypt.trees.job import Guarded
from dicomcrypt.trees.opening import Opened
from dicomcrypt.trees.pool import Outcome
from dicomcrypt.trees.sealing import Sealing
from dicomcrypt.trees.tree import DecryptOptions, EncryptOptions, decrypt_tree, encrypt_tree

#: Names that must be found nowhere; one is in a file, too.
PATIENTS = ("Doe^Jane", "Mustermann^Erika")


def plant(root: pathlib.Path, count: int = 24, size: int = 3000) -> dict[str, bytes]:
    """Make a tree of small files in folders that bear patients' names; return {path: contents}."""
    noise, made = random.Random(7), {}
    for number in range(count):
        path = root / PATIENTS[number % 2] / f"series{number % 3}" / f"image{number:03}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = PATIENTS[0].encode() + noise.randbytes(size + number)
        path.write_bytes(data)
        made[os.fspath(path.relative_to(root))] = data
    return made


class Job:
    """One direction of a tree's job: `run` begins it or goes on with it.

    verb: "encrypt" or "decrypt"; names: of the objects, "keep" or "encrypted". plain: what the
    tree holds; source and out: folders.
    """

    def __init__(self, folder, verb: str, identity, names: str = "keep", **plant_more):
        self.verb, self.names, self.identity, self.folder = verb, names, identity, folder
        self.root, self.out = folder / "in", folder / "out"
        self.plain = plant(self.root, **plant_more)
        self.source = self.root
        if verb == "decrypt":
            self.source = folder / "objects"
            self._encrypt(self.root, self.source)

    @property
    def step(self) -> tuple[type, str]:
        """What every file goes through, to be replaced by a test."""
        return (Sealing if self.verb == "encrypt" else Opened), "write"

    @property
    def journal(self) -> pathlib.Path:
        return self.out.with_name(self.out.name + ".dcmx-journal")

    def _encrypt(self, root, out, options=None, more=None):
        envelope = Envelope({1: [self.identity.recipient]}, batch=True)
        options = EncryptOptions(names=self.names, **(options or {}))
        return list(encrypt_tree(str(root), str(out), envelope, options, **(more or {})))

    def run(self, options=None, **more):
        """All outcomes."""
        if self.verb == "encrypt":
            return self._encrypt(self.source, self.out, options, more)
        return list(decrypt_tree(str(self.source), str(self.out), [self.identity],
                                 DecryptOptions(**(options or {})), **more))

    def in_place(self) -> dict[str, bytes | None]:
        """What bears a final name, and what it holds; None for what is damaged."""
        found = plain_outputs(self.out, self.verb, self.identity) if self.out.exists() else []
        assert len(found) == len(dict(found)), "doubles"
        return dict(found)

    def check_nothing_damaged(self) -> int:
        """How many outputs are in their places; all of them are whole."""
        found = self.in_place()
        assert all(self.plain[name] == data for name, data in found.items())
        return len(found)

    def check_done(self) -> None:
        """Everything is in its place, and nothing else is there."""
        assert self.in_place() == self.plain
        assert self.parts() == []
        assert not self.journal.exists()

    def parts(self) -> list[pathlib.Path]:
        return [p for p in self.folder.rglob(".dcmx-*") if is_part(os.fsencode(p.name))]

    def sources(self) -> dict[str, pathlib.Path]:
        """{path: the file that is read for it}."""
        if self.verb == "encrypt":
            return {name: self.source / name for name in self.plain}
        assert self.names == "keep"
        return {name: self.source / f"{name}.dcmx" for name in self.plain}

    def change(self, name: str, data: bytes) -> None:
        """Give one source other contents."""
        path = self.sources()[name]
        if self.verb == "encrypt":
            path.write_bytes(data)
        else:
            other = self.folder / "changed"
            other.mkdir(exist_ok=True)
            (other / "file").write_bytes(data)
            self._encrypt(other, self.folder / "changed-objects", {"force": True})
            os.replace(self.folder / "changed-objects" / "file.dcmx", path)
        later = os.stat(path).st_mtime_ns + 10**9
        os.utime(path, ns=(later, later))
        self.plain[name] = data

    def count_work(self, monkeypatch) -> list:
        """Return a list that grows by one with every file that is encrypted or decrypted."""
        done = []
        real = getattr(*self.step)

        def counted(*arguments, **named):
            done.append(1)
            return real(*arguments, **named)

        monkeypatch.setattr(*self.step, counted)
        return done


def in_child(function) -> int:
    """Run a function in a process of its own; its exit status, negative for a signal."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killing(real, *, at: int = 1, after: bool = False):
    """A stand-in for a function that kills its process at its call number `at`, or after it."""
    calls = 0

    def stand_in(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return stand_in


def killed_run(job: Job, monkeypatch, place, name: str, *, at: int = 1, after: bool = False,
               options=None, **more) -> None:
    """Run a job in a process that is killed where it calls `place.name`."""
    with monkeypatch.context() as patch:
        patch.setattr(place, name, killing(getattr(place, name), at=at, after=after))
        assert in_child(lambda: job.run(options, **more)) == -signal.SIGKILL


def states(outcomes) -> dict[str, int]:
    """How many outcomes there are of each state."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        found[outcome.state] = found.get(outcome.state, 0) + 1
    return found


def echo_factory(prefix, tell):
    """A worker that answers, and ends itself on demand."""

    def work(entry):
        tell(entry.size)
        if entry.relative == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(prefix + os.fsdecode(entry.relative), "done", bytes_in=entry.size)

    return Guarded(work, b"")


def asking_factory(tell, ask):
    """A worker that asks the job's process at every seventh entry."""

    def work(entry):
        if int(entry.relative) % 7 == 0:
            return Outcome("x", "done", message=str(ask(int(entry.relative))))
        return Outcome("x", "done", message=str(-int(entry.relative)))

    return Guarded(work, b"")
