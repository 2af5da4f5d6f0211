"""Every reason to refuse a certificate, made by a real one: the table of docs/pki.md.

CASES: name -> Case. `make` returns what `check_certificate` gets: certificate, trust, options.
`openssl`: what `openssl verify` says of the same files; None where it cannot judge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from certificates import DAY, NOW, Maker, altered, fresh_key, hashes, unknown_extension
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from dicomcrypt.pki.checking import Trust


@dataclass(frozen=True)
class Case:
    reason: str
    make: Callable[[], tuple]
    openssl: bool | None = None


CASES: dict[str, Case] = {}


def case(reason: str, openssl: bool | None = None):
    def add(make: Callable[[], Any]):
        CASES[make.__name__.replace("_", " ")] = Case(reason, make, openssl)
        return make

    return add


def chain(**options) -> tuple[Maker, Maker]:
    root = Maker.root("Root of the tests", begin=-60 * DAY)
    options = {"begin": -60 * DAY, **options}
    return root, root.authority("Issuer of the tests", **options)


def with_crl(**options) -> tuple:
    _, issuer = chain()
    leaf = issuer.leaf()
    return leaf.certificate, leaf.trust(issuer.crl(**options)), {}


# ---- issuers and signatures --------------------------------------------------


@case("wrong-issuer", openssl=False)
def of_an_authority_nobody_knows():
    return chain()[1].leaf().certificate, chain()[0].trust(), {}


@case("wrong-issuer", openssl=False)
def without_the_certificate_between():
    root, issuer = chain()
    return issuer.leaf().certificate, root.trust(), {}


@case("wrong-issuer", openssl=False)
def of_an_authority_of_the_same_name():
    return chain()[1].leaf().certificate, chain()[1].trust(), {}


@case("wrong-issuer", openssl=False)
def signed_by_itself():
    return Maker.root("Stranger").certificate, chain()[0].trust(), {}


@case("bad-signature", openssl=False)
def altered_signature():
    leaf = chain()[1].leaf()
    return altered(leaf.certificate), leaf.trust(), {}


@case("bad-signature", openssl=False)
def altered_signature_of_the_issuer():
    root, issuer = chain()
    between = altered(issuer.certificate)
    return issuer.leaf().certificate, Trust((root.certificate,), (between,)), {}


@case("algorithm")
def signed_with_sha_224():
    root = Maker.root(kind="rsa-2048")
    leaf = root.leaf(algorithm=hashes.SHA224())
    return leaf.certificate, leaf.trust(), {}


@case("algorithm", openssl=True)
def signed_with_ed25519():
    leaf = Maker.root(kind="ed25519").leaf()
    return leaf.certificate, leaf.trust(), {}


@case("weak-key")
def key_of_1024_bits():
    leaf = chain()[1].leaf(kind="rsa-1024")
    return leaf.certificate, leaf.trust(), {}


@case("weak-key")
def authority_s_key_of_1024_bits():
    leaf = Maker.root(kind="rsa-1024").leaf()
    return leaf.certificate, leaf.trust(), {}


@case("weak-key")
def key_on_another_curve():
    leaf = chain()[1].leaf(kind="brainpool")
    return leaf.certificate, leaf.trust(), {}


# ---- dates -------------------------------------------------------------------


@case("expired", openssl=False)
def expired():
    leaf = chain()[1].leaf(begin=-30 * DAY, end=-DAY)
    return leaf.certificate, leaf.trust(), {}


@case("not-yet-valid", openssl=False)
def not_yet_valid():
    leaf = chain()[1].leaf(begin=DAY)
    return leaf.certificate, leaf.trust(), {}


@case("expired", openssl=False)
def issuer_expired():
    leaf = chain(begin=-30 * DAY, end=-DAY)[1].leaf()
    return leaf.certificate, leaf.trust(), {}


@case("expired", openssl=False)
def root_expired():
    root = Maker.root(begin=-30 * DAY, end=-DAY)
    leaf = root.authority().leaf()
    return leaf.certificate, leaf.trust(), {}


@case("expired")
def valid_now_but_not_then():
    leaf = chain()[1].leaf()
    return leaf.certificate, leaf.trust(), {"moment": NOW + 4000 * DAY}


# ---- revocation --------------------------------------------------------------


@case("revoked", openssl=False)
def revoked():
    _, issuer = chain()
    leaf = issuer.leaf()
    return leaf.certificate, leaf.trust(issuer.crl((leaf, x509.ReasonFlags.superseded, -DAY))), {}


@case("revoked", openssl=False)
def on_hold():
    _, issuer = chain()
    leaf = issuer.leaf()
    entry = (leaf, x509.ReasonFlags.certificate_hold, -DAY)
    return leaf.certificate, leaf.trust(issuer.crl(entry)), {}


@case("revoked")
def issuer_revoked():
    root, issuer = chain()
    leaf = issuer.leaf()
    return leaf.certificate, leaf.trust(root.crl(issuer), issuer.crl()), {}


@case("revoked")
def revoked_by_a_list_that_expired():
    _, issuer = chain()
    leaf = issuer.leaf()
    crl = issuer.crl(leaf, begin=-30 * DAY, end=-DAY)
    return leaf.certificate, leaf.trust(crl), {}


@case("revoked")
def key_stolen_after_the_moment_asked_for():
    _, issuer = chain()
    leaf = issuer.leaf(begin=-30 * DAY)
    crl = issuer.crl((leaf, x509.ReasonFlags.key_compromise, -DAY))
    return leaf.certificate, leaf.trust(crl), {"moment": NOW - 10 * DAY}


@case("no-crl")
def without_a_list_where_one_is_required():
    leaf = chain()[1].leaf()
    return leaf.certificate, leaf.trust(require_crl=True), {}


@case("crl-expired", openssl=False)
def list_expired():
    return with_crl(begin=-30 * DAY, end=-DAY)


@case("crl-not-yet-valid", openssl=False)
def list_from_the_future():
    return with_crl(begin=DAY)


@case("crl-signature", openssl=False)
def list_signed_by_another_key():
    return with_crl(signer=fresh_key())


@case("crl-signature")
def list_of_an_issuer_that_may_not_sign_lists():
    root = Maker.root()
    issuer = root.authority(usage=False, extra=[(_cert_sign_only(), True)])
    leaf = issuer.leaf()
    return leaf.certificate, leaf.trust(issuer.crl()), {}


def _cert_sign_only():
    from dicomcrypt.pki.profiles import key_usage

    return key_usage(key_cert_sign=True)


@case("crl-unsupported", openssl=False)
def list_with_an_unknown_critical_extension():
    return with_crl(extensions=[(unknown_extension(), True)])


@case("crl-unsupported")
def list_of_changes_alone():
    return with_crl(extensions=[(x509.DeltaCRLIndicator(1), True)])


def _scope(**options):
    defaults = {"full_name": None, "relative_name": None, "only_contains_user_certs": False,
                "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
                "only_contains_attribute_certs": False}
    return x509.IssuingDistributionPoint(**{**defaults, **options})


@case("crl-unsupported")
def list_that_speaks_for_others():
    return with_crl(extensions=[(_scope(indirect_crl=True), True)])


@case("crl-unsupported")
def list_with_some_reasons_only():
    reasons = frozenset([x509.ReasonFlags.key_compromise])
    return with_crl(extensions=[(_scope(only_some_reasons=reasons), True)])


@case("crl-unsupported")
def list_with_an_entry_that_is_not_understood():
    _, issuer = chain()
    leaf = issuer.leaf()
    crl = issuer.crl((77, unknown_extension(), -DAY))
    return leaf.certificate, leaf.trust(crl), {}


@case("no-crl")
def list_for_authorities_alone():
    certificate, trust, _ = with_crl(extensions=[(_scope(only_contains_ca_certs=True), True)])
    return certificate, Trust(trust.roots, trust.intermediates, trust.crls, True), {}


# ---- extensions, authorities, lengths ----------------------------------------


@case("unknown-critical-extension", openssl=False)
def unknown_critical_extension():
    leaf = chain()[1].leaf(extra=[(unknown_extension(), True)])
    return leaf.certificate, leaf.trust(), {}


@case("unknown-critical-extension", openssl=False)
def unknown_critical_extension_of_the_issuer():
    leaf = chain(extra=[(unknown_extension(), True)])[1].leaf()
    return leaf.certificate, leaf.trust(), {}


@case("not-a-ca", openssl=False)
def issued_by_a_holder():
    leaf = chain()[1].leaf("Holder").leaf("Friend")
    return leaf.certificate, leaf.trust(), {}


@case("not-a-ca", openssl=False)
def issuer_that_may_not_sign_certificates():
    leaf = chain(usage="lists")[1].leaf()
    return leaf.certificate, leaf.trust(), {}


@case("not-a-ca", openssl=False)
def issuer_without_basic_constraints():
    leaf = chain(basic=False)[1].leaf()
    return leaf.certificate, leaf.trust(), {}


@case("chain-too-long", openssl=False)
def more_authorities_than_one_allows():
    leaf = chain(path_length=0)[1].authority("Below").leaf()
    return leaf.certificate, leaf.trust(), {}


@case("chain-too-long")
def nine_authorities():
    maker = Maker.root()
    for number in range(9):
        maker = maker.authority(f"Authority {number}")
    leaf = maker.leaf()
    return leaf.certificate, leaf.trust(), {}


@case("chain-too-long")
def a_hundred_certificates_with_it():
    root, issuer = chain()
    return issuer.leaf().certificate, root.trust(), {"intermediates": [issuer.certificate] * 100}


@case("wrong-issuer", openssl=False)
def authorities_that_vouch_for_each_other():
    first = Maker.root("First")
    second = Maker.root("Second")
    crossed = [second.authority("First", key=first.key), first.authority("Second", key=second.key)]
    leaf = first.leaf()
    pool = tuple(m.certificate for m in crossed)
    return leaf.certificate, Trust(chain()[0].trust().roots, pool), {}


@case("name-constraints", openssl=False)
def address_that_the_issuer_may_not_vouch_for():
    limits = x509.NameConstraints([x509.RFC822Name("klinikum.example")], None)
    leaf = chain(extra=[(limits, True)])[1].leaf(email="anna@elsewhere.example")
    return leaf.certificate, leaf.trust(), {}


@case("name-constraints", openssl=False)
def network_that_the_issuer_may_not_vouch_for():
    limits = x509.NameConstraints([x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))], None)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("11.0.0.1"))])
    leaf = chain(extra=[(limits, True)])[1].leaf(uses=["tls-server"], extra=[(names, False)])
    return leaf.certificate, leaf.trust(), {}


# ---- usage and role ----------------------------------------------------------


@case("usage")
def for_signatures_where_encryption_is_meant():
    leaf = chain()[1].leaf(uses=["signing"])
    return leaf.certificate, leaf.trust(), {"purpose": "encrypt"}


@case("usage")
def for_encryption_where_signatures_are_meant():
    leaf = chain()[1].leaf(uses=["encryption"])
    return leaf.certificate, leaf.trust(), {"purpose": "sign"}


@case("usage")
def of_a_kind_of_key_that_cannot_sign():
    leaf = chain()[1].leaf(uses=(), kind="x25519")
    return leaf.certificate, leaf.trust(), {"purpose": "verify-signature"}


@case("usage")
def of_a_kind_of_key_that_cannot_be_encrypted_to():
    leaf = chain()[1].leaf(uses=(), kind="ml-dsa-65")
    return leaf.certificate, leaf.trust(), {"purpose": "encrypt"}


@case("usage")
def of_a_tls_client_where_a_server_is_meant():
    leaf = chain()[1].leaf(uses=["tls-client"])
    return leaf.certificate, leaf.trust(), {"purpose": "tls-server"}


@case("usage")
def of_a_tls_server_where_encryption_is_meant():
    leaf = chain()[1].leaf(uses=["tls-server"])
    return leaf.certificate, leaf.trust(), {"purpose": "encrypt"}


@case("usage")
def of_an_authority_where_encryption_is_meant():
    root, issuer = chain()
    return issuer.certificate, root.trust(), {"purpose": "encrypt"}


@case("usage")
def of_an_authority_for_other_uses():
    servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    leaf = chain(extra=[(servers, False)])[1].leaf()
    return leaf.certificate, leaf.trust(), {"purpose": "encrypt"}


@case("role")
def of_another_role():
    leaf = chain()[1].leaf(role="pharmacist")
    return leaf.certificate, leaf.trust(), {"role": "physician"}


@case("role")
def without_a_role():
    leaf = chain()[1].leaf()
    return leaf.certificate, leaf.trust(), {"role": "physician"}


@case("malformed")
def role_that_there_is_not():
    from dicomcrypt.pki.names import ROLE

    leaf = chain()[1].leaf(extra=[(x509.UnrecognizedExtension(ROLE, b"\x0c\x04king"), False)])
    return leaf.certificate, leaf.trust(), {}


@case("malformed")
def date_of_construction_that_is_none():
    from dicomcrypt.pki.names import CONSTRUCTED

    bad = x509.UnrecognizedExtension(CONSTRUCTED, b"\x18\x0f99999999999999Z")
    leaf = chain()[1].leaf(extra=[(bad, False)])
    return leaf.certificate, leaf.trust(), {}
