"""The envelope: who may stand beside whom, and what a batch shares."""

import itertools

import pytest

import dicomcrypt as dc
from dicomcrypt.container.layout import FLAG_MIXED_PASSPHRASE
from dicomcrypt.container.stanza import BATCH
from dicomcrypt.keys.batch import Envelope, check_recipients, scoped_recipients

HYBRID = dc.HybridIdentity.generate().recipient
CLASSICAL = dc.X25519Identity.generate().recipient
SECRET = dc.Passphrase("correct horse", memory_kib=64, passes=1, lanes=1)
OTHER = dc.Passphrase("battery", kdf="scrypt", log2_n=15)
both_ways = pytest.mark.parametrize("batch", [False, True], ids=["alone", "batch"])


@both_ways
def test_an_envelope_without_recipients_is_refused(batch):
    for scoped in ({}, scoped_recipients([]), scoped_recipients([], [], [])):
        with pytest.raises(dc.UsageError):
            Envelope(scoped, batch=batch)


@pytest.mark.parametrize(
    "scoped",
    [{1: [HYBRID, CLASSICAL]}, {1: [HYBRID], 2: [CLASSICAL]}, {2: [CLASSICAL], 3: [HYBRID]}],
    ids=["one scope", "two scopes", "partial scopes"],
)
def test_a_classical_recipient_beside_a_hybrid_one_must_be_allowed(scoped):
    with pytest.raises(dc.UsageError):
        check_recipients(scoped)
    assert check_recipients(scoped, allow_classical=True) == 0


@pytest.mark.parametrize("scoped", [{1: [SECRET, HYBRID]}, {1: [HYBRID], 2: [SECRET]}],
                         ids=["one scope", "two scopes"])  # fmt: skip
def test_a_passphrase_beside_a_recipient_must_be_allowed_and_sets_the_flag(scoped):
    with pytest.raises(dc.UsageError):
        check_recipients(scoped)
    assert check_recipients(scoped, allow_mixed=True) == FLAG_MIXED_PASSPHRASE
    keys, _, _ = Envelope(scoped, allow_mixed=True).new()
    assert keys.core[10:12] == b"\1\0"


def test_a_passphrase_alone_does_not_set_the_flag_though_it_would_be_allowed():
    for allow in (False, True):
        assert check_recipients({1: [SECRET]}, allow_mixed=allow) == 0


@pytest.mark.parametrize(
    "scoped",
    [{1: [SECRET, OTHER]}, {1: [SECRET], 2: [OTHER]}, {1: [SECRET, SECRET]}],
    ids=["two", "scopes", "twice"],
)
def test_two_passphrases_are_refused_even_if_mixing_is_allowed(scoped):
    with pytest.raises(dc.UsageError):
        check_recipients(scoped, allow_mixed=True)


@both_ways
@pytest.mark.parametrize("scopes", [(1,), (2,), (1, 2), (1, 2, 3)], ids=str)
def test_every_object_has_a_key_and_a_core_of_its_own(batch, scopes):
    envelope = Envelope({scope: [CLASSICAL] for scope in scopes}, batch=batch)
    made = [envelope.new() for _ in range(5)]
    assert len({keys.core for keys, _, _ in made}) == 5
    assert len({keys.scopes[1] for keys, _, _ in made}) == 5
    assert len({capacity for _, _, capacity in made}) == 1
    for (_, first, _), (_, second, _) in itertools.pairwise(made):
        shared = [s for s in first if s in second]
        assert len(shared) == (len(scopes) if batch else 0)
        assert all(s.scope == 4 for s in shared)
        assert sum(s.type == BATCH for s in first) == (len(scopes) if batch else 0)


def test_a_batch_wraps_each_scope_s_batch_key_under_its_own_id():
    _, stanzas, _ = Envelope({1: [CLASSICAL], 2: [HYBRID]}, batch=True, allow_classical=True).new()
    inner = {s.scope: s.body[:16] for s in stanzas if s.type == BATCH}
    assert set(inner) == {1, 2}
    assert inner[1] != inner[2]


def test_an_envelope_shows_no_key():
    envelope = Envelope({1: [CLASSICAL]}, batch=True)
    key, number = envelope._batch[1]
    assert key.hex() not in repr(envelope)
    assert repr(key) not in repr(envelope)
    assert number.hex() not in repr(envelope)


@both_ways
def test_partial_scopes_are_told(batch):
    assert not Envelope({1: [HYBRID]}, batch=batch).has_partial
    assert Envelope({1: [HYBRID], 3: [HYBRID]}, batch=batch).has_partial
    assert not Envelope({1: [HYBRID], 3: [HYBRID]}, batch=batch).partial_only
    assert Envelope({2: [HYBRID]}, batch=batch).partial_only


@both_ways
def test_a_passphrase_opens_what_a_batch_made(batch):
    blob = dc.Batch([SECRET], batch=batch).encrypt(b"plain")
    assert dc.decrypt(blob, [SECRET]) == b"plain"
    with pytest.raises(dc.NoIdentityError):
        dc.decrypt(blob, [OTHER])
