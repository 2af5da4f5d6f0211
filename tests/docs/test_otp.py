"""docs/otp.md: links and codes, on the console, by a mail server and an SMS gateway of the test."""

import base64
import contextlib
import email
import email.policy
import http.server
import json
import re
import sqlite3
import ssl
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from doc_commands import Rule, page
from ports import free_port

import dicomcrypt as dc
from tests.conftest import require_module

PAGE = "docs/otp.md"


class Mailbox:
    """What aiosmtpd calls: takes mail of who has logged in as the page says."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        assert session.ssl is not None
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"

    def __call__(self, server, session, envelope, mechanism, data):
        from aiosmtpd.smtp import AuthResult

        return AuthResult(success=(data.login, data.password) == (b"portal", b"words"),
                          handled=False)


@pytest.fixture(scope="module")
def authority():
    require_module("sqlalchemy", "otp")
    require_module("aiosmtpd", "test")
    require_module("trustme", "test")
    import trustme

    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(made)
    return made


@pytest.fixture
def mailbox(context):
    from aiosmtpd.controller import Controller

    box = Mailbox()
    box.port = free_port()
    running = Controller(box, hostname="localhost", port=box.port, tls_context=context,
                         require_starttls=True, authenticator=box, auth_required=True)
    running.start()
    yield box
    running.stop()


@pytest.fixture
def gateway(context):
    """An SMS gateway over HTTPS; `texts` are what it got."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.headers["Authorization"] == "Bearer of the gateway"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.texts.append(json.loads(body)["text"])
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("localhost", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.texts = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def codes_in(text):
    """The codes of messages, each with the sum of its digits."""
    found = re.findall(r"(?<![0-9+])[0-9]{6}(?![0-9])", text)
    return [f"{code} {sum(map(int, code))}" for code in found]


def mailed(mail):
    """The codes of a mail's text; its headers and boundaries have digits, too."""
    return codes_in(mail.get_body(("plain",)).get_content())


def test_the_page_runs_from_top_to_bottom(scene, mailbox, gateway, authority):
    said, sent, links = [], [], []
    anybody = dc.Identity.generate().recipient
    for name in ("ct", "us"):
        scene.write(f"safe/{name}.dcm.dcmx", dc.encrypt(b"a study", [anybody]))

    def hear(scene):
        said[:] = codes_in(scene.err)

    def keep_id(scene):
        links.append(re.search("link ([0-9a-f]{32}): ", scene.err)[1])

    def a_minute_later(scene):
        """What counts as the time of the codes so far is put back."""
        with contextlib.closing(sqlite3.connect(scene.folder / "otp/otp.db")) as base, base:
            assert base.execute("UPDATE events SET at = at - 60000").rowcount

    def request(scene):
        return scene.out.split()[0]

    def settings(scene, text):
        authority.cert_pem.write_to_path(str(scene.folder / "otp/own-authority.pem"))
        scene.write("otp/smtp.password", "words\n", 0o600)
        scene.write("otp/sms.secret", "of the gateway\n", 0o600)
        for old, new in {"mail.example": "localhost", "587": str(mailbox.port),
                         "gateway.example": f"localhost:{gateway.server_port}",
                         "# ca_file": "ca_file",
                         "[sms]": '[sms]\nca_file = "own-authority.pem"'}.items():
            assert old in text
            text = text.replace(old, new)
        scene.write("otp/otp.toml", text, 0o600)

    def visitor(scene):
        """Anna opens the portal's page by the link that was mailed, a minute after a code."""
        a_minute_later(scene)
        mail = next(m for m in mailbox.mails if "/#" in m.as_string())
        address = re.search(r"https://\S+", mail.get_body(("plain",)).get_content())[0]
        scene.space |= {"name": "anna", "token": urlsplit(address).fragment,
                        "address": "198.51.100.7"}

    def typed(scene):
        code, total = mailed(mailbox.mails[-1])[0].split()
        body = {"name": "anna", "token": scene.space["token"], "code": code, "sum": total}
        scene.space |= {"code": code, "total": total, "method": "POST", "path": "/open",
                        "body": json.dumps(body).encode(), "kind": "application/json"}

    def time_code(scene):
        """What an authenticator would show."""
        from cryptography.hazmat.primitives.hashes import SHA1
        from cryptography.hazmat.primitives.twofactor.totp import TOTP

        uri = parse_qs(urlsplit((scene.folder / "anna.uri").read_text().strip()).query)
        secret = base64.b32decode(uri["secret"][0] + "=" * (-len(uri["secret"][0]) % 8))
        return TOTP(secret, 6, SHA1(), 30, enforce_key_length=False).generate(  # noqa: S303
            int(time.time())).decode()

    def link(scene):
        return links[-1]

    scene.run(page(PAGE), [
        Rule("otp link create", after=keep_id),
        Rule("otp register", after=hear, replace={"LINK": link}),
        Rule("otp prove", replace={"891632 29 013370 14": lambda s: " ".join(said),
                                   "LINK": link}),
        Rule("otp send .* --console", before=a_minute_later, after=hear, replace={"LINK": link}),
        Rule("otp check LINK anna -d", replies={"code": lambda s: said[0].split()[0],
                                                "sum": lambda s: said[0].split()[1]},
             replace={"LINK": link}),
        Rule("otp grant", replace={"REQUEST": request}),
        Rule("--totp", replace={"LINK": link, "282760": time_code}),
        Rule(r"\[smtp\]", do=settings),
        Rule("Home", before=visitor),
        Rule("service.open", before=typed),
        Rule("otp (send|resend)", replace={"LINK": link},
             after=lambda s: sent.append(mailed(mailbox.mails[-1]))),
    ])
    assert len(sent) == 2
    assert sent[0] == sent[1] != []
    assert scene.space["access"].left == 0
    assert scene.space["reply"].status == 403  # the code was used
