"""Key files: a typing error anywhere is noticed, and a secret stays where it is."""

import os
import stat

import pytest

import dicomcrypt as dc
from dicomcrypt.keys import keyfile

FIXED = bytes(range(100, 132))
IDENTITIES = {"hybrid": dc.HybridIdentity(FIXED), "x25519": dc.X25519Identity(FIXED)}
every_identity = pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES)


def key_line(text):
    return next(line for line in text.splitlines() if not line.startswith("#"))


SECRET_LINES = {name: key_line(keyfile.identity_text(i)) for name, i in IDENTITIES.items()}
PUBLIC_LINES = {
    name: key_line(keyfile.recipient_text(i.recipient)) for name, i in IDENTITIES.items()
}
DATA = {line.split(":")[2] for line in SECRET_LINES.values()}


def assert_hides(error):
    """No piece of a secret of eight characters stands in an error, or in what caused it."""
    while error is not None:
        shown = f"{error} {error!r}"
        assert not any(d[n : n + 8] in shown for d in DATA for n in range(len(d) - 8))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@every_identity
def test_a_key_file_gives_back_the_key(identity):
    [found] = keyfile.parse_identities(keyfile.identity_text(identity))
    assert found.private_bytes() == identity.private_bytes()
    assert type(found) is type(identity)
    assert keyfile.parse_recipients(keyfile.recipient_text(identity.recipient)) == [
        identity.recipient
    ]


@pytest.mark.parametrize("line", SECRET_LINES.values(), ids=SECRET_LINES)
def test_a_typing_error_in_any_character_of_an_identity_is_noticed(line):
    for at, old in enumerate(line):
        for new in {"A", "b", "9", "-", "_", "=", "?", ":", "ä", " x", ""} - {old}:
            if old in "=" and new == "":
                continue
            with pytest.raises(dc.UsageError) as caught:
                keyfile.parse_identities(line[:at] + new + line[at + 1 :])
            assert_hides(caught.value)


@pytest.mark.parametrize("name", PUBLIC_LINES)
def test_a_typing_error_in_any_character_of_a_recipient_is_noticed(name):
    line = PUBLIC_LINES[name]
    for at, old in enumerate(line):
        for new in ({"A", "9", "?", ""} if name == "x25519" else {"A", "B", ""}) - {old}:
            with pytest.raises(dc.UsageError):
                keyfile.parse_recipients(line[:at] + new + line[at + 1 :])


@pytest.mark.parametrize("line", [*SECRET_LINES.values(), PUBLIC_LINES["x25519"]], ids=range(3))
def test_only_one_text_stands_for_a_key(line):
    parse = keyfile.parse_identities if "identity" in line else keyfile.parse_recipients
    assert parse(line)
    for other in (line + "=", line + "==", line + "A", line + "AAAA", line[:-1], line.upper()):
        with pytest.raises(dc.UsageError):
            parse(other)


def test_every_other_last_character_of_a_recipient_is_noticed():
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for line in PUBLIC_LINES.values():
        for new in set(alphabet) - {line[-1]}:
            with pytest.raises(dc.UsageError):
                keyfile.parse_recipients(line[:-1] + new)


@pytest.mark.parametrize("line", SECRET_LINES.values(), ids=SECRET_LINES)
def test_two_neighbours_exchanged_are_noticed(line):
    for at in range(len(line) - 1):
        swapped = line[:at] + line[at + 1] + line[at] + line[at + 2 :]
        if swapped != line:
            with pytest.raises(dc.UsageError):
                keyfile.parse_identities(swapped)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 7, 8, 40])
def test_a_line_that_was_not_copied_whole_is_noticed(cut):
    for line in (*SECRET_LINES.values(), *PUBLIC_LINES.values()):
        parse = keyfile.parse_identities if "identity" in line else keyfile.parse_recipients
        for part in (line[:-cut], line[cut:]):
            with pytest.raises(dc.UsageError):
                parse(part)


def test_the_wrong_kind_of_file_is_refused_and_not_shown(tmp_path):
    path = tmp_path / "key"
    for line in SECRET_LINES.values():
        path.write_text(line)
        with pytest.raises(dc.UsageError, match="recipient") as caught:
            dc.load_recipients(path)
        assert_hides(caught.value)
    for line in PUBLIC_LINES.values():
        path.write_text(line)
        with pytest.raises(dc.UsageError, match="identity"):
            dc.load_identities(path)


def test_a_private_key_of_another_length_with_a_right_checksum_is_a_usage_error():
    for size in (0, 31, 33, 1216):
        for name in ("mlkem768-x25519", "x25519"):
            with pytest.raises(dc.UsageError):
                keyfile.parse_identities(keyfile._line("dcmx-identity-1", name, bytes(size)))
            if (name, size) != ("mlkem768-x25519", 1216):
                with pytest.raises(dc.UsageError):
                    keyfile.parse_recipients(keyfile._line("dcmx-recipient-1", name, bytes(size)))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", " \t\n"], ids=repr)
def test_line_ends_comments_and_several_keys_are_read(tmp_path, end):
    lines = ["# a comment", *SECRET_LINES.values(), "   # another", *SECRET_LINES.values(), ""]
    path = tmp_path / "keys"
    path.write_bytes(end.join(lines).encode())
    found = dc.load_identities(path)
    assert [i.algorithm for i in found] == ["mlkem768-x25519", "x25519"] * 2
    lines = ["#", *PUBLIC_LINES.values()]
    path.write_bytes(end.join(lines).encode())
    assert dc.load_recipients(path) == [i.recipient for i in IDENTITIES.values()]


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf" + SECRET_LINES["hybrid"].encode() + b"\r\n")
    assert len(dc.load_identities(path)) == 1


@pytest.mark.parametrize(
    "data", [b"", b"# nothing\n", b"\xff\xfe\x00", b"AGE-SECRET-KEY-1", bytes((1 << 20) + 1)],
    ids=["empty", "comment", "binary", "other", "large"],
)  # fmt: skip
def test_a_file_without_a_key_is_a_usage_error_that_names_it(tmp_path, data):
    path = tmp_path / "the file"
    path.write_bytes(data)
    for load in (dc.load_identities, dc.load_recipients):
        with pytest.raises(dc.UsageError, match="the file"):
            load(path)
        with pytest.raises(dc.UsageError, match="missing"):
            load(tmp_path / "missing")


def test_one_broken_line_refuses_the_whole_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("\n".join([*SECRET_LINES.values(), SECRET_LINES["hybrid"][:-1]]))
    with pytest.raises(dc.UsageError) as caught:
        dc.load_identities(path)
    assert_hides(caught.value)


def test_an_identity_file_may_be_sealed_with_a_passphrase(tmp_path):
    secret = dc.Passphrase("correct horse", memory_kib=64, passes=1, lanes=1)
    path = tmp_path / "sealed"
    path.write_bytes(dc.encrypt(keyfile.identity_text(IDENTITIES["hybrid"]).encode(), [secret]))
    with pytest.raises(dc.UsageError, match="sealed"):
        dc.load_identities(path)
    [found] = dc.load_identities(path, lambda data: dc.decrypt(data, [secret]))
    assert found.private_bytes() == FIXED


# ---- writing ------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_private_file_is_for_its_owner_alone(tmp_path, mask):
    path, old = tmp_path / "key", os.umask(mask)
    try:
        keyfile.write_private(path, b"secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"secret"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", ["file", "link", "dangling link"])
def test_a_key_is_not_overwritten_unless_forced(tmp_path, there):
    path, other = tmp_path / "key", tmp_path / "other"
    if there != "dangling link":
        other.write_bytes(b"mine")
    if there == "file":
        path.write_bytes(b"mine")
        path.chmod(0o644)
    else:
        path.symlink_to(other)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(dc.OutputExistsError):
        keyfile.write_private(path, b"new")
    assert sorted(tmp_path.iterdir()) == before
    assert not other.exists() or other.read_bytes() == b"mine"
    keyfile.write_private(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not other.exists() or other.read_bytes() == b"mine"
