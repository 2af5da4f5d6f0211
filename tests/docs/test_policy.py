"""docs/policy.md: its signed policy is in force at its end."""

import doc_people as people
import pytest
from doc_commands import Rule, page

import dicomcrypt as dc
from dicomcrypt import policy
from dicomcrypt.keys import Passphrase
from dicomcrypt.keytable import KeyTable

PAGE = "docs/policy.md"


def test_the_page_runs_from_top_to_bottom(scene):
    people.keygen(scene, "doctor")
    scene.shell("dicomcrypt keygen --type x25519 -o old.key")
    ct = scene.dicom("ct.dcm")
    dc.encrypt_file(ct, f"{ct}.dcmx", dc.load_recipients(str(scene.folder / "doctor.pub")))
    words = Passphrase("...", memory_kib=64, passes=1, lanes=1)
    KeyTable.create(scene.folder / "keys.db", {"service": words}).close()
    try:
        scene.run(page(PAGE), [
            Rule(r"doctor.pub old.pub --preset bsi", after=lambda s: _says(s.out, "x25519")),
            Rule("policy show$", after=lambda s: _says(s.out, "hospital")),
            Rule('"dcmx-policy"', do=lambda s, text: s.write("hospital.json", text)),
        ])
        with pytest.raises(dc.PolicyError, match="x25519"):
            policy.current().require("x25519", "decrypt")
    finally:
        policy.use(None)


def _says(text, words):
    assert words in text, text
