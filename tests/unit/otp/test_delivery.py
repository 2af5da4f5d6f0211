"""Channels: a real mail server, and an HTTPS gateway for SMS."""

import contextlib
import email
import email.policy
import http.server
import io
import json
import socket
import ssl
import threading

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from ports import free_port

from dicomcrypt.errors import DeliveryError, UsageError
from dicomcrypt.otp.channels import ConsoleChannel, Message, SmsChannel, SmtpChannel

SECRET = "a secret of the gateway"  # noqa: S105
MESSAGE = Message("anna@klinikum.example", "Ihr Einmalcode", "Code 891632, Quersumme 29, für Sie",
                  "<p>Code <strong>891632</strong></p>")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# ---- mail ------------------------------------------------------------------------


class Mailbox:
    def __init__(self):
        self.got, self.answer = [], "250 taken"

    async def handle_DATA(self, server, session, envelope):
        if self.answer.startswith("250"):
            self.got.append((session.ssl is not None, envelope))
        return self.answer

    def __call__(self, server, session, envelope, mechanism, data):
        right = (data.login, data.password) == (b"portal", b"words")
        return AuthResult(success=right, handled=False)


@pytest.fixture
def smtp(server_context):
    """Start a mail server; returns (mailbox, port)."""
    started = []

    def start(tls=True, **options):
        box = Mailbox()
        about = {"tls_context": server_context, "require_starttls": True} if tls else {}
        port = free_port()
        controller = Controller(box, hostname="localhost", port=port, **about, **options)
        controller.start()
        started.append(controller)
        return box, port

    yield start
    for controller in started:
        controller.stop()


def test_a_mail_arrives_under_tls_in_both_forms(smtp, trusting):
    box, port = smtp()
    SmtpChannel("localhost", port, "portal@klinikum.example", context=trusting).deliver(
        MESSAGE, "key-0")
    ((under_tls, envelope),) = box.got
    assert under_tls
    assert envelope.rcpt_tos == ["anna@klinikum.example"]
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert mail["Message-ID"] == "<key-0@klinikum.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_body(("plain",)).get_content().strip() == MESSAGE.text
    assert mail.get_body(("html",)).get_content().strip() == MESSAGE.html


def test_a_server_without_starttls_gets_nothing(smtp, trusting):
    box, port = smtp(tls=False)
    with pytest.raises(DeliveryError, match="STARTTLS"):
        SmtpChannel("localhost", port, "portal@klinikum.example", context=trusting).deliver(
            MESSAGE, "key-0")
    assert box.got == []


def test_a_server_that_is_not_trusted_gets_nothing(smtp):
    box, port = smtp()
    with pytest.raises(DeliveryError, match="not trusted"):
        SmtpChannel("localhost", port, "portal@klinikum.example").deliver(MESSAGE, "key-0")
    assert box.got == []


def test_a_server_of_another_name_gets_nothing(smtp, trusting):
    box, port = smtp()
    with pytest.raises(DeliveryError):
        SmtpChannel("127.0.0.1", port, "portal@klinikum.example", context=trusting).deliver(
            MESSAGE, "key-0")
    assert box.got == []


@pytest.mark.parametrize(("password", "taken"), [("words", True), ("other", False)])
def test_a_password_is_given_under_tls_alone(smtp, trusting, password, taken):
    box, port = smtp(authenticator=Mailbox(), auth_required=True)
    channel = SmtpChannel("localhost", port, "portal@klinikum.example", user="portal",
                          password=lambda: password, context=trusting)
    if taken:
        channel.deliver(MESSAGE, "key-0")
        assert box.got[0][0]
    else:
        with pytest.raises(DeliveryError, match=r"does not let us in \(535\)"):
            channel.deliver(MESSAGE, "key-0")


def test_what_a_server_refuses_is_told_by_number_alone(smtp, trusting):
    box, port = smtp()
    box.answer = "554 refused: code 891632 looks like spam"
    with pytest.raises(DeliveryError) as caught:
        SmtpChannel("localhost", port, "portal@klinikum.example", context=trusting).deliver(
            MESSAGE, "key-0")
    assert str(caught.value) == "the mail server did not take the message (554)"


def test_a_head_with_a_line_break_is_refused(trusting):
    with pytest.raises(DeliveryError, match="head"):
        SmtpChannel("localhost", 1, "portal@klinikum.example", context=trusting).deliver(
            Message("a@b.example\nBcc: c@d.example", "x", "y"), "key-0")


def test_a_server_that_is_not_there_is_told(trusting):
    with pytest.raises(DeliveryError, match="cannot be reached"):
        SmtpChannel("localhost", 1, "portal@klinikum.example", context=trusting).deliver(
            MESSAGE, "key-0")


class Endless:
    """Says a beginning, and then the same again and again."""

    def __init__(self, *said, context=None):
        self.said, self.context, self.done = said, context, threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        one, _ = self.listening.accept()
        try:
            if self.context is not None:
                one = self.context.wrap_socket(one, server_side=True)
                one.recv(1 << 16)
            one.sendall(self.said[0])
            while not self.done.wait(0.01):
                one.sendall(self.said[1])
        except OSError:
            pass
        one.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.done.set()
        self.listening.close()
        self.thread.join()


@pytest.mark.parametrize("said", [(b"220-", b"a"), (b"220-a\r\n", b"220-b\r\n")])
def test_a_mail_server_that_never_ends_is_left(trusting, said):
    with Endless(*said) as server, pytest.raises(DeliveryError, match="cannot be reached"):
        SmtpChannel("localhost", server.port, "portal@klinikum.example", context=trusting,
                    whole=0.3).deliver(MESSAGE, "key-0")


def test_what_is_said_before_tls_is_not_heard_after_it(server_context, trusting):
    """RFC 3207 section 6: an answer injected before the handshake must not count."""
    server = socket.create_server(("127.0.0.1", 0))
    heard = []

    def run():
        one, _ = server.accept()
        lines = one.makefile("rb")
        one.sendall(b"220 here\r\n")
        lines.readline()
        one.sendall(b"250-here\r\n250 STARTTLS\r\n")
        lines.readline()
        one.sendall(b"220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n")
        with contextlib.suppress(OSError), server_context.wrap_socket(one, server_side=True) as it:
            it.settimeout(0.3)  # what answers itself is silent here
            while line := it.recv(1000):
                heard.append(line)

    thread = threading.Thread(target=run)
    thread.start()
    with pytest.raises(DeliveryError):
        SmtpChannel("localhost", server.getsockname()[1], "portal@klinikum.example", user="portal",
                    password=lambda: SECRET, context=trusting, timeout=1).deliver(MESSAGE, "key-0")
    thread.join()
    server.close()
    assert b"AUTH" not in b"".join(heard)


# ---- SMS ---------------------------------------------------------------------------


@pytest.fixture
def gateway(server_context):
    """An HTTPS gateway that answers what it is told to, then 202; `.requests` are what it got."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
            status = self.server.answers.pop(0) if self.server.answers else 202
            if status == "hang up":
                self.connection.close()
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "https://elsewhere.example/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("localhost", 0), Handler)
    server.socket = server_context.wrap_socket(server.socket, server_side=True)
    server.requests, server.answers = [], []
    server.handle_error = lambda *about: None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sms(gateway, trusting, sleeps, **options):
    return SmsChannel(f"https://localhost:{gateway.server_port}/messages?v=1", lambda: SECRET,
                      sender="Klinikum", context=trusting, sleep=sleeps.append, **options)


def test_an_sms_that_fails_at_first_arrives_with_the_same_key(gateway, trusting):
    gateway.answers[:] = [503, "hang up", 429]
    sleeps = []
    sms(gateway, trusting, sleeps).deliver(MESSAGE, "key-0")
    assert sleeps == [1, 2, 4]
    assert len(gateway.requests) == 4
    assert {found[1]["Idempotency-Key"] for found in gateway.requests} == {"key-0"}
    path, heads, body = gateway.requests[-1]
    assert path == "/messages?v=1"
    assert heads["Authorization"] == f"Bearer {SECRET}"
    assert body == {"to": MESSAGE.to, "text": MESSAGE.text, "from": "Klinikum"}


def test_after_four_times_it_gives_up(gateway, trusting):
    gateway.answers[:] = [500] * 9
    with pytest.raises(DeliveryError, match="answers 500"):
        sms(gateway, trusting, []).deliver(MESSAGE, "key-0")
    assert len(gateway.requests) == 4


@pytest.mark.parametrize("status", [302, 400, 401])
def test_other_answers_are_final_and_the_secret_goes_nowhere_else(gateway, trusting, status):
    gateway.answers[:] = [status]
    with pytest.raises(DeliveryError) as caught:
        sms(gateway, trusting, []).deliver(MESSAGE, "key-0")
    assert len(gateway.requests) == 1
    assert SECRET not in str(caught.value)
    assert "891632" not in str(caught.value)


def test_a_gateway_that_is_not_trusted_gets_no_secret(gateway):
    channel = SmsChannel(f"https://localhost:{gateway.server_port}/", lambda: SECRET,
                         sleep=lambda seconds: None)
    with pytest.raises(DeliveryError, match="not trusted"):
        channel.deliver(MESSAGE, "key-0")
    assert gateway.requests == []


@pytest.mark.parametrize("said", [
    (b"HTTP/1.1 100 Continue\r\n\r\n",) * 2, (b"HTTP/1.1 202", b"2")])
def test_a_gateway_that_never_ends_is_left(server_context, trusting, said):
    with Endless(*said, context=server_context) as server, pytest.raises(DeliveryError):
        SmsChannel(f"https://localhost:{server.port}/", lambda: SECRET, context=trusting,
                   attempts=1, whole=0.3).deliver(MESSAGE, "key-0")


def test_what_a_gateway_says_beside_its_status_is_not_waited_for(server_context, trusting):
    said = b"HTTP/1.1 202 ok\r\nContent-Length: 1000000\r\n\r\n", b"y"
    with Endless(*said, context=server_context) as server:
        SmsChannel(f"https://localhost:{server.port}/", lambda: SECRET, context=trusting,
                   attempts=1, whole=5).deliver(MESSAGE, "key-0")


@pytest.mark.parametrize("url", ["http://gateway.example/", "https:///x", "https://u:p@h/", "x"])
def test_a_gateway_without_tls_is_refused(url):
    with pytest.raises(UsageError, match="https"):
        SmsChannel(url, lambda: SECRET)


# ---- the console ---------------------------------------------------------------------


def test_the_console_shows_a_message():
    stream = io.StringIO()
    ConsoleChannel(stream).deliver(MESSAGE, "key-0")
    assert "891632" in stream.getvalue()
