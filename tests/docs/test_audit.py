"""docs/audit.md: a log that is configured as the page says is written and verified."""

import doc_people as people
from doc_commands import Rule, page

PAGE = "docs/audit.md"


def test_the_page_runs_from_top_to_bottom(scene):
    people.keygen(scene, "doctor")
    scene.dicom("ct.dcm")
    heads = scene.base / "other"
    heads.mkdir(0o700)
    assert scene.shell("openssl genpkey -algorithm ed25519 -out service.key && chmod 600 *.key &&"
                       " openssl pkey -in service.key -pubout -out service.pem") == 0
    scene.run(page(PAGE), [
        Rule(r"\[audit\]", do=lambda s, text: s.configure(text.replace("/mnt/other", str(heads)))),
        Rule("audit verify", after=lambda s: _says(s.out + s.err, "2 events")),
        Rule("audit show", after=lambda s: _says(s.out, "encrypt")),
        Rule("audit export", after=lambda s: _says(
            (s.folder / "year.csv").read_text(), "encrypt")),
    ], replace={"/mnt/other/heads": str(heads / "heads")})
    assert scene.space["refused"] == [{"reason": "wrong-password", "attempt": 3}]


def _says(text, words):
    assert words in text, text
