"""docs/prescription.md: from the doctor's key to the receipt, with directories, mail, a register
and the patient's program; and again by card."""

import contextlib
import json
import shutil

import pytest
from clinic import Inserted, Watched
from clinic_servers import require_servers, running
from doc_commands import Page, Rule, page
from ports import free_port
from practice import ANNA, MAX, PAUL
from practice_cards import PIN, card_of

from dicomcrypt.card.software import SoftwareCard
from dicomcrypt.card.state import MemoryStore

PAGE = "docs/prescription.md"
CARDS = "With cards"
REGISTER = Rule("register serve", serve="register at ")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    require_servers()
    with running(tmp_path_factory.mktemp("rx")) as w:
        yield w


@pytest.fixture
def clinic_scene(scene, world):
    """A scene with everybody's files, the configuration, and the pharmacy's Maildir."""
    for path in world.folder.iterdir():
        if path.suffix in (".p12", ".crt", ".pem", ".pass") and path.is_file():
            shutil.copy(path, scene.folder)
    for part in ("new", "cur", "tmp"):
        (world.maildir / part).mkdir(parents=True, exist_ok=True)
    (scene.home / "Maildir").symlink_to(world.maildir)
    scene.environment["DICOMCRYPT_CONFIG"] = world.config
    return scene


def words(world):
    """What stands in the place of names and addresses of the page."""
    port = free_port()
    return {"smtp.clinic.example:587": f"127.0.0.1:{world.smtp} --smtp-ca all.crt",
            "127.0.0.1:8443": f"127.0.0.1:{port}", "loewe@pharmacy.example": PAUL,
            "anna@clinic.example": ANNA, "max@home.example": MAX}


def test_the_page_runs_but_for_cards(clinic_scene, world):
    assert CARDS in page(PAGE).headings()
    parts = [h for h in page(PAGE).headings() if h != CARDS]
    said = words(world)
    serials = []
    rules = {
        "From the doctor to the pharmacist": [
            REGISTER,
            Rule("prescription open", after=lambda s: _says(s.out, "Ibuprofen 600 mg")),
        ],
        "The four ways": [
            Rule("patient-agent -k", serve="patient's program at", replace={
                "dicomcrypt": "yes | dicomcrypt", "max.p12": "max.p12 --passphrase-file max.pass"}),
        ],
        "Years later": [Rule("openssl", after=lambda s: _says(s.err, "Verification successful"))],
        "The register": [
            Rule("prescription new", after=lambda s: serials.append(json.loads(
                (s.folder / "next.json").read_text())["identifier"]["value"])),
            Rule("cancel SERIAL", replace={"SERIAL": lambda s: serials[0]}),
            Rule("dispense next.p7m", status=5, after=lambda s: _says(s.err, "was cancelled on")),
        ],
    }
    for part in parts:
        clinic_scene.run(page(PAGE).part(part), rules.get(part, []), replace=said)


def _says(text, wanted):
    assert wanted in text, text


def test_the_part_about_cards_runs(clinic_scene, world, room):
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    said = words(world)
    data = {name: card_of(name) for name in ("anna", "paul", "max")}
    certificate = x509.load_der_x509_certificate(data["paul"].files["EF.CERT.DEC"])
    clinic_scene.write("paul.crt", certificate.public_bytes(Encoding.PEM))
    with contextlib.ExitStack() as readers:
        def insert(*names):
            readers.close()
            cards = [Watched(SoftwareCard(MemoryStore(data[name].encode()))) for name in names]
            readers.enter_context(Inserted(room, cards))

        (template,) = [c.text for c in page(PAGE).commands if "cat > rx.toml" in c.text]
        for word, other in said.items():
            template = template.replace(word, other)
        assert clinic_scene.shell(template) == 0
        assert clinic_scene.shell("dicomcrypt prescription new --template rx.toml -o rx.json") == 0
        (serve,) = [c.text for c in page(PAGE).commands if "register serve" in c.text]
        clinic_scene.run(Page(PAGE, f"```sh\n{serve}\n```\n"), [REGISTER], replace=said)
        clinic_scene.run(page(PAGE).part(CARDS), [
            Rule("prescription sign", before=lambda s: insert("anna")),
            Rule("prescription open", before=lambda s: insert("paul", "max"),
                 after=lambda s: _says(s.out, "Ibuprofen 600 mg")),
        ], replies={"PIN": PIN}, replace=said)
    assert (clinic_scene.folder / "receipt.p7m").exists()
