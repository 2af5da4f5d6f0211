"""Codes: the vectors of the standards, and that they are what the specification says."""

import hashlib
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from hypothesis import given
from hypothesis import strategies as st

from dicomcrypt.errors import PolicyError, UsageError
from dicomcrypt.otp.code import CodeKey, digits_of, entered, hotp, packed, truncate, with_sum
from dicomcrypt.otp.totp import code_at

ABOUT = ("open", "ab" * 16, "cd" * 16, bytes(range(16)), 1_800_000_000_123)


@pytest.fixture(scope="module")
def private():
    return rsa.generate_private_key(65537, 2048)


# ---- RFC 4226, appendix D, and RFC 6238, appendix B -----------------------------

RFC_4226 = "755224 287082 359152 969429 338314 254676 287922 162583 399871 520489".split()
RFC_6238 = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]


@pytest.mark.parametrize(("counter", "code"), list(enumerate(RFC_4226)))
def test_hotp_is_that_of_rfc_4226(counter, code):
    assert hotp(b"12345678901234567890", counter) == code


def test_truncation_is_the_example_of_rfc_4226_section_5_4():
    digest = bytes.fromhex("1f8698690e02ca16618550ef7f19da8e945b555a")
    assert truncate(digest) == "872921"


@pytest.mark.parametrize(("seconds", "sha1", "sha256", "sha512"), RFC_6238)
def test_totp_is_that_of_rfc_6238(seconds, sha1, sha256, sha512):
    digits = b"1234567890" * 7
    assert code_at(digits[:20], seconds, 8, "sha1") == sha1
    assert code_at(digits[:32], seconds, 8, "sha256") == sha256
    assert code_at(digits[:64], seconds, 8, "sha512") == sha512


@given(st.binary(min_size=20, max_size=64), st.integers(0, 1 << 40))
def test_totp_is_that_of_cryptography(key, seconds):
    theirs = TOTP(key, 6, hashes.SHA1(), 30).generate(seconds).decode()  # noqa: S303
    assert code_at(key, seconds) == theirs


# ---- the code of the source paper -----------------------------------------------


def test_the_sum_of_the_digits_is_that_of_the_paper():
    assert with_sum("891632").sum == "29"
    assert with_sum("000000").sum == "0"
    assert with_sum("999999").sum == "54"


def test_a_code_is_the_truncated_hash_of_a_signature_that_openssl_makes(
    private, tmp_path, need_command
):
    openssl = need_command("openssl", "openssl")
    (tmp_path / "key.pem").write_bytes(private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    _, link, person, nonce, issued = ABOUT
    message = b""
    for field in (b"dicomcrypt otp 1 open", link.encode(), person.encode(), nonce,
                  issued.to_bytes(8, "big")):
        message += bytes([0, 0, 0, len(field)]) + field
    signature = subprocess.run(
        [openssl, "dgst", "-sha256", "-sign", str(tmp_path / "key.pem")], input=message,
        capture_output=True, check=True, timeout=100).stdout
    digest = hashlib.sha256(signature).digest()
    at = digest[31] & 15
    number = int.from_bytes(digest[at : at + 4], "big") % (1 << 31)
    assert CodeKey(private).code(*ABOUT) == with_sum(f"{number % 1_000_000:06}")


def test_the_same_comes_out_again_and_any_field_changes_it(private):
    key = CodeKey(private)
    assert key.code(*ABOUT) == CodeKey(private).code(*ABOUT)
    others = {key.code(*ABOUT).digits}
    for at, value in enumerate(("email", "ac" * 16, "ce" * 16, bytes(16), 1_800_000_000_124)):
        others.add(key.code(*ABOUT[:at], value, *ABOUT[at + 1 :]).digits)
    assert len(others) >= 5  # two of six may meet, once in 70,000 runs


def test_another_key_makes_other_codes(private):
    other = CodeKey(rsa.generate_private_key(65537, 2048))
    many = [(*ABOUT[:4], issued) for issued in range(4)]
    assert [other.code(*a) for a in many] != [CodeKey(private).code(*a) for a in many]


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_packing_is_injective(one, other):
    assert (packed(*one) == packed(*other)) == (one == other)


@given(st.binary(min_size=32, max_size=32))
def test_truncation_gives_six_digits(digest):
    assert digits_of(truncate(digest)) == truncate(digest)


# ---- keys -------------------------------------------------------------------------


def test_other_keys_are_refused():
    with pytest.raises(UsageError, match="RSA"):
        CodeKey(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(PolicyError, match="1024 bits"):
        CodeKey(rsa.generate_private_key(65537, 1024))  # noqa: S505


class Other:
    """A key that signs by PSS, which is not deterministic, or with a hash of its own."""

    def __init__(self, key, how):
        self._key, self._how = key, how

    def public_key(self):
        return self._key.public_key()

    def sign(self, data, scheme, algorithm):
        return self._key.sign(data, *self._how)


@pytest.mark.parametrize("how", [
    (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    (padding.PKCS1v15(), hashes.SHA512()),
])  # fmt: skip
def test_a_key_that_signs_in_another_way_is_refused(private, how):
    with pytest.raises(UsageError, match=r"PKCS#1 v1\.5"):
        CodeKey(Other(private, how))


def test_nothing_shows_a_code_or_key(private):
    key = CodeKey(private)
    code = key.code(*ABOUT)
    assert code.digits not in repr(code) + str(code) + repr(key)


# ---- what is entered ----------------------------------------------------------------


def test_blanks_do_not_count():
    assert entered(" 891 632\n", " 29 ") == with_sum("891632")
    assert entered("001001", "02") == with_sum("001001")


@pytest.mark.parametrize(("code", "total"), [
    ("", "29"), ("73410", "29"), ("7341051", "29"), ("73410x", "29"), ("７３４１０５", "29"),
    ("734105", ""), ("734105", "-1"), ("734105", "290"), ("734105", "²⁹"),
])  # fmt: skip
def test_what_cannot_be_a_code_is_refused_without_being_shown(code, total):
    with pytest.raises(UsageError) as caught:
        entered(code, total)
    assert not code or code not in str(caught.value)
