"""docs/keys.md: every kind of key that it names is used as it says."""

import pathlib

import authority as ca
import doc_people as people
from doc_commands import Rule, page

from tests.conftest import absent, need, require_module

PAGE = "docs/keys.md"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"


def test_the_page_runs_from_top_to_bottom(scene):
    require_module("pkcs11", "pkcs11")
    need("softhsm2-util", "softhsm2")
    need("pkcs11-tool", "opensc")
    if not pathlib.Path(MODULE).exists():
        absent("the module of softhsm2 missing: apt-get install softhsm2")
    tokens = scene.base / "tokens"
    tokens.mkdir()
    scene.environment["SOFTHSM2_CONF"] = str(scene.write(
        "softhsm2.conf", f"directories.tokendir = {tokens}\nobjectstore.backend = file\n"))
    root = ca.Authority("Root")
    people.keygen(scene, "mri", "recovery")
    people.certify(scene, root, "anna", "correct horse")
    people.certify(scene, ca.Authority("Elsewhere"), "stranger")
    ct = scene.dicom("ct.dcm").read_bytes()

    def came_back(name):
        return lambda s: _equal(s.folder / name, ct)

    def configure(s, text):
        # The page's files lie beside the reader's configuration.
        for name in ("doctor.pub", "recovery.pub", "mri.pub", "anna.crt"):
            (s.config.parent / name).parent.mkdir(parents=True, exist_ok=True)
            (s.config.parent / name).write_bytes((s.folder / name).read_bytes())
        (s.config.parent / "ct.pub").write_bytes((s.folder / "doctor.pub").read_bytes())
        (s.config.parent / "mri.crt").write_bytes((s.folder / "anna.crt").read_bytes())
        s.configure(text.replace("head@hospital.example", "mri.pub"))

    def trust(s, text):
        (s.config.parent / "root.crt").write_bytes(ca.pem(root.certificate))
        (s.config.parent / "issuing.crt").write_bytes(ca.pem(root.certificate))
        (s.config.parent / "lists.crl").write_bytes(ca.pem(root.crl()))
        s.configure(text)

    scene.run(page(PAGE), [
        Rule("-i doctor.key -o back.dcm", after=came_back("back.dcm")),
        Rule("openssl pkcs12", replies={"(?i)import password": "correct horse"}),
        Rule("-i anna.p12", after=came_back("from-anna.dcm")),
        Rule("-o from-token.dcm", replies={"PIN": "493817"}, after=came_back("from-token.dcm")),
        Rule("-o by-default.dcmx", after=lambda s: _says(s.err, "config.toml")),
        Rule("-r stranger.crt", status=5),
        Rule(r"\[recipients\]", do=configure),
        Rule(r"\[trust\]", do=trust),
    ], replies={"passphrase": "correct horse"})


def _equal(path, data):
    assert path.read_bytes() == data


def _says(text, words):
    assert words in text, text
