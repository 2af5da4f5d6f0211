"""Where the policy is asked."""

import pytest

import dicomcrypt as dc
from dicomcrypt import policy
from dicomcrypt.container.header import BatchKeyCache
from dicomcrypt.errors import PolicyError
from dicomcrypt.keys import HybridIdentity, Passphrase, X25519Identity
from dicomcrypt.policy.rules import Policy, Rule


@pytest.fixture
def force():
    yield policy.use
    policy.use(None)
    policy.listen(None)


QUICK = {"memory_kib": 64, "passes": 1, "lanes": 1}


def test_encryption_to_what_is_refused(force, tmp_path):
    old = X25519Identity.generate()
    force(policy.preset("fips"))
    for recipient in (old.recipient, Passphrase("a", **QUICK), Passphrase("a", kdf="scrypt")):
        with pytest.raises(PolicyError, match="not permitted to encrypt"):
            dc.encrypt(b"data", [recipient])
        with pytest.raises(PolicyError):
            dc.Batch([recipient])
    new = HybridIdentity.generate()
    assert dc.decrypt(dc.encrypt(b"data", [new.recipient]), [new]) == b"data"
    (tmp_path / "a").write_bytes(dc.encrypt(b"data", [new.recipient]))
    with pytest.raises(PolicyError):
        dc.rewrap(tmp_path / "a", [new], add=[old.recipient], allow_classical=True)
    assert dc.decrypt((tmp_path / "a").read_bytes(), [new]) == b"data"


def test_decryption_by_what_is_refused(force):
    old, new = X25519Identity.generate(), HybridIdentity.generate()
    blob = dc.encrypt(b"data", [old.recipient, new.recipient], allow_classical=True)
    force(policy.preset("fips"))
    with pytest.raises(PolicyError, match="x25519 is not permitted to decrypt"):
        dc.decrypt(blob, [old])
    assert dc.decrypt(blob, [old, new]) == b"data"  # another one that may
    assert dc.decrypt(blob, [new, old]) == b"data"


def test_each_kind_of_passphrase_is_judged_as_the_object_has_it(force):
    blob = dc.encrypt(b"data", [Passphrase("a", kdf="scrypt", log2_n=15)])
    force(Policy("p", "test", {"argon2id": Rule("allowed"), "scrypt": Rule("refused")}, "allowed"))
    with pytest.raises(PolicyError, match="scrypt is not permitted to decrypt"):
        dc.decrypt(blob, [Passphrase("a")])


def test_old_kinds_are_remarked_once(force):
    heard = []
    old = X25519Identity.generate()
    blobs = [dc.encrypt(b"data", [old.recipient]) for _ in range(3)]
    force(policy.preset("bsi"))
    policy.listen(heard.append)
    for blob in blobs:
        dc.decrypt(blob, [old])
    assert len(heard) == 1
    assert "x25519 is only read" in heard[0]


def test_a_batch_asks_once(force, monkeypatch):
    asked = []
    old = X25519Identity.generate()
    batch = dc.Batch([old.recipient])
    blobs = [batch.encrypt(b"%d" % n) for n in range(20)]
    from dicomcrypt.container import header

    permit = header.permit
    monkeypatch.setattr(header, "permit", lambda *who: (asked.append(who), permit(*who)))
    cache = BatchKeyCache()
    assert [dc.decrypt(blob, [old], cache=cache) for blob in blobs] == [b"%d" % n
                                                                        for n in range(20)]
    assert len(asked) == 1


def test_a_changed_policy_is_asked_again(force):
    old = X25519Identity.generate()
    blob = dc.encrypt(b"data", [old.recipient])
    assert dc.decrypt(blob, [old]) == b"data"
    force(policy.preset("fips"))
    with pytest.raises(PolicyError):
        dc.decrypt(blob, [old])
    force(policy.preset("default"))
    assert dc.decrypt(blob, [old]) == b"data"
