"""Whole archives beside `cp -r` and other tools: `python bench/macro.py [--kind archive|small]`.

Wall times of whole processes, in turns, the least of several rounds; every answer is checked
once. The corpus is made by corpus.py and read once before, so that the page cache is warm. Outputs
are removed at the end of a round, followed by a pause: for a minute ext4 searches every group for
inodes that were not deleted lately, which costs whoever makes files next a fifth of the time.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

from corpus import archive, small

DICOMCRYPT = [sys.executable, "-m", "dicomcrypt"]


def timed(words: list[str] | str) -> float:
    """Return the wall time of a command, or of a line for the shell."""
    start = time.perf_counter()
    done = subprocess.run(words, shell=isinstance(words, str), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{words} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return seconds


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two trees hold the same files with the same bytes."""
    names = [sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
             for root in (one, other)]
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names[0]
    )


class Place:
    """A folder with the corpus, keys and outputs."""

    def __init__(self, root: pathlib.Path, kind: str, scale: float) -> None:
        self.root, self.source = root, root / "in"
        if kind == "archive":
            self.bytes = archive(self.source, int(1200 * scale), max(1, int(3 * scale)))
        else:
            self.bytes = small(self.source, int(100_000 * scale))
        self.files = sum(len(files) for _, _, files in os.walk(self.source))
        timed([*DICOMCRYPT, "keygen", "-o", str(root / "a.key")])

    def path(self, name: str) -> pathlib.Path:
        return self.root / name

    def clear(self, *names: str) -> None:
        for name in names:
            path = self.path(name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        os.sync()


def own(place: Place, jobs: int) -> dict[str, tuple[list[str] | str, str]]:
    """{name: (command, output)} of what is compared in every round."""
    jobs_words = ["-q", "-j", str(jobs)]
    encrypt = [*DICOMCRYPT, "encrypt", str(place.source), "-r", str(place.path("a.pub"))]
    decrypt = [*DICOMCRYPT, "decrypt", str(place.path("safe")), "-i", str(place.path("a.key"))]
    copy = f"cp -r --reflink=never '{place.source}' '{place.path('copy')}'"
    return {
        "cp -r": (copy, "copy"),
        "cp -r && sync -f": (f"{copy} && sync -f '{place.path('copy')}'", "copy"),
        "encrypt": ([*encrypt, *jobs_words, "-o", str(place.path("made"))], "made"),
        "encrypt --no-sync": ([*encrypt, *jobs_words, "--no-sync", "-o", str(place.path("made"))],
                              "made"),
        "decrypt": ([*decrypt, *jobs_words, "-o", str(place.path("back"))], "back"),
        "decrypt --no-sync": ([*decrypt, *jobs_words, "--no-sync", "-o", str(place.path("back"))],
                              "back"),
        "verify": ([*DICOMCRYPT, "verify", str(place.path("safe")), "-i",
                    str(place.path("a.key")), *jobs_words], ""),
    }


def peers(place: Place) -> dict[str, str]:
    """{name: line for the shell} of the tools that are installed."""
    source, made = f"'{place.source}'", f"'{place.path('peer')}'"
    password = f"'{place.path('password')}'"
    place.path("password").write_text("correct horse battery staple\n")
    lines = {}
    each = f"mkdir {made} && cd {source} && find . -type f | while read -r f; do"
    if shutil.which("age"):
        timed(["age-keygen", "-o", str(place.path("age.key"))])
        recipient = subprocess.run(["age-keygen", "-y", str(place.path("age.key"))], check=True,
                                   capture_output=True, text=True).stdout.strip()
        lines["tar | age"] = f"tar cf - -C {source} . | age -r {recipient} > {made}"
        lines["age, each file"] = (
            f"{each} mkdir -p {made}/\"$(dirname \"$f\")\"; "
            f"age -r {recipient} -o {made}/\"$f\" \"$f\"; done"
        )
    if shutil.which("gpg"):
        lines["tar | gpg -c"] = (
            f"tar cf - -C {source} . | gpg --homedir '{place.root}' --batch --quiet "
            f"--pinentry-mode loopback --passphrase-file {password} -c -o {made}"
        )
    if shutil.which("7z"):
        lines["7z -mx0 -mhe"] = (
            f"7z a -bso0 -bsp0 -mx0 -mhe -p\"$(cat {password})\" {made}.7z {source}"
        )
    if shutil.which("restic"):
        restic = f"restic -q -r {made} --password-file {password}"
        lines["restic"] = f"{restic} init && {restic} backup {source}"
    if shutil.which("borg"):
        lines["borg"] = (
            f"export BORG_PASSPHRASE=\"$(cat {password})\" BORG_BASE_DIR='{place.root}'; "
            f"borg init -e repokey {made} && borg create {made}::a {source}"
        )
    if shutil.which("openssl"):
        timed("openssl req -x509 -newkey rsa:3072 -nodes -subj /CN=a -days 9 "
              f"-keyout '{place.path('k.pem')}' -out '{place.path('c.pem')}'")
        lines["openssl cms, each file"] = (
            f"{each} openssl cms -encrypt -binary -aes-256-gcm -outform DER -in \"$f\" "
            f"-out {made}/\"$(echo \"$f\" | tr / _)\" '{place.path('c.pem')}'; done"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=["archive", "small"], default="archive")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="1.0: 1.0 GB, or 100,000 files")
    parser.add_argument("--pause", type=float, default=61, help="seconds after each round")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--folder", help="where the corpus is made; removed at the end")
    asked = parser.parse_args()
    # Compiled once, as an installer does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        place = Place(pathlib.Path(folder), asked.kind, asked.scale)
        commands = own(place, asked.jobs)
        timed([*DICOMCRYPT, "encrypt", "-q", str(place.source), "-r", str(place.path("a.pub")),
               "-o", str(place.path("safe"))])
        best: dict[str, float] = {}
        for number in range(asked.rounds):
            made = []
            for name, (words, output) in commands.items():
                if output:
                    made.append(f"{output}{len(made)}")
                    words = [word.replace(str(place.path(output)), str(place.path(made[-1])))
                             for word in words] if isinstance(words, list) else \
                        words.replace(str(place.path(output)), str(place.path(made[-1])))
                os.sync()
                best[name] = min(best.get(name, 1e9), timed(words))
                if number == 0 and name == "decrypt" and not same(
                    place.source, place.path(made[-1])
                ):
                    raise SystemExit("what was decrypted is not what was encrypted")
            place.clear(*made)
            time.sleep(asked.pause if number + 1 < asked.rounds else 0)
        for name, line in {} if asked.no_peers else peers(place).items():
            best[name] = timed(line)
            place.clear("peer", "peer.7z")
        show(asked, place, best)


def show(asked, place: Place, best: dict[str, float]) -> None:
    """Print the table, and write it as JSON beside the other results."""
    copy, synced = best["cp -r"], best["cp -r && sync -f"]
    print(f"{place.files} files, {place.bytes / 1e9:.3f} GB, {asked.jobs} workers, least of "
          f"{asked.rounds} (peers: one run), {platform.machine()}, {os.cpu_count()} processors")
    print(f"{'':26}{'seconds':>9}{'GB/s':>7}{'files/s':>9}{'x cp':>7}{'x cp+sync':>11}")
    for name, seconds in best.items():
        print(f"{name:26}{seconds:9.2f}{place.bytes / seconds / 1e9:7.2f}"
              f"{place.files / seconds:9.0f}{seconds / copy:7.2f}{seconds / synced:11.2f}")
    results = pathlib.Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / f"macro-{asked.kind}.json").write_text(json.dumps(
        {"files": place.files, "bytes": place.bytes, "jobs": asked.jobs, "seconds": best}, indent=1
    ))


if __name__ == "__main__":
    main()
