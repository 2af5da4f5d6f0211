"""examples/clinic: the four ways through card readers, directories and mail, and the table of what
is refused, as the example plays them."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import run

from tests.conftest import absent, require_module

EXAMPLE = pathlib.Path(run.__file__)
PACKAGE = pathlib.Path(importlib.util.find_spec("dicomcrypt").origin).parents[1]
REFUSED = {
    "wrong PIN of the doctor's card": 6, "the doctor's card, pulled while it signs": 6,
    "wrong PIN of the patient's card": 6, "the patient's card, pulled before it signs": 6,
    "the last try, if nobody says so": 6, "a blocked card": 6,
    "another patient's card": 5, "another patient's card at the pharmacy": 5,
    "what is for the patient, without the patient's card": 3,
    "the patient's private key without a program of the patient's": 5,
    "the patient's card in a reader without a PIN pad": 5,
    "expired doctor": 5, "revoked doctor": 5, "a pharmacist in the doctor's place": 5,
    "another doctor's document": 4, "altered medication": 4, "stripped signature": 4,
    "stripped authorisation": 4, "replayed mail": 5, "changed mail": 4, "wrong pharmacy": 3,
    "dispensed a second time": 5, "cancelled by the doctor": 5,
}  # fmt: skip


def play(*words, **environment):
    return subprocess.run(
        [sys.executable, EXAMPLE, *words], capture_output=True, text=True, timeout=400, check=False,
        env={**_environment(), "PYTHONPATH": str(PACKAGE), **environment})


def _environment():
    """As it is, but scripts find what lies beside them, and have a card service of their own."""
    return {name: value for name, value in os.environ.items()
            if name not in ("PYTHONSAFEPATH", "PCSCLITE_CSOCK_NAME")}


def test_the_clinic_plays_and_leaves_nothing_behind(tmp_path):
    for command in run.missing():
        absent(f"a part of the example is missing: {command}")
    done = play("--keep", str(tmp_path / "clinic"), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    shown, _, table = done.stdout.partition("==== refused ====\n")
    rows = re.findall(r"^(\S.*)\n {4}(\d)  (.+)$", table, re.MULTILINE)
    assert {tried: int(status) for tried, status, _ in rows} == REFUSED
    assert f"four ways, {len(REFUSED)} refusals: all as they must be" in table
    for way in ("pharmacist-public-key", "doctor-private-key", "patient-public-key",
                "patient-private-key"):
        assert f"signed, {way}" in shown
    for text in (
        "by the certificate that directory chamber has", "Verification successful",
        "the patient's private key authorised", "the doctor's private key authorised",
        "number 1: it is dispensed", "number 5: it is dispensed", "1 prescriptions",
    ):
        assert text in shown
    for file in (tmp_path / "clinic").glob("*/pin"):
        assert file.read_text().strip() not in done.stdout
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "clinic") not in left
    again = play("--keep", str(tmp_path / "clinic"))
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)


def test_what_is_missing_is_said_with_its_package(tmp_path):
    require_module("smartcard", "card")
    done = play(PATH=str(tmp_path))
    assert done.returncode == 1
    assert re.search(r"apt-get install .*iproute2 util-linux.* openssl", done.stdout)
