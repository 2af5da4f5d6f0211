"""The policy is asked whom a key table is wrapped to, as it is for objects."""

import pytest

from dicomcrypt import policy
from dicomcrypt.errors import PolicyError, UsageError
from dicomcrypt.keys import HybridIdentity, Passphrase, X25519Identity
from dicomcrypt.keytable import KeyTable, openpgp


@pytest.fixture
def rules():
    yield lambda name: policy.use(policy.preset(name))
    policy.use(None)


def cheap(text):
    return Passphrase(text, memory_kib=64, passes=1, lanes=1)


def test_tables_are_made_for_what_is_permitted_alone(tmp_path, rules):
    rules("fips")
    for access in (X25519Identity.generate().recipient, cheap("words")):
        with pytest.raises(PolicyError):
            KeyTable.create(tmp_path / "keys.db", {"anna": access})
        assert not (tmp_path / "keys.db").exists()


def test_accesses_are_given_for_what_is_permitted_alone(tmp_path, rules):
    own = HybridIdentity.generate()
    access = {"own": own.recipient, "anna": cheap("words")}
    KeyTable.create(tmp_path / "keys.db", access).close()
    rules("fips")
    with KeyTable(tmp_path / "keys.db").unlock(identities=[own]) as table:
        with pytest.raises(PolicyError, match="x25519"):
            table.grant("bob", X25519Identity.generate().recipient)
        with pytest.raises(PolicyError, match="argon2id"):
            table.change_password("anna", "words", cheap("other"))
        assert set(table.accesses()) == {"own", "anna"}
    refused = dict(policy.preset("default")) | {"argon2id": policy.rules.Rule("refused")}
    policy.use(policy.Policy("strict", "test", refused, "refused"))
    with pytest.raises(PolicyError, match="argon2id"):
        KeyTable(tmp_path / "keys.db").unlock("anna", "words")


def test_a_message_that_says_something_twice_is_refused():
    key = ('{"id": "' + "00" * 16 + '", "kind": "a", "kind": "b", "label": null, "key": "'
           + "A" * 43 + '="}')
    for text in ('{"format": "dicomcrypt-keytable-1", "keys": [], "keys": [], "table": ""}',
                 '{"format": "dicomcrypt-keytable-1", "table": "", "keys": [' + key + "]}"):
        with pytest.raises(UsageError, match="holds no keys"):
            openpgp.from_json(text.encode())
