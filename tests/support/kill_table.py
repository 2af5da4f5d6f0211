"""A tree's job that is killed at random moments, resumed, and checked: one row a kill.

The process group, only the job's own process, or one of its workers is killed with SIGKILL. What
bears a final name right after that must be whole; after the same command was given again nothing
may be lost, damaged or there twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass

import dicomcrypt as dc
from dicomcrypt.container.reader import Container
from dicomcrypt.objects.atomic import is_part
from dicomcrypt.objects.buffers import MemorySource
from dicomcrypt.objects.files import object_meta

VICTIMS = ("group", "parent", "worker")
KINDS = (("encrypt", "keep"), ("decrypt", "keep"), ("encrypt", "encrypted"),
         ("decrypt", "encrypted"))
#: The command line with checkpoints so often that a short job has many.
OFTEN = ("from dicomcrypt.trees import checkpoint; checkpoint.FILES = {files}; "
         "from dicomcrypt.cli import main; main()")
HEADS = ("kill", "verb", "names", "victim", "moment", "in place", "resumed: skipped", "done",
         "damaged", "lost", "double", "left over")


@dataclass
class Row:
    """One kill. moment: seconds after the output folder was made; in_place: outputs with final
    names at the kill; skipped, done: of the resumed job, None if that was killed, too."""

    kill: int
    verb: str
    names: str
    victim: str
    moment: float
    in_place: int
    skipped: int | None = None
    done: int | None = None
    damaged: int = 0
    lost: int = 0
    double: int = 0
    left_over: int = 0


def make_tree(root: pathlib.Path, count: int, seed: int = 1) -> dict[str, bytes]:
    """Many small files, some larger ones, in folders; return {path: contents}."""
    noise, made = random.Random(seed), {}
    for number in range(count):
        size = (2000, 5000, 30_000, 90_000, 700_000)[min(noise.randrange(14), 4) if number % 9
                                                     else 4]
        path = root / f"study{number % 5}" / f"series{number % 3}" / f"{number:04}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.setdefault(os.fspath(path.relative_to(root)), noise.randbytes(size)))
    return made


def plain_outputs(out: pathlib.Path, verb: str, identity) -> list[tuple[str, bytes | None]]:
    """Every output under a final name: whose it is, and what it holds; None if it is damaged."""
    found = []
    for path in out.rglob("*"):
        if path.is_dir() or path.name.startswith(".dcmx-"):
            continue
        relative, data = os.fspath(path.relative_to(out)), path.read_bytes()
        if verb == "encrypt":
            relative = relative.removesuffix(".dcmx")
            try:
                _, meta = object_meta(Container(MemorySource(data)).unlock([identity]))
                relative = os.fsdecode(meta.name) if meta.name else relative
                data = dc.decrypt(data, [identity])
            except Exception:
                data = None
        found.append((relative, data))
    return found


class KillTable:
    """Makes the rows. command: words and environment of the command line; files: how many a
    checkpoint has; seed: of the moments."""

    def __init__(self, folder, keys, identity, command, *, count=240, files=12, jobs=2, seed=None):
        self.folder, self._keys, self._identity = pathlib.Path(folder), keys, identity
        self._environment = command.environment()
        self._words = [sys.executable, "-c", OFTEN.format(files=files)]
        self._jobs, self._noise = jobs, random.Random(seed)
        self.rows: list[Row] = []
        self._log, self._errors = self.folder / "log", self.folder / "errors"
        self.tree = make_tree(self.folder / "in", count)
        self._lasts: dict[tuple[str, str], float] = {}
        self._sources = {}
        for names in ("keep", "encrypted"):
            self._sources["encrypt", names] = self.folder / "in"
            self._sources["decrypt", names] = self.folder / f"objects-{names}"
            # What is decrypted later is made by a job that nobody disturbs.
            self._measure("encrypt", names, self.folder / f"objects-{names}")
        self._measure("decrypt", "keep", self.folder / "measured")
        self._lasts["decrypt", "encrypted"] = self._lasts["decrypt", "keep"]
        shutil.rmtree(self.folder / "measured")

    def _words_of(self, verb, names, out):
        key = ["-r", self._keys / "doctor.pub", "--names", names] if verb == "encrypt" else [
            "-i", self._keys / "doctor.key"]
        return [*self._words, *map(os.fspath, (
            verb, self._sources[verb, names], *key, "-o", out, "-j", str(self._jobs), "--json"
        ))]

    def _start(self, verb, names, out):
        # Into files: a pipe that nobody reads would stop the job.
        with open(self._log, "wb") as text, open(self._errors, "wb") as errors:
            return subprocess.Popen(
                self._words_of(verb, names, out), env=self._environment,
                stdin=subprocess.DEVNULL, stdout=text, stderr=errors, start_new_session=True,
            )  # fmt: skip

    def _measure(self, verb, names, out):
        process = self._start(verb, names, out)
        begin = self._wait_for_output(process, out)
        while process.poll() is None and _journal(out).exists():
            time.sleep(0.002)
        self._lasts[verb, names] = time.monotonic() - begin
        assert process.wait(120) == 0, self._errors.read_text()

    def _wait_for_output(self, process, out) -> float:
        """When the job has made its output folder and its journal."""
        while process.poll() is None and not _journal(out).exists():
            time.sleep(0.002)
        return time.monotonic()

    def kill(self, verb, names, victim, out) -> Row | None:
        """Begin or resume the job, and kill it at some moment; None if it was done before."""
        process = self._start(verb, names, out)
        self._wait_for_output(process, out)
        moment = self._noise.uniform(0, self._lasts[verb, names])
        time.sleep(moment)
        children = self._children(process.pid)
        with contextlib.suppress(ProcessLookupError):
            if victim == "group":
                os.killpg(process.pid, signal.SIGKILL)
            elif victim == "worker" and children:
                os.kill(self._noise.choice(children), signal.SIGKILL)
            else:
                process.kill()
        process.wait(60)
        end = time.monotonic() + 30
        while any(map(_lives, children)) and time.monotonic() < end:
            time.sleep(0.005)
        found = plain_outputs(out, verb, self._identity) if out.is_dir() else []
        if not _journal(out).exists():
            assert sorted(found) == sorted(self.tree.items())
            return None
        row = Row(len(self.rows) + 1, verb, names, victim, moment, len(found))
        row.damaged = sum(data != self.tree.get(name) for name, data in found)
        self.rows.append(row)
        return row

    def _children(self, pid):
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
            return [int(word) for word in text.split()]
        return []

    def resume(self, row: Row, out) -> None:
        """Give the same command again, undisturbed, and fill the row in."""
        process = self._start(row.verb, row.names, out)
        assert process.wait(120) == 0, self._log.read_text()[-500:] + self._errors.read_text()
        summary = json.loads(self._log.read_text())["summary"]
        row.skipped, row.done = summary["skipped"], summary["done"]
        found = plain_outputs(out, row.verb, self._identity)
        row.damaged += sum(data != self.tree.get(name) for name, data in found)
        row.lost = len(self.tree.keys() - {name for name, _ in found})
        row.double = len(found) - len({name for name, _ in found})
        row.left_over = sum(is_part(os.fsencode(p.name)) for p in out.rglob(".dcmx-*"))
        row.left_over += len(list(self.folder.glob(f"{out.name}.dcmx-*")))

    def run(self, kills: int) -> list[Row]:
        """Kill so many times; some jobs are killed again while they are resumed."""
        job = 0
        while len(self.rows) < kills:
            out = self.folder / f"out{job}"
            verb, names = KINDS[job % len(KINDS)]
            job += 1
            while row := self.kill(verb, names, VICTIMS[len(self.rows) % 3], out):
                if self._noise.random() < 0.75 or len(self.rows) >= kills:
                    self.resume(row, out)
                    break
            shutil.rmtree(out)
        return self.rows

    def text(self) -> str:
        """The table, and a line that sums it up."""
        cells = [HEADS] + [
            tuple(f"{c:.3f} s" if isinstance(c, float) else "killed again" if c is None else str(c)
                  for c in astuple(row)) for row in self.rows
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        total = {name: sum(getattr(row, name) for row in self.rows)
                 for name in ("damaged", "lost", "double", "left_over")}
        by = {victim: sum(row.victim == victim for row in self.rows) for victim in VICTIMS}
        part = sum(0 < row.in_place < len(self.tree) for row in self.rows)
        lines.append(
            f"{len(self.rows)} kills over jobs of {len(self.tree)} files "
            f"({', '.join(f'{n} of {v}' for v, n in by.items())}; {part} with some outputs in "
            f"place): {total['damaged']} damaged, {total['lost']} lost, {total['double']} double, "
            f"{total['left_over']} left over"
        )
        return "\n".join(lines)


def _journal(out: pathlib.Path) -> pathlib.Path:
    return out.with_name(f"{out.name}.dcmx-journal")


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False
