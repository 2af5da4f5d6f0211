"""A vault whose writers are killed at random moments: one row a kill.

After each kill a plain reader opens the vault, and finds every file that was there before; then the
same command is given again, and `check` finds nothing wrong.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass

from vault_world import World, write_dicom

from dicomcrypt.keys import keyfile
from dicomcrypt.vault import backups
from dicomcrypt.vault.checking import Check
from dicomcrypt.vault.recipients import add as add_recipient
from dicomcrypt.vault.vault import Vault

VERBS = ("add", "erase", "compact", "rotate", "merge", "backup")
HEADS = ("kill", "verb", "moment", "files before", "after kill", "after next", "lost", "damaged",
         "wrong in check", "notes after kill")
#: What the process does; the command line, but for compaction, which has no command of its own.
COMPACT = ("import sys; from dicomcrypt.vault.vault import Vault; from dicomcrypt.keys.keyfile "
           "import parse_identities; i = parse_identities(open(sys.argv[2]).read())\n"
           "with Vault.open(sys.argv[1], identities=i) as v, v.lease('compact'):\n"
           "    v.catalogue.compact(full=True)")


@dataclass
class Row:
    kill: int
    verb: str
    moment: float
    before: int
    after_kill: int = 0
    after_next: int = 0
    lost: int = 0
    damaged: int = 0
    wrong: int = 0
    notes: int = 0


class VaultKills:
    """Makes the rows. environment: of the command line; seed: of the moments."""

    def __init__(self, folder, environment, *, seed=None, files=10) -> None:
        self.noise, self.files = random.Random(seed), files
        self.world = World(folder, each=2)
        self.environment, self.rows = environment, []
        self.key = self.world.folder / "who.key"
        self.key.write_text(keyfile.identity_text(self.world.identity))
        self.second = keyfile.ALGORITHMS["x25519"].generate().recipient
        self.number, self.lasts = 0, {}
        #: Contents by path of what the vault must hold.
        self.contents: dict[bytes, bytes] = {}
        self._log = self.world.folder / "log"
        with self.world.open() as vault:
            self.world.add(vault)
        self._take(self.world.tree)
        for path in self.world.tree.iterdir():
            path.unlink()

    def _take(self, tree) -> None:
        self.contents |= {b"tree/" + os.fsencode(p.name): p.read_bytes() for p in tree.iterdir()}

    # ---- commands ------------------------------------------------------------------

    def _prepare(self, verb):
        """Return the words of a command, what it adds and which patient goes."""
        world, vault = self.world, os.fspath(self.world.path)
        who = ("-i", os.fspath(self.key))
        self.number += 1
        if verb == "add":
            for path in world.tree.iterdir():
                path.unlink()
            for number in range(self.files):
                write_dicom(world.tree / f"f{self.number}-{number}.dcm", f"Q{self.number}",
                            1000 + self.number, number, size=20000)
            write_dicom(world.tree / f"g{self.number}.dcm", "P0", 1, 1000 + self.number)
            new = {b"tree/" + os.fsencode(p.name): p.read_bytes() for p in world.tree.iterdir()}
            return ["-m", "dicomcrypt", "vault", "add", vault, world.tree, *who, "-q", "-j",
                    str(1 + self.number % 2)], new, None
        if verb == "compact":
            return ["-c", COMPACT, vault, self.key], {}, None
        if verb == "erase":
            patient = f"E{self.number}"
            self._plant(patient)
            return ["-m", "dicomcrypt", "vault", "erase", vault, "--patient", patient, *who,
                    "--yes-erase"], {}, patient
        if verb == "merge":
            patient = f"M{self.number}"
            self.contents |= self._plant(patient)
            return ["-m", "dicomcrypt", "vault", "merge", vault, "--patient", patient, "--into",
                    "P1", *who], {}, None
        if verb == "rotate":
            with world.open(catalogue=False) as opened:
                add_recipient(opened.keys, "second", self.second, replace=True)
            return ["-m", "dicomcrypt", "vault", "recipients", "remove", vault, "second", *who], \
                {}, None
        copy = world.folder / f"copy{self.number}.keys"
        return ["-m", "dicomcrypt", "vault", "backup-keys", vault, copy, *who], {}, None

    def _plant(self, patient) -> dict[bytes, bytes]:
        """Put a patient with a few files into the vault, undisturbed."""
        for path in self.world.tree.iterdir():
            path.unlink()
        for number in range(6):
            write_dicom(self.world.tree / f"{patient}-{number}.dcm", patient,
                        2000 + self.number, number)
        with self.world.open() as vault:
            self.world.add(vault)
        return {b"tree/" + os.fsencode(p.name): p.read_bytes() for p in self.world.tree.iterdir()}

    def _start(self, words):
        with open(self._log, "wb") as log:
            return subprocess.Popen(
                [sys.executable, *map(os.fspath, words)], env=self.environment, stdout=log,
                stdin=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _wait_for_change(self, process) -> float:
        """When a process changes the key table first: it has the lease."""
        def changed():
            return os.stat(self.world.keys_path).st_mtime_ns

        before = changed()
        while process.poll() is None and changed() == before:
            time.sleep(0.001)
        return time.monotonic()

    # ---- one row -------------------------------------------------------------------

    def kill(self, verb) -> None:
        words, new, patient = self._prepare(verb)
        row = Row(len(self.rows) + 1, verb, 0.0, len(self.contents))
        process = self._start(words)
        begin = self._wait_for_change(process)
        row.moment = self.noise.uniform(0, self.lasts.get(verb, 0.1))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(row.moment)
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
        else:  # it was done before: the next one is killed earlier
            assert process.returncode == 0, self._log.read_text()
            self.lasts[verb] = time.monotonic() - begin
        while _group_lives(process.pid):
            time.sleep(0.005)
        found = self._read()
        row.after_kill = len(found)
        row.notes = self._check(row, wrong=False)
        self._compare(row, found, self.contents)
        if process.returncode != 0:
            again = self._start(words)
            begin = self._wait_for_change(again)
            status = again.wait(120)
            # What was done may not be there to be done again.
            text = self._log.read_text()
            done = {"rotate": "no recipient", "erase": "no such record", "backup": "exists"}
            done = verb in done and done[verb] in text
            assert status == 0 or done, (row, text)
            self.lasts[verb] = time.monotonic() - begin
        self.contents |= new
        found = self._read()
        row.after_next = len(found)
        self._compare(row, found, self.contents)
        self._check(row)
        assert patient is None or not any(os.fsencode(patient) in path for path in found)
        if verb == "backup":
            self._check_copy(words[5])
        self.rows.append(row)

    def _compare(self, row, found, wanted) -> None:
        row.lost += len(wanted.keys() - found.keys())
        row.damaged += sum(found[path] != data for path, data in wanted.items() if path in found)

    def _read(self) -> dict[bytes, bytes]:
        """Every file that the catalogue names, decrypted."""
        from dicomcrypt.container.reader import Container
        from dicomcrypt.objects.buffers import MemorySource
        from dicomcrypt.objects.decoder import MemoryOutput, decode
        from dicomcrypt.vault.vault import object_name

        result = {}
        with self.world.open() as vault:
            identity = vault.identity
            for _, row in vault.catalogue.rows():
                blob = vault.store.read(object_name(row.object_id))
                opened = Container(MemorySource(blob)).unlock([identity])
                data = bytearray(row.size)
                decode(opened, MemoryOutput(memoryview(data)), bytearray())
                result[row.path] = bytes(data)
        return result

    def _check(self, row, *, wrong=True) -> int:
        with self.world.open(catalogue=False) as vault:
            findings = list(Check(vault).run())
        if wrong:
            row.wrong += len(findings)
            assert not findings, (row, findings)
        return len(findings)

    def _check_copy(self, place) -> None:
        """What bears a copy's name is one, and is registered."""
        with Vault.open(self.world.path, keys_path=os.fspath(place),
                        identities=[self.world.identity], catalogue=False) as vault:
            vault.keys.table.check()
        with self.world.open(catalogue=False) as vault:
            assert os.fspath(place) in {b.place for b in backups.backups(vault.keys)}

    def run(self, kills: int) -> list[Row]:
        while len(self.rows) < kills:
            self.kill(VERBS[len(self.rows) % len(VERBS)])
        return self.rows

    def text(self) -> str:
        """The table, and a line that sums it up."""
        cells = [HEADS] + [tuple(f"{c:.3f} s" if isinstance(c, float) else str(c)
                                 for c in astuple(row)) for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        by = {verb: sum(row.verb == verb for row in self.rows) for verb in VERBS}
        lines.append(
            f"{len(self.rows)} kills ({', '.join(f'{n} of {verb}' for verb, n in by.items())}): "
            f"{sum(r.lost for r in self.rows)} lost, {sum(r.damaged for r in self.rows)} damaged, "
            f"{sum(r.wrong for r in self.rows)} wrong in check after the next command; "
            f"{sum(r.notes > 0 for r in self.rows)} left something that the next command ended"
        )
        return "\n".join(lines)


def _group_lives(group: int) -> bool:
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                return True
    return False
