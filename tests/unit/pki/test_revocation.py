"""Which list counts, and from when an entry does."""

import datetime

import pytest
from certificates import DAY, NOW, Maker
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from dicomcrypt.errors import CertificateRefusedError
from dicomcrypt.pki.checking import Trust, check_certificate

HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def leaf():
    return Maker.root().authority("Issuing").leaf()


def crl(leaf, *, made=-HOUR, number=None, revoked=None):
    """A list of the leaf's issuer. revoked: when the leaf was, from now."""
    issuer = leaf.above[0]
    builder = (
        x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
        .last_update(NOW + made).next_update(NOW + 30 * DAY)
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), False)
    if revoked is not None:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(leaf.certificate.serial_number)
            .revocation_date(NOW + revoked).build())
    return builder.sign(issuer.key, hashes.SHA256())


def check(leaf, *crls, moment=None):
    told = leaf.trust()
    return check_certificate(leaf.certificate, Trust(told.roots, told.intermediates, crls),
                             purpose="any", moment=moment)


def refused(leaf, *crls, moment=None):
    with pytest.raises(CertificateRefusedError) as caught:
        check(leaf, *crls, moment=moment)
    return caught.value.reason


def test_a_date_that_is_to_come_does_not_wait(leaf):
    future = crl(leaf, revoked=5 * DAY)
    assert refused(leaf, future) == "revoked"
    assert refused(leaf, future, moment=NOW - 2 * HOUR) == "revoked"
    past = crl(leaf, revoked=-2 * HOUR)
    assert refused(leaf, past) == "revoked"
    check(leaf, past, moment=NOW - 3 * HOUR)


def test_the_higher_number_counts_of_lists_of_one_moment(leaf):
    old, new = crl(leaf, number=9), crl(leaf, number=10, revoked=-2 * HOUR)
    assert refused(leaf, old, new) == refused(leaf, new, old) == "revoked"


def test_without_numbers_the_later_date_counts(leaf):
    old, new = crl(leaf, made=-9 * HOUR), crl(leaf, revoked=-2 * HOUR)
    assert refused(leaf, old, new) == refused(leaf, new, old) == "revoked"


def test_numbers_and_dates_that_contradict_each_other_are_refused(leaf):
    old, new = crl(leaf, made=-9 * HOUR, number=10), crl(leaf, number=9)
    assert refused(leaf, old, new) == refused(leaf, new, old) == "crl-conflict"
