"""Signed policies: taken, forged, rolled back, unsigned, damaged."""

import copy
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from dicomcrypt import policy
from dicomcrypt.errors import DamagedError, NoIdentityError, PolicyError, UsageError
from dicomcrypt.policy import document as documents
from dicomcrypt.policy import signing, source, store

BASE = {"dcmx-policy": 1, "name": "hospital", "issuer": "Security officer", "sequence": 3,
        "valid-from": "2026-01-01T00:00:00Z", "base": "bsi",
        "algorithms": {"x25519": {"state": "refused"}, "rsa-oaep-sha256": {"min-bits": 4096}}}


def made(**change):
    return documents.parse(json.dumps({**BASE, **change}).encode())


@pytest.fixture(scope="module")
def officer():
    return signing.Signer(ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def kept(tmp_path):
    return store.FileStore(tmp_path / "policy.json")


def put(kept, signer, document, **options):
    return store.install(kept, document, signer.sign(document.signed()), signer.verifier, **options)


@pytest.fixture(scope="module", params=["ed25519", "p256", "p384", "rsa", "ml-dsa-65"])
def key(request):
    return {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    }[request.param]()


def test_every_kind_of_key_signs_a_policy_and_no_changed_one_passes(key, kept):
    signer = signing.Signer(key)
    put(kept, signer, made(), trust_signer=True)
    found = store.load(kept)
    assert found.policy("here").state("x25519") == "refused"
    assert found.signer.key_id == signer.key_id
    document, signature = made(sequence=4), signer.sign(made(sequence=4).signed())
    with pytest.raises(DamagedError, match="signature"):
        store.install(kept, made(sequence=5), signature, signer.verifier)
    for at in range(0, len(signature), max(1, len(signature) // 20)):
        bad = bytearray(signature)
        bad[at] ^= 1
        with pytest.raises(DamagedError, match="signature"):
            store.install(kept, document, bytes(bad), signer.verifier)
    for bad in (b"", signature[:-1]):
        with pytest.raises(DamagedError, match="signature"):
            store.install(kept, document, bad, signer.verifier)


def test_a_policy_changes_its_preset_and_nothing_else(officer, kept):
    put(kept, officer, made(), trust_signer=True)
    found, bsi = store.load(kept).policy("here"), policy.preset("bsi")
    assert found.state("rsa-oaep-sha256", 3072) == "decrypt-only"
    assert found.state("rsa-oaep-sha256", 4096) == "allowed"
    for name, _ in bsi:
        if name not in BASE["algorithms"]:
            assert found.state(name, 2048) == bsi.state(name, 2048)


def test_the_first_signer_must_be_trusted_and_then_no_other_is(officer, kept):
    with pytest.raises(PolicyError, match="--trust-signer"):
        put(kept, officer, made())
    put(kept, officer, made(), trust_signer=True)
    other = signing.Signer(ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(PolicyError, match="not trusted"):
        put(kept, other, made(sequence=9), trust_signer=True)


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_policy_is_not_rolled_back(officer, kept, sequence):
    put(kept, officer, made(), trust_signer=True)
    with pytest.raises(PolicyError, match="not taken back"):
        put(kept, officer, made(sequence=sequence))
    put(kept, officer, made(sequence=4))
    assert store.load(kept).document.sequence == 4


def test_signers_hand_over_in_two_steps(officer, kept):
    other = signing.Signer(ed25519.Ed25519PrivateKey.generate())
    put(kept, officer, made(), trust_signer=True)
    with pytest.raises(PolicyError, match="its own signer"):
        put(kept, officer, made(sequence=4, signers=[other.key_id]))
    put(kept, officer, made(sequence=4, signers=[officer.key_id, other.key_id]))
    put(kept, other, made(sequence=5, signers=[other.key_id]))
    with pytest.raises(PolicyError, match="not trusted"):
        put(kept, officer, made(sequence=6))


def test_not_before_its_time(officer, kept):
    with pytest.raises(PolicyError, match="not valid before 2999"):
        put(kept, officer, made(**{"valid-from": "2999-01-01T00:00:00Z"}), trust_signer=True)


def test_every_changed_byte_of_the_store_is_noticed(officer, kept):
    put(kept, officer, made(), trust_signer=True)
    whole = kept.path.read_bytes()
    for at in range(len(whole) - 1):  # the last byte ends the line
        for bit in (1 << at % 7,):
            changed = bytearray(whole)
            changed[at] ^= bit
            kept.path.write_bytes(changed)
            try:
                found = store.load(kept)
            except (DamagedError, PolicyError):
                continue
            assert found.document.data == BASE  # a letter of base64's tail, and no more


@pytest.mark.parametrize("change", [
    lambda d: d.pop("signature"), lambda d: d.update(signature=""), lambda d: d.update(key=""),
    lambda d: d.update(more=1), lambda d: d.update(document=[]), lambda d: d.update(signers=7),
    lambda d: d.update(signers=[]), lambda d: d["document"].update(base="default"),
    lambda d: d["document"].update(sequence=99), lambda d: d["document"].pop("algorithms"),
])  # fmt: skip
def test_a_changed_store_fails_closed(officer, kept, change):
    put(kept, officer, made(), trust_signer=True)
    data = json.loads(kept.path.read_bytes())
    change(data)
    kept.path.write_text(json.dumps(data))
    with pytest.raises((DamagedError, PolicyError)):
        store.load(kept)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"{}",
                                  b" " * (1 << 20), b'{"a":1,"a":1}'])
def test_garbage_in_the_store(kept, data):
    kept.path.write_bytes(data)
    with pytest.raises(DamagedError):
        store.load(kept)


def test_the_store_is_the_owner_s(officer, kept):
    put(kept, officer, made(), trust_signer=True)
    assert kept.path.stat().st_mode & 0o777 == 0o600
    kept.path.chmod(0o620)
    with pytest.raises(PolicyError, match="written by others"):
        store.load(kept)


def test_any_store_with_two_methods_will_do(officer):
    class Table:
        def __init__(self):
            self.kept = {}

        def get_document(self, name):
            return self.kept.get(name)

        def put_document(self, name, data):
            self.kept[name] = data

    table = Table()
    put(table, officer, made(), trust_signer=True)
    assert store.load(table).document.sequence == 3


@pytest.mark.parametrize("change", [
    {"dcmx-policy": 2}, {"dcmx-policy": True}, {"name": "fips"}, {"name": "A b"}, {"issuer": ""},
    {"issuer": "a\nb"}, {"sequence": 0}, {"sequence": True}, {"sequence": "3"},
    {"sequence": 1 << 60}, {"valid-from": "2026"}, {"valid-from": 3}, {"base": "none"},
    {"other": "maybe"}, {"unknown": 1}, {"algorithms": []}, {"algorithms": {"UP": {}}},
    {"algorithms": {"x25519": {}}}, {"algorithms": {"x25519": {"state": "fine"}}},
    {"algorithms": {"x25519": {"sate": "allowed"}}}, {"algorithms": {"new": {"min-bits": 1}}},
    {"algorithms": {"x25519": {"min-bits": 0}}}, {"algorithms": {"x25519": {"min-bits": True}}},
    {"signers": []}, {"signers": ["a"]}, {"signers": "a"},
])  # fmt: skip
def test_a_document_with_an_odd_field_is_refused(change):
    with pytest.raises(UsageError):
        made(**change)


@pytest.mark.parametrize("field", ["name", "issuer", "sequence", "valid-from", "base"])
def test_a_document_without_a_field_is_refused(field):
    data = copy.deepcopy(BASE)
    del data[field]
    with pytest.raises(UsageError, match=field):
        documents.parse(json.dumps(data).encode())


@pytest.mark.parametrize("rules", [
    {"sha1": {"state": "allowed"}}, {"3des": {"state": "preferred"}}, {"md5": {"state": "allowed"}},
    {"rsa-oaep-sha256": {"min-bits": 1024}},
    {"rsa-pss-sha256": {"min-bits": 4096, "below": "allowed"}},
    {"rsa-pkcs1v15": {"state": "allowed"}},
])  # fmt: skip
def test_a_document_that_lifts_the_ceiling_is_refused(rules):
    with pytest.raises(PolicyError, match="read at most"):
        made(algorithms=rules)


@pytest.mark.parametrize("text", ['{"a": 1.5}', '{"a": NaN}', '{"a": 1, "a": 2}', "[]", "{",
                                  '{"a": 99999999999999999999999}'])
def test_odd_json_is_refused(text):
    with pytest.raises(UsageError):
        documents.parse(text.encode())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from([*BASE, "other", "signers", "x"]), inner,
                                      max_size=5), max_leaves=12))
def test_whatever_json_there_is_nothing_but_the_two_errors_come(data):
    for found in (data, {**BASE, "algorithms": data}, {**BASE, "signers": data},
                  {**BASE, "name": data}, {**BASE, "dcmx-policy": data}, {**BASE, "base": data}):
        try:
            documents.parse(json.dumps(found).encode())
        except (UsageError, PolicyError):
            pass


def test_keys_that_sign_nothing_here(tmp_path, officer):
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    with pytest.raises(UsageError, match="1024 bits"):
        signing.Signer(weak)
    with pytest.raises(UsageError, match="signs nothing"):
        signing.algorithm_of(x25519.X25519PrivateKey.generate().public_key())
    with pytest.raises(UsageError, match="signs nothing"):
        signing.algorithm_of(ec.generate_private_key(ec.SECP256K1()).public_key())
    path = tmp_path / "k"
    for data in (b"", b"x", b"-----BEGIN PUBLIC KEY-----\n", b"\0" * 100):
        path.write_bytes(data)
        with pytest.raises(UsageError, match="k'"):
            signing.load_verifier(path)
        with pytest.raises(UsageError, match="k'"):
            signing.load_signer(path)
    with pytest.raises(UsageError, match="cannot read"):
        signing.load_signer(tmp_path / "none")


def test_key_files(tmp_path, officer):
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "k"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8,
                                       BestAvailableEncryption(b"secret")))
    assert signing.load_signer(path, "secret").key_id == signing.Signer(key).key_id
    with pytest.raises(NoIdentityError, match="passphrase is wrong"):
        signing.load_signer(path, "wrong")
    with pytest.raises(UsageError, match="give its passphrase"):
        signing.load_signer(path)
    with pytest.raises(UsageError, match="private key"):
        signing.load_verifier(path)
    public = key.public_key().public_bytes
    for encoding in (Encoding.PEM, Encoding.DER):
        path.write_bytes(public(encoding, PublicFormat.SubjectPublicKeyInfo))
        assert signing.load_verifier(path).key_id == signing.Signer(key).key_id


# ---- which one is in force ---------------------------------------------------


@pytest.fixture
def configured(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text("")
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(path))
    yield path
    policy.use(None)


def test_the_order(configured, officer):
    assert policy.current().name == "default"
    configured.write_text('[policy]\npreset = "fips"\n')
    assert policy.current().name == "fips"
    kept = store.FileStore(source.store_path())
    put(kept, officer, made(), trust_signer=True)
    assert policy.current().name == "hospital"
    put(kept, officer, made(sequence=4, algorithms={}))
    assert policy.current().state("x25519") == "decrypt-only"
    policy.use(policy.preset("bsi"))
    assert policy.current().name == "bsi"
    policy.use(None)
    assert policy.current().name == "hospital"
    assert policy.current() is policy.current()


def test_a_named_file(configured, officer, tmp_path):
    configured.write_text('[policy]\nfile = "sub/hospital.json"\n')
    with pytest.raises(PolicyError, match="is not there"):
        policy.current()
    put(store.FileStore(tmp_path / "sub/hospital.json"), officer, made(), trust_signer=True)
    assert policy.current().name == "hospital"


def test_a_demanded_signer_must_be_there_and_be_the_one(configured, officer, tmp_path):
    configured.write_text(f'[policy]\nsigner = "{officer.key_id}"\n')
    with pytest.raises(PolicyError, match="is not there"):
        policy.current()
    kept = store.FileStore(tmp_path / "policy.json")
    put(kept, officer, made(), only=source.demanded_signers())
    assert policy.current().name == "hospital"
    other = signing.Signer(ed25519.Ed25519PrivateKey.generate())
    os.unlink(kept.path)
    with pytest.raises(PolicyError, match="another signer"):
        put(kept, other, made(), trust_signer=True, only=source.demanded_signers())
    put(kept, other, made(), trust_signer=True)
    with pytest.raises(PolicyError, match="another signer"):
        policy.current()


@pytest.mark.parametrize("text", ['preset = "x"', "preset = 3", 'pre = "bsi"', 'signer = "ab"'])
def test_odd_configurations(configured, text):
    configured.write_text(f"[policy]\n{text}\n")
    with pytest.raises(UsageError):
        policy.current()


def test_a_damaged_policy_is_no_way_to_a_weaker_one(configured, tmp_path):
    (tmp_path / "policy.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(DamagedError):
            policy.current()
