"""States, presets, and what is read at most whatever a policy says."""

import pytest

from dicomcrypt import policy
from dicomcrypt.errors import PolicyError, UsageError
from dicomcrypt.policy import rules
from dicomcrypt.policy.rules import Policy, Rule


@pytest.mark.parametrize("name", policy.PRESETS)
def test_every_preset_names_every_algorithm_and_gives_its_sources(name):
    found = policy.preset(name)
    assert {algorithm for algorithm, _ in found} == set(rules.registry()["kinds"])
    assert all(rule.state in policy.STATES and rule.why for _, rule in found)
    assert found.note
    assert found.sources


@pytest.mark.parametrize("name", policy.PRESETS)
@pytest.mark.parametrize(("algorithm", "bits"), [
    ("sha1", None), ("3des", None), ("md5", None), ("rsa-oaep-sha256", 1024),
    ("rsa-oaep-sha256", 2047), ("rsa-pss-sha256", 2047), ("rsa-pkcs1v15-sha256", 1024),
    ("rsa-pkcs1v15", 4096), ("rsa-oaep-sha1", 4096),
])  # fmt: skip
def test_what_is_weak_is_at_most_read(name, algorithm, bits):
    found = policy.preset(name)
    assert found.state(algorithm, bits) in ("decrypt-only", "refused")
    for use in ("encrypt", "sign"):
        with pytest.raises(PolicyError):
            found.require(algorithm, use, bits)


def test_no_policy_lifts_the_ceiling():
    free = Policy("free", "test", {n: Rule("preferred") for n in ("sha1", "rsa-pss-sha256", "md5")},
                  "preferred")
    assert free.state("sha1") == "decrypt-only"
    assert free.state("rsa-pss-sha256", 2047) == "decrypt-only"
    assert free.state("rsa-pss-sha256", 1023) == "refused"
    assert free.state("rsa-pss-sha256", 2048) == "preferred"
    assert free.state("md5") == "refused"


@pytest.mark.parametrize(("name", "algorithm", "bits", "state"), [
    ("default", "x25519", None, "allowed"),
    ("default", "mlkem768-x25519", None, "preferred"),
    ("default", "rsa-oaep-sha256", 2048, "allowed"),
    ("default", "rsa-oaep-sha256", 1024, "decrypt-only"),
    ("default", "rsa-oaep-sha256", 512, "refused"),
    ("fips", "x25519", None, "refused"),
    ("fips", "mlkem768-x25519", None, "allowed"),
    ("fips", "argon2id", None, "decrypt-only"),
    ("fips", "3des", None, "decrypt-only"),
    ("fips", "rsa-oaep-sha256", 1024, "refused"),
    ("fips", "rsa-pss-sha256", 1024, "decrypt-only"),
    ("bsi", "rsa-oaep-sha256", 2048, "decrypt-only"),
    ("bsi", "rsa-oaep-sha256", 3000, "allowed"),
    ("bsi", "argon2id", None, "preferred"),
    ("bsi", "mlkem768", None, "decrypt-only"),
])  # fmt: skip
def test_states_of_the_presets(name, algorithm, bits, state):
    assert policy.preset(name).state(algorithm, bits) == state


def test_a_refusal_names_algorithm_state_origin_and_remedy():
    with pytest.raises(PolicyError) as caught:
        policy.preset("bsi").require("rsa-oaep-sha256", "encrypt", 2048)
    text = str(caught.value)
    assert caught.value.exit_status == 5
    for part in ("rsa-oaep-sha256 of 2048 bits", "decrypt-only", "'bsi' (shipped)", "3000 bits",
                 "use mlkem768-x25519"):
        assert part in text
    assert "\n" not in text


def test_reading_is_permitted_where_making_is_not_and_remarked():
    found = policy.preset("bsi")
    found.require("x25519", "decrypt")
    found.require("sha1", "verify")
    assert "only read" in found.remark("x25519")
    assert found.remark("argon2id") is None
    with pytest.raises(PolicyError):
        policy.preset("fips").require("x25519", "decrypt")


def test_a_size_that_is_not_told_is_not_enough_to_make_something():
    with pytest.raises(PolicyError, match="size is not told"):
        policy.preset("default").require("rsa-oaep-sha256", "encrypt")
    policy.preset("default").require("rsa-oaep-sha256", "decrypt")


def test_unknown_names():
    default, fips = policy.preset("default"), policy.preset("fips")
    default.require("a-plug-in", "encrypt")
    for found, use in ((default, "sign"), (default, "verify"), (fips, "encrypt"),
                       (fips, "decrypt")):
        with pytest.raises(PolicyError, match="does not name it"):
            found.require("a-plug-in", use)
    with pytest.raises(UsageError, match="no use"):
        default.permits("x25519", "look at")
    with pytest.raises(UsageError, match="presets are"):
        policy.preset("nsa")
