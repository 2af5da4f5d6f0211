"""A signed policy that is kept in a key table's database."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from dicomcrypt.errors import DamagedError, PolicyError
from dicomcrypt.keys import HybridIdentity
from dicomcrypt.keytable import KeyTable
from dicomcrypt.policy import document, signing, store


def made(sequence):
    return document.parse(json.dumps({
        "dcmx-policy": 1, "name": "hospital", "issuer": "Security officer", "sequence": sequence,
        "valid-from": "2026-01-01T00:00:00Z", "base": "bsi",
        "algorithms": {"x25519": {"state": "refused"}},
    }).encode())  # fmt: skip


def test_it_is_taken_kept_and_never_rolled_back(tmp_path):
    officer = signing.Signer(ed25519.Ed25519PrivateKey.generate())
    identity, path = HybridIdentity.generate(), str(tmp_path / "keys.db")

    def install(table, sequence, **options):
        policy = made(sequence)
        store.install(table, policy, officer.sign(policy.signed()), officer.verifier, **options)

    with KeyTable.create(path, {"service": identity.recipient}) as table:
        assert store.load(table) is None
        install(table, 3, trust_signer=True)
    with KeyTable(path).unlock(identities=[identity]) as table:
        assert store.load(table).policy("table").state("x25519") == "refused"
        with pytest.raises(PolicyError, match="older policy is not taken back"):
            install(table, 2)
        install(table, 4)
        kept = json.loads(table.get_document("policy"))
        kept["document"]["algorithms"]["x25519"]["state"] = "preferred"
        table.put_document("policy", json.dumps(kept).encode())
        with pytest.raises(DamagedError, match="signature of policy 'hospital' is wrong"):
            store.load(table)
