"""Collect what an installation without a network needs, with hashes and a bill of materials.

    python tools/wheelhouse.py [--output wheelhouse] [--extras pki,vault] dist/dicomcrypt-*.whl

Needs the extra `dist`. Run it with the Python, on the kind of system, that it is for. The folder
then holds every wheel (what comes as source is built), requirements.txt with the SHA-256 of each,
and sbom.cdx.json (CycloneDX 1.6). Before the tool ends it has installed all of it from the folder
alone into an environment of its own; only then it takes the place of an earlier wheelhouse. A
folder with anything else in it is refused. docs/install.md tells what to do with the folder.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
LISTS = {"requirements.txt", "sbom.cdx.json"}


def run(*command: str | os.PathLike[str]) -> None:
    subprocess.run(command, check=True)


def requirements(folder: pathlib.Path) -> str:
    """Return a line for each wheel: its project, its version, its hash."""
    lines = []
    for path in sorted(folder.glob("*.whl"), key=lambda path: path.name.lower()):
        name, version = path.name.split("-")[:2]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{normal(name)}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def normal(name: str) -> str:
    """Return the name of a project or an extra as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def check_folder(folder: pathlib.Path) -> None:
    """Refuse what is neither new, nor empty, nor an earlier wheelhouse."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder: name another one with --output")
    names = {path.name for path in folder.iterdir()}
    other = sorted(name for name in names - LISTS if not name.endswith(".whl"))
    if names and (other or not names >= LISTS):
        why = f"it has {other[0]} in it" if other else "it lacks " + min(LISTS - names)
        raise SystemExit(f"{folder} is no earlier wheelhouse ({why}), and stays as it is: "
                         "name a new or empty folder with --output")


def check_extras(wheel: pathlib.Path, extras: str) -> None:
    """Refuse an extra that the wheel does not have; pip would only warn."""
    try:
        with zipfile.ZipFile(wheel) as packed:
            name = next(n for n in packed.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(packed.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration):
        raise SystemExit(f"{wheel} is not there, or no wheel") from None
    known = {normal(each) for each in metadata.get_all("Provides-Extra", [])}
    for extra in filter(None, map(str.strip, extras.split(","))):
        if normal(extra) not in known:
            names = ", ".join(sorted(known))
            raise SystemExit(f"{wheel.name} has no extra {extra}: it has {names}")


def collect(wheel: pathlib.Path, extras: str, folder: pathlib.Path) -> None:
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    run(*PIP, "wheel", "--wheel-dir", folder, wanted)
    (folder / "requirements.txt").write_text(requirements(folder))


def try_out(folder: pathlib.Path, environment: pathlib.Path) -> pathlib.Path:
    """Install from the folder alone, and return the Python that has it."""
    run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(*PIP, "--python", python, "--isolated", "install", "--no-index", "--find-links", folder,
        "--require-hashes", "-r", folder / "requirements.txt")
    run(*PIP, "--python", python, "check")
    run(*PIP, "--python", python, "uninstall", "--yes", "pip", "setuptools")  # not in the bill
    return python


def complete(text: str, hashes: dict[str, str], main: str) -> str:
    """Return the bill with the hash of each wheel, by its project, and what it is the bill of."""
    bill = json.loads(text)
    for each in bill["components"]:
        each["hashes"] = [{"alg": "SHA-256", "content": hashes[normal(each["name"])]}]
    [subject] = [each for each in bill["components"] if normal(each["name"]) == main]
    bill["components"].remove(subject)
    bill["metadata"]["component"] = {**subject, "type": "application"}
    return json.dumps(bill, indent=2) + "\n"


def describe(folder: pathlib.Path, python: pathlib.Path, main: str) -> None:
    """Write the bill of what this Python has installed."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    path = folder / "sbom.cdx.json"
    run(sys.executable, "-m", "cyclonedx_py", "environment", "--spec-version", "1.6",
        "--output-reproducible", "-o", path, python)
    listed = re.findall(r"^(\S+)==\S+ --hash=sha256:(\w+)$", requirements(folder), re.M)
    path.write_text(complete(path.read_text(), dict(listed), main))
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()):
        raise SystemExit(f"no wheelhouse was made: its bill does not follow the schema: {wrong}")


def make(wheel: pathlib.Path, extras: str, folder: pathlib.Path) -> None:
    """Build the wheelhouse beside its place, try it, and put it there; else leave what was."""
    check_folder(folder)
    check_extras(wheel, extras)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        new, old = pathlib.Path(name) / "new", pathlib.Path(name) / "old"
        new.mkdir()
        collect(wheel, extras, new)
        describe(new, try_out(new, pathlib.Path(name) / "environment"),
                 normal(wheel.name.split("-")[0]))
        check_folder(folder)  # it took minutes
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("wheelhouse"))
    parser.add_argument("--extras", default="")
    parser.add_argument("wheel", type=pathlib.Path)
    options = parser.parse_args()
    folder = options.output.resolve()
    try:
        make(options.wheel.resolve(), options.extras, folder)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"no wheelhouse was made: {error}") from None
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size:.1f} MB, tried")
    return 0


if __name__ == "__main__":
    sys.exit(main())
