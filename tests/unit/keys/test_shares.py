"""Any k of n shares give the identity back; fewer, foreign and mistyped ones do not."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomcrypt.errors import DamagedError, MissingExtraError, UsageError
from dicomcrypt.keys import HybridIdentity, Passphrase, X25519Identity, keyfile
from dicomcrypt.keys.sharepage import share_page
from dicomcrypt.keys.shares import (
    WORDS,
    combine_shares,
    load_share,
    parse_share,
    share_text,
    split_identity,
)

pytestmark = pytest.mark.usefixtures("recovery")


@pytest.fixture(scope="session")
def recovery(need_module):
    need_module("shamir_mnemonic", "recovery")


@pytest.fixture(scope="module")
def identity():
    return HybridIdentity.generate()


@pytest.fixture(scope="module")
def shares(identity, need_module):
    need_module("shamir_mnemonic", "recovery")
    return split_identity(identity, 3, 5)


def words(share, name="typed"):
    return parse_share(" ".join(share.words), name)


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from([HybridIdentity, X25519Identity]),
    secret=st.binary(min_size=32, max_size=32),
    numbers=st.integers(2, 6).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n))),
)
def test_any_k_shares_combine_and_any_fewer_do_not(kind, secret, numbers):
    identity, (threshold, count) = kind(secret), numbers
    shares = split_identity(identity, threshold, count)
    for some in itertools.islice(itertools.combinations(shares, threshold), 20):
        assert keyfile.identity_text(combine_shares(some)) == keyfile.identity_text(identity)
    for few in itertools.islice(itertools.combinations(shares, threshold - 1), 20):
        with pytest.raises(UsageError, match=r"missing|no shares"):
            combine_shares(few)


def test_shares_alone_tell_nothing_of_each_other(identity):
    first, again = split_identity(identity, 2, 3), split_identity(identity, 2, 3)
    assert not {s.words for s in first} & {s.words for s in again}
    assert all(len(share.words) == WORDS for share in first)


def test_files_and_typed_words_mean_the_same(identity, shares, tmp_path):
    for share in shares[1:4]:
        (tmp_path / f"{share.number}").write_text(share_text(share, identity, "2030-01-02"))
    files = [load_share(tmp_path / str(n)) for n in (2, 3, 4)]
    assert [(f.number, f.threshold, f.count, f.hint) for f in files] == [
        (n, 3, 5, identity.recipient.hint) for n in (2, 3, 4)
    ]
    typed = [parse_share("  ".join(share.words).upper(), "typed") for share in shares[1:4]]
    assert all(share.hint is None and share.count is None for share in typed)
    assert combine_shares(files).private_bytes() == combine_shares(typed).private_bytes()


def test_more_shares_than_needed_are_all_checked(identity, shares):
    assert combine_shares(shares).private_bytes() == identity.private_bytes()
    import shamir_mnemonic as library

    parsed = library.Share.from_mnemonic(" ".join(shares[4].words))
    changed = type(parsed)(**{**parsed.__dict__, "value": bytes(34)}).mnemonic().split()
    forged = parse_share(" ".join(changed), "forged")
    for some in ([*shares[:4], forged], [*shares[:2], forged]):
        with pytest.raises(DamagedError, match="do not fit together"):
            combine_shares(some)


def test_how_many_are_missing_is_said(shares):
    with pytest.raises(UsageError, match="2 of the 3 shares needed: 1 more is missing"):
        combine_shares(shares[:2])
    with pytest.raises(UsageError, match="1 of the 3 shares needed: 2 more are missing"):
        combine_shares(shares[:1])


def test_the_same_share_twice_is_refused(shares):
    with pytest.raises(UsageError, match="both share 2"):
        combine_shares([shares[0], shares[1], words(shares[1])])


def test_shares_of_different_sets_are_refused(identity, shares):
    others = split_identity(identity, 3, 5)
    if others[0].set_id != shares[0].set_id:
        with pytest.raises(UsageError, match="of different sets"):
            combine_shares([shares[0], shares[1], others[2]])
    fewer = split_identity(identity, 2, 5)
    with pytest.raises(UsageError, match="of different sets"):
        combine_shares([shares[0], shares[1], fewer[2]])


def test_a_key_with_another_hint_than_recorded_is_refused(shares):
    lying = [replace(share, hint=b"\1" * 8) for share in shares[:3]]
    with pytest.raises(DamagedError, match="not the one that was split"):
        combine_shares(lying)


def test_a_word_that_is_none_is_told_by_its_place_and_not_shown(shares):
    wrong = list(shares[0].words)
    wrong[6], wrong[20] = "zzyzx", "qwert"
    with pytest.raises(UsageError, match=r"typed: words 7, 21 are not in the list") as raised:
        parse_share(" ".join(wrong), "typed")
    assert "zzyzx" not in str(raised.value)


@pytest.mark.parametrize("change", ["swap", "other", "cut", "long", "empty", "prose", "page"])
def test_mistakes_of_typing_are_refused(identity, shares, change):
    typed = list(shares[0].words)
    if change == "swap":
        at = next(n for n in range(5, 30) if typed[n] != typed[n + 1])
        typed[at], typed[at + 1] = typed[at + 1], typed[at]
    elif change == "other":
        typed[9] = "academic" if typed[9] != "academic" else "acid"
    elif change == "cut":
        typed.pop()
    elif change == "long":
        typed.append(typed[0])
    elif change == "empty":
        typed = ["# nothing"]
    elif change == "prose":
        typed = "these words are no share at all and never were".split()
    else:
        typed = share_page(shares[0], identity).split()
    with pytest.raises(UsageError, match=r"^typed: ") as raised:
        parse_share(" ".join(typed), "typed")
    assert not any(f" {word} " in str(raised.value) for word in shares[0].words if len(word) > 5)


def test_share_of_another_program_is_refused():
    import shamir_mnemonic as library

    groups = library.generate_mnemonics(2, [(2, 3), (2, 3)], bytes(34), iteration_exponent=0)
    with pytest.raises(UsageError, match="none of dicomcrypt"):
        parse_share(groups[0][0], "wallet")
    slow = library.Share.from_mnemonic(
        library.generate_mnemonics(1, [(2, 3)], bytes(34), iteration_exponent=0)[0][0]
    )
    slow = type(slow)(**{**slow.__dict__, "iteration_exponent": 15})
    with pytest.raises(UsageError, match="none of dicomcrypt"):
        parse_share(slow.mnemonic(), "slow")
    shares = [
        parse_share(text, "foreign")
        for text in library.generate_mnemonics(1, [(2, 3)], bytes(34), iteration_exponent=0)[0]
    ]
    with pytest.raises(DamagedError, match="no identity that this version knows"):
        combine_shares(shares[:2])


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 3), (4, 3), (2, 17), (0, 5)])
def test_impossible_numbers_are_refused(identity, threshold, count):
    with pytest.raises(UsageError, match="cannot be"):
        split_identity(identity, threshold, count)


def test_what_is_no_identity_of_keygen_is_refused():
    with pytest.raises(UsageError, match="only identities made by keygen"):
        split_identity(Passphrase("x"), 2, 3)


def test_a_page_holds_its_own_share_alone_and_nothing_from_elsewhere(identity, shares):
    page = share_page(shares[1], identity, "2030-01-02")
    assert page.count("<li>") == WORDS
    assert [w.split("</li>")[0] for w in page.split("<li>")[1:]] == list(shares[1].words)
    for text in ("share 2 of 5", "any 3 of 5", identity.recipient.hint.hex(), "2030-01-02"):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")
    assert "src=" not in page
    assert not any(" ".join(s.words[4:7]) in page for s in shares)


def test_nothing_secret_is_in_a_representation(shares):
    assert not any(word in repr(shares[0]) for word in shares[0].words if len(word) > 5)


def test_files_that_are_no_shares(tmp_path):
    with pytest.raises(UsageError, match="cannot read share file"):
        load_share(tmp_path / "absent")
    (tmp_path / "large").write_bytes(b"academic " * 10_000)
    with pytest.raises(UsageError, match="too large"):
        load_share(tmp_path / "large")


def test_a_missing_library_is_named(identity, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shamir_mnemonic", None)
    with pytest.raises(MissingExtraError, match=r"dicomcrypt\[recovery\]"):
        split_identity(identity, 2, 3)
