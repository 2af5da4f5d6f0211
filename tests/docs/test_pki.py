"""docs/pki.md: an authority for a year, its certificates judged here and by openssl."""

import json
import re

from doc_commands import Rule, page

PAGE = "docs/pki.md"


def serial(scene):
    scene.shell("dicomcrypt pki show anna.crt --json")
    return json.loads(scene.out)["serial"]


def offset(scene):
    """Where `openssl asn1parse` says that the octets of the role's extension begin."""
    lines = scene.out.split("\n")
    at = next(n for n, line in enumerate(lines) if re.search(r"2\.25\.\d+\.2$", line))
    return re.match(r" *(\d+):", lines[at + 1])[1]


def test_the_page_runs_from_top_to_bottom(scene):
    scene.run(page(PAGE), [
        Rule("-strparse", replace={"OFFSET": offset}, after=lambda s: _says(s.out, ":physician")),
        Rule("openssl verify", after=lambda s: _says(s.out, "anna.crt: OK")),
        Rule("openssl crl", after=lambda s: _says(s.err, "verify OK")),
        Rule("pki (renew|revoke)", replace={"SERIAL": serial}),
        Rule("verify anna.crt .* --crl ca/issuing.crl$", status=5,
             after=lambda s: _says(s.out + s.err, "revoked")),
        Rule("list --ca ca/ --status revoked", after=lambda s: _says(s.out, "Anna")),
        Rule("may anna-2028.crt dispense --root", status=5),
        Rule(r"\[trust\]", do=lambda s, text: None),
    ], replies={"PKCS": "of the file", "passphrase": "of the authority"})


def _says(text, words):
    assert words in text, text
