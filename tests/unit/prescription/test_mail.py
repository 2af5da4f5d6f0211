"""Signed mail, without a server: what is sent, what is taken, and what is not."""

import mailbox
import subprocess

import pytest
from practice import ANNA, MAX, PAUL, clinic, forced

from dicomcrypt.errors import (
    CertificateRefusedError,
    DamagedError,
    PolicyError,
    UnsignedError,
    UsageError,
)
from dicomcrypt.pki.files import pem
from dicomcrypt.prescription import mail


@pytest.fixture(scope="module")
def payload():
    return forced(clinic())


@pytest.fixture(scope="module")
def sent(payload):
    return mail.build(payload, clinic().anna, PAUL)


def test_a_mail_comes_back_as_it_was_sent(sent, payload):
    found = mail.open_mail(sent, clinic().sources(), recipient=PAUL)
    assert (found.sender, found.to, found.payload) == (ANNA, PAUL, payload)
    assert found.certificate == clinic().anna.certificate
    assert mail.open_mail(sent.replace(b"\r\n", b"\n"), clinic().sources()).payload == payload
    received = b"Received: from somewhere\r\nX-Peer: x\r\n" + sent
    assert mail.open_mail(received, clinic().sources()).payload == payload


@pytest.mark.parametrize("name", ["anna", "max", "paul"])
@pytest.mark.parametrize("ends", [b"\r\n", b"\n"])
def test_openssl_verifies_what_is_sent(name, ends, payload, tmp_path, need_command):
    need_command("openssl", "openssl")
    made = mail.build(payload, getattr(clinic(), name), MAX, crls=clinic().lists())
    (tmp_path / "mail.eml").write_bytes(made.replace(b"\r\n", ends))
    (tmp_path / "root.crt").write_bytes(pem([clinic().root.certificate]))
    done = subprocess.run(
        ["openssl", "cms", "-verify", "-in", "mail.eml", "-CAfile", "root.crt", "-crl_check_all"],
        cwd=tmp_path, capture_output=True, timeout=100, check=False)
    assert b"Verification successful" in done.stderr
    assert b"smime-type" in done.stdout


def test_a_mail_says_who_writes_to_whom_and_no_more(sent):
    assert b"Muster" not in sent
    assert b"Ibuprofen" not in sent
    assert b"Subject: Prescription\r\n" in sent


@pytest.mark.parametrize(("old", "new", "error", "text"), [
    (b"An encrypted", b"My encrypted", DamagedError, "changed after it was signed"),
    (f"To: {PAUL}".encode(), b"To: rita@elsewhere.test", DamagedError, "mail's To is not the one"),
    (f"From: {ANNA}".encode(), b"From: otto@clinic.test", DamagedError, "From is not the one"),
    (b"multipart/signed", b"multipart/mixed", UnsignedError, "is not signed"),
    (b"application/pkcs7-signature\r\n", b"text/plain\r\n", UnsignedError, "was taken away"),
    (b"boundary=", b"border=", DamagedError, "parts are not as they must be"),
])  # fmt: skip
def test_a_changed_mail_is_refused(sent, old, new, error, text):
    if old.startswith(b"application/pkcs7-signature"):
        old, new = b"Content-Type: application/pkcs7-signature", b"Content-Type: text/plain"
    changed = sent.replace(old, new, 1)
    assert changed != sent
    with pytest.raises(error, match=text):
        mail.open_mail(changed, clinic().sources())


def test_who_sends_is_checked(payload):
    c = clinic()
    made = mail.build(payload, c.anna, PAUL)
    with pytest.raises(CertificateRefusedError, match="revoked"):
        mail.open_mail(made, c.sources(c.anna.certificate.serial_number))
    with pytest.raises(PolicyError, match="for another recipient"):
        mail.open_mail(made, c.sources(), recipient=MAX)
    with pytest.raises(UsageError, match="is not one"):
        mail.build(payload, c.anna, "x@y.test\r\nBcc: z@y.test")


def test_a_sender_whose_certificate_has_another_address_is_refused(payload, monkeypatch):
    monkeypatch.setattr(mail.Holder, "email", "otto@clinic.test")
    made = mail.build(payload, clinic().anna, PAUL)
    monkeypatch.undo()
    with pytest.raises(PolicyError, match="is not the holder of"):
        mail.open_mail(made, clinic().sources())


def test_replayed_mail_and_a_replayed_attachment_are_noticed(payload, tmp_path):
    c = clinic()
    first, again = (mail.open_mail(mail.build(p, c.anna, PAUL), c.sources())
                    for p in (payload, payload))
    other = mail.open_mail(mail.build(forced(c), c.anna, PAUL), c.sources())
    seen = mail.Seen(tmp_path / "seen.sqlite")
    seen.require_new(first)
    seen.note(first)
    for one in (first, again):
        with pytest.raises(PolicyError, match="came before"):
            seen.require_new(one)
    seen.require_new(other)
    seen.close()


def test_a_mail_folder_gives_each_new_mail_once(sent, tmp_path):
    box = mailbox.Maildir(tmp_path / "Maildir", create=True)
    box.add(sent)
    ((path, data),) = mail.new_mails(tmp_path / "Maildir")
    assert mail.open_mail(data, clinic().sources()).sender == ANNA
    mail.fetched(path)
    (key,) = box.keys()
    assert box.get_bytes(key) == data
    assert box.get_message(key).get_flags() == "S"
    assert list(mail.new_mails(tmp_path / "Maildir")) == []
    with pytest.raises(UsageError, match="is no Maildir"):
        list(mail.new_mails(tmp_path))


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"Subject: hello\r\n\r\nhello",
                                  b"Content-Type: multipart/signed\r\n\r\n",
                                  b'Content-Type: multipart/signed; boundary="b"\r\n\r\n' +
                                  b"\r\n--b\r\n\r\nx" * 2 + b"\r\n--b--\r\n"])
def test_what_is_no_signed_mail_is_refused(data):
    with pytest.raises((DamagedError, UnsignedError)):
        mail.open_mail(data, clinic().sources())


@pytest.mark.parametrize("value", ["=?utf-8?q?=80?=@", "<a@b", '"', "a@[", "(", "a:b;,<", "\\xff"])
@pytest.mark.parametrize("key", ["From", "To", "Date", "Message-ID", "Content-Type"])
def test_headers_that_no_parser_likes_are_refused_like_others(sent, key, value):
    """One such mail must not keep a folder's other mails from being fetched."""
    start = sent.index(f"{key}: ".encode())
    changed = sent[:start] + f"{key}: {value}".encode() + sent[sent.index(b"\r\n", start) :]
    with pytest.raises((DamagedError, UnsignedError)):
        mail.open_mail(changed, clinic().sources())


def test_parts_in_parts_without_end_are_refused(sent):
    """Beside the signed part, where nothing is signed."""
    start = sent.index(b"Content-Type: application/pkcs7-signature")
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
                    for n in range(3000))
    with pytest.raises((DamagedError, UnsignedError)):
        mail.open_mail(sent[:start] + deep + sent[start:], clinic().sources())
