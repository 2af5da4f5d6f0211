"""docs/keytable.md: its commands and its Python."""

import json
import re

import doc_people as people
from doc_commands import Rule, page

from dicomcrypt.keytable import KeyTable
from tests.conftest import need, require_module

PAGE = "docs/keytable.md"


def test_the_page_runs_from_top_to_bottom(scene):
    require_module("pysequoia", "openpgp")
    need("gpg", "gnupg")
    (scene.home / "gnupg").mkdir(0o700)
    people.keygen(scene, "backup")
    scene.write("words", "a long passphrase of many words\n", 0o600)
    scene.write("service.words", "of the service\n", 0o600)
    ids = []

    def opened(s):
        content = json.loads((s.folder / "keys.json").read_text())
        assert [(k["id"], k["label"]) for k in content["keys"]] == [(ids[0], "ward 3")]

    def emptied(s):
        with KeyTable(s.folder / "other.db").unlock("service", "of the service") as table:
            assert list(table.labels()) == []

    scene.run(page(PAGE), [
        Rule("key table new", after=lambda s: ids.append(re.search("[0-9a-f]{32}", s.out)[0])),
        Rule("gpg", after=opened),
        Rule("key table delete", replace={"ID": lambda _: ids[0]}, after=emptied),
    ], replies={"new passphrase": "another horse", "passphrase": "correct horse"})
    with KeyTable(scene.folder / "service.db").unlock("service", "...") as table:
        assert len(list(table.labels())) == 1001
