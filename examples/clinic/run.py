"""A clinic on one machine: electronic prescriptions from card to card.

    python examples/clinic/run.py [--keep FOLDER]

Doctors, a hospital, two pharmacies, two patients and two trust centres work as processes of their
own, with two LDAP directories (slapd), a mail server, the register, and pcscd with two readers.
Every command is shown with what it says; the four ways of docs/prescription.md come first, then
everything that is refused. All of it runs in a network namespace of its own, so that nothing is
seen from outside, and needs no root. The cards are software (docs/card.md).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import card_readers
import ldap_server

_INSIDE = "CLINIC_INSIDE"
_LIBRARIES = {"smartcard": "dicomcrypt[card]", "fhir": "dicomcrypt[prescription]",
              "pyasn1_modules": "dicomcrypt[ldap]", "aiosmtpd": "aiosmtpd"}


def missing() -> list[str]:
    """Return what has to be installed first, as commands."""
    packages = card_readers.missing() + [
        package for package, found in (("slapd", ldap_server.find_slapd()),
                                       ("openssl", shutil.which("openssl"))) if not found]
    libraries = [name for module, name in _LIBRARIES.items()
                 if importlib.util.find_spec(module) is None]
    commands = []
    if packages:
        commands.append(f"apt-get install --no-install-recommends {' '.join(packages)}")
    if libraries:
        if "dicomcrypt[card]" in libraries:
            commands.append("apt-get install --no-install-recommends libpcsclite-dev")
        commands.append(f"pip install {' '.join(map(repr, libraries))}")
    return commands


def enter() -> int:
    """Run this program again in namespaces of its own; return its exit status."""
    how = "-nm" if os.geteuid() == 0 else "-rnm"
    environment = {**os.environ, _INSIDE: "1"}
    environment.pop("PCSCLITE_CSOCK_NAME", None)  # the card service of this machine
    process = subprocess.Popen(["unshare", how, sys.executable, __file__, *sys.argv[1:]],
                               env=environment)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # it got the same, and ends what it began
            continue


def prepare() -> None:
    """Make the namespaces usable: a loopback device, and a place for the socket of pcscd."""
    for words in (["ip", "link", "set", "lo", "up"], ["mount", "-t", "tmpfs", "none", "/run"],
                  ["mkdir", "/run/pcscd"]):
        subprocess.run(words, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--keep", metavar="FOLDER",
                        help="leave everybody's files there; it must be empty or new")
    options = parser.parse_args()
    commands = missing()
    if commands:
        print("some things are missing; install them first:", *commands, sep="\n  ")
        return 1
    if _INSIDE not in os.environ:
        return enter()
    folder = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="clinic")).resolve()
    folder.mkdir(mode=0o700, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{options.keep!r} is not empty")
    prepare()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from scenes import play

    try:
        play(folder)
    except KeyboardInterrupt:
        return 130
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
