"""docs/card.md: a software card in a real pcscd, from the empty card to a second one beside it."""

import json
import time

import authority as ca
from certificates import Maker
from doc_commands import Rule, page
from doc_people import certify

PAGE = "docs/card.md"
PIN, PUK, OTHER = "493817", "74019283", "551122"


def seen(count):
    """The card service notices a card a moment after it was put in."""
    def wait(scene):
        until = time.monotonic() + 30
        while True:
            assert scene.shell("dicomcrypt card list --json") == 0, scene.err
            if sum(reader["card"] is not None for reader in json.loads(scene.out)) == count:
                return
            assert time.monotonic() < until, scene.out

    return wait


def test_the_page_runs_from_top_to_bottom(scene, room):
    scene.archive()
    scene.write("letter.pdf", b"a letter")
    scene.write("record.xml", b"<record/>")
    scene.write("emergency.txt", "allergic to penicillin\n")
    scene.write("cards.pass", "of the file\n", 0o600)
    certify(scene, ca.Authority("Colleagues"), "colleague")
    chamber = Maker.root("Chamber of pharmacists")
    paul = chamber.leaf("Paul Pille", role="pharmacist", email="loewe@pharmacy.example")
    scene.write("chamber.crt", ca.pem(chamber.certificate))
    scene.write("paul.crt", ca.pem(paul.certificate))
    scene.space["pin"] = PIN
    emulate = {"dicomcrypt": " ".join(room.command("dicomcrypt")),
               "emulate": "emulate --passphrase-file cards.pass"}
    scene.run(page(PAGE), [
        Rule("emulate doctor.hpjc --new", serve="doctor.hpjc: ", replace=emulate, after=seen(1)),
        Rule("emulate doctor.hpjc patient.hpjc", serve="patient.hpjc: ", replace=emulate,
             before=lambda s: (s.stop(), seen(0)(s)), after=seen(2)),
        Rule("--card-file patient.hpjc", replies={"passphrase of .*patient": "of the file"}),
        Rule("pin change", replies={"new PIN.*": OTHER, "PIN": PIN}),  # unblocking puts it back
        Rule("decrypt safe", after=lambda s: _says(s, "its key was used once")),
        Rule("openssl cms", after=lambda s: _says(s, "Verification successful")),
        Rule("patient show", after=lambda s: _says(s, "urn:rx:160.123")),
        Rule("note show", after=lambda s: _says(s, "penicillin")),
    ], replies={"new PIN": PIN, "PIN": PIN, "PUK": PUK, "passphrase": "of the authority"})
    back = (scene.folder / "ct.dcm").read_bytes()
    assert back == (scene.folder / "archive/a/ct.dcm").read_bytes()


def _says(scene, words):
    assert words in scene.out + scene.err, scene.out + scene.err
