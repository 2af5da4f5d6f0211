"""Attribute certificates, who may do what, and the gate of services."""

import pathlib
import sys

import pytest
from certificates import DAY, NOW, fresh_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import CASES, chain

from dicomcrypt.errors import (
    CertificateRefusedError,
    DicomcryptError,
    MissingExtraError,
    UsageError,
)
from dicomcrypt.pki import attributes, rights
from dicomcrypt.pki.checking import Trust
from dicomcrypt.pki.gate import own_certificate_gate
from dicomcrypt.pki.names import Role
from dicomcrypt.pki.profiles import use_extensions


@pytest.fixture(autouse=True)
def extra(need_module):
    need_module("asn1crypto", "pki")


class Scene:
    """A chain with a holder, and an attribute authority below the same issuer."""

    def __init__(self, *, uses=True, kind="p256", **options) -> None:
        self.root, self.issuer = chain()
        self.key = fresh_key(kind)
        extra = use_extensions(self.key.public_key(), [], attributes=True) if uses else ()
        options = {"begin": -60 * DAY, **options}
        self.authority = self.issuer.leaf("Attributes", uses=(), key=self.key, extra=extra,
                                          **options)
        self.holder = self.issuer.leaf(uses=["both"], role="patient").certificate

    def trust(self, *crls, **options) -> Trust:
        between = (self.issuer.certificate, self.authority.certificate)
        return Trust((self.root.certificate,), between, crls, **options)

    def issue(self, **options):
        options = {"serial": 77, "roles": ["physician"], **options}
        holder = options.pop("holder", self.holder)
        return attributes.issue(holder, self.authority.certificate, self.key, **options)


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa-2048", "ml-dsa-65"])
def test_an_attribute_certificate_comes_back_and_is_taken(kind, tmp_path):
    scene = Scene(kind=kind)
    made = scene.issue(roles=["physician", "hospital"], permissions=["dispense"], begin=NOW)
    for data in (made.der, made.pem()):
        (tmp_path / "it").write_bytes(data)
        again = attributes.load(str(tmp_path / "it"))
        assert again == made
    assert (made.roles, made.permissions) == (("hospital", "physician"), ("dispense",))
    assert made.begin == NOW
    assert made.end == scene.holder.not_valid_after_utc  # never longer than the holder's
    assert attributes.check(made, scene.holder, scene.trust()).certificate == \
        scene.authority.certificate


def refusal(reason):
    """Return a scene's attribute certificate that is refused for a reason."""
    scene = Scene()
    if reason == "holder":
        return scene, scene.issue(holder=scene.issuer.leaf("Berta").certificate), scene.trust()
    if reason == "expired":
        return scene, scene.issue(begin=NOW - 9 * DAY, end=NOW - DAY), scene.trust()
    if reason == "not-yet-valid":
        return scene, scene.issue(begin=NOW + DAY), scene.trust()
    if reason == "wrong-issuer":
        return scene, scene.issue(), Trust(scene.trust().roots, (scene.issuer.certificate,))
    if reason == "bad-signature":
        der = bytearray(scene.issue().der)
        der[-5] ^= 1
        return scene, attributes.parse(bytes(der)), scene.trust()
    if reason == "revoked":
        return scene, scene.issue(), scene.trust(scene.authority.crl(77))
    if reason == "no-crl":
        crls = scene.root.crl(), scene.issuer.crl()
        return scene, scene.issue(), scene.trust(*crls, require_crl=True)
    if reason == "not-an-attribute-authority":
        scene = Scene(uses=False)
        return scene, scene.issue(), scene.trust()
    if reason == "unknown-critical-extension":
        made = scene.issue()
        # The identifier of targeting information in the place of an extension, and critical.
        from asn1crypto import cms

        whole = cms.AttributeCertificateV2.load(made.der)
        info = whole["ac_info"]
        info["extensions"].append({"extn_id": "2.5.29.55", "critical": True,
                                   "extn_value": b"\x30\x00"})
        from dicomcrypt.pki.signatures import sign

        whole["ac_info"] = info
        whole["signature"] = sign(scene.key, info.dump(force=True))[1]
        return scene, attributes.parse(whole.dump(force=True)), scene.trust()
    raise AssertionError(reason)


@pytest.mark.parametrize("reason", [
    "holder", "expired", "not-yet-valid", "wrong-issuer", "bad-signature", "revoked", "no-crl",
    "not-an-attribute-authority", "unknown-critical-extension",
])  # fmt: skip
def test_an_attribute_certificate_is_refused_for_its_reason(reason):
    scene, made, trust = refusal(reason)
    with pytest.raises(CertificateRefusedError) as caught:
        attributes.check(made, scene.holder, trust)
    assert caught.value.reason == reason, caught.value
    # and adds no right
    decision = rights.may(scene.holder, "prescribe", trust=trust, attribute_certificates=[made])
    assert not decision


def test_an_attribute_certificate_of_a_revoked_authority_is_refused():
    scene = Scene()
    trust = scene.trust(scene.issuer.crl(scene.authority))
    with pytest.raises(CertificateRefusedError, match="was revoked"):
        attributes.check(scene.issue(), scene.holder, trust)


def test_a_certification_authority_issues_no_attributes():
    """RFC 5755, 4.5: its serials and lists would be mistaken for those of certificates."""
    scene = Scene()
    made = attributes.issue(scene.holder, scene.issuer.certificate, scene.issuer.key, serial=5,
                            roles=["physician"])
    with pytest.raises(CertificateRefusedError) as caught:
        attributes.check(made, scene.holder, scene.trust())
    assert caught.value.reason == "not-an-attribute-authority"


def test_what_no_attribute_certificate_can_say(scene):
    for options in ({"roles": ["king"]}, {"roles": [], "permissions": ["rule"]}, {"roles": []},
                    {"begin": NOW, "end": NOW - DAY}):
        with pytest.raises(UsageError):
            scene.issue(**options)


@pytest.fixture(scope="module")
def made(scene):
    return scene.issue(permissions=["dispense"]).der


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
def test_no_mutation_of_an_attribute_certificate_is_taken_or_crashes(data, scene, made):
    der = bytearray(made)
    at = data.draw(st.integers(0, len(der) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert"])):
        case "flip":
            der[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del der[at:]
        case "insert":
            der[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    if bytes(der) == made:
        return
    try:
        attributes.check(attributes.parse(bytes(der)), scene.holder, scene.trust())
    except DicomcryptError:
        return
    pytest.fail("an altered attribute certificate was taken")


# ---- who may do what ---------------------------------------------------------


@pytest.mark.parametrize("action", rights.ACTIONS)
@pytest.mark.parametrize("role", [*Role, None])
def test_the_table_of_rights(role, action):
    _, issuer = chain()
    leaf = issuer.leaf(uses=["both", "tls-server"], role=role)
    decision = rights.may(leaf.certificate, action, trust=leaf.trust())
    expected = {
        "encrypt-to": True, "decrypt": True, "sign": True, "issue": False,
        "prescribe": role is Role.PHYSICIAN, "dispense": role is Role.PHARMACIST,
        "serve": role in (Role.HOSPITAL, Role.APPLICATION, None),
    }[action]  # fmt: skip
    assert decision.allowed is bool(decision) is expected, decision.sentence
    if not expected:
        with pytest.raises(CertificateRefusedError):
            rights.require(leaf.certificate, action, trust=leaf.trust())


def test_authorities_alone_may_issue():
    root, issuer = chain()
    assert rights.require(issuer.certificate, "issue", trust=root.trust())


def test_attribute_certificates_add_rights(scene):
    holder, trust = scene.holder, scene.trust()
    assert not rights.may(holder, "prescribe", trust=trust)
    for options in ({"roles": ["physician"]}, {"roles": [], "permissions": ["prescribe"]}):
        made = scene.issue(**options)
        assert rights.may(holder, "prescribe", trust=trust, attribute_certificates=[made])
        assert not rights.may(holder, "dispense", trust=trust, attribute_certificates=[made])
    later = NOW + 300 * DAY
    assert rights.may(holder, "prescribe", trust=trust, attribute_certificates=[scene.issue()],
                      moment=later)
    assert not rights.may(holder, "prescribe", trust=trust, moment=NOW + 100 * DAY,
                          attribute_certificates=[scene.issue(end=NOW + DAY)])


def test_no_right_without_a_good_certificate(scene):
    made = scene.issue(permissions=["prescribe"])
    decision = rights.may(scene.holder, "prescribe", trust=chain()[0].trust(),
                          attribute_certificates=[made])
    assert (decision.allowed, decision.reason) == (False, "wrong-issuer")
    with pytest.raises(UsageError, match="no action"):
        rights.may(scene.holder, "rule", trust=scene.trust())


# ---- the gate ----------------------------------------------------------------


def test_the_gate_lets_good_certificates_through(tmp_path):
    leaf = chain()[1].leaf(uses=["tls-server"])
    trust = leaf.above[1].trust()
    path = tmp_path / "own.pem"
    path.write_bytes(leaf.key_pem() + leaf.pem() + leaf.above[0].pem())
    checked = own_certificate_gate(path, leaf.key, trust=trust, purpose="tls-server")
    assert checked.certificate == leaf.certificate
    own_certificate_gate(leaf.certificate, trust=leaf.trust(), purpose="tls-server")


def test_the_gate_stops_a_key_of_another_certificate():
    leaf = chain()[1].leaf(uses=["tls-server"])
    with pytest.raises(CertificateRefusedError) as caught:
        own_certificate_gate(leaf.certificate, fresh_key(), trust=leaf.trust(),
                             purpose="tls-server")
    assert (caught.value.reason, caught.value.exit_status) == ("key", 5)


@pytest.mark.parametrize("name", ["expired", "revoked", "not yet valid", "altered signature",
                                  "of an authority nobody knows"])
def test_the_gate_stops_invalid_certificates(name):
    certificate, trust, _ = CASES[name].make()
    with pytest.raises(CertificateRefusedError, match="not started: own certificate") as caught:
        own_certificate_gate(certificate, trust=trust, purpose="any")
    assert caught.value.reason == CASES[name].reason



def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "asn1crypto", None)
    with pytest.raises(MissingExtraError, match=r"dicomcrypt\[pki\]"):
        attributes.parse(b"\x30\x00")


def test_the_page_names_every_reason_and_right():
    page = (pathlib.Path(__file__).parents[3] / "docs" / "pki.md").read_text()
    for case in CASES.values():
        assert f"`{case.reason}`" in page, case.reason
    for role, allowed in rights.RIGHTS.items():
        row = next(line for line in page.splitlines() if line.startswith("| ")
                   and (str(role) if role else "no role") in line.split("|")[1])
        cells = dict(zip(rights.ACTIONS, row.split("|")[2:-1], strict=True))
        order = ["encrypt-to", "decrypt", "sign", "prescribe", "dispense", "serve", "issue"]
        assert list(cells) == order
        assert {action for action, cell in cells.items() if "yes" in cell} == allowed, role
