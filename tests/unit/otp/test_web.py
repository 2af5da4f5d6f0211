"""A server of the standard library around the handler: GET consumes nothing, and what the server
logs never has the secret of a link."""

import http.client
import http.server
import json
import threading
import urllib.parse

import pytest
from otp_world import OBJECT

from dicomcrypt.otp.links import url_of
from dicomcrypt.otp.tables import codes, events, sa


@pytest.fixture
def server(world):
    """The handler on loopback; `.log` is what it logs of requests."""
    class Request(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = world.home.handler.handle(
                self.command, self.path, body, address=self.client_address[0],
                content_type=self.headers.get("Content-Type", ""))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = do_PUT = answer

        def log_message(self, form, *arguments):
            self.server.log.append(form % arguments)

    found = http.server.HTTPServer(("127.0.0.1", 0), Request)
    found.log = []
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def ask(server):
    """Ask the server as a browser would; returns (status, headers, body)."""
    def send(method, path, form=None, kind="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=100)
        body = None if form is None else json.dumps(form)
        connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, answer.headers, data

    return send


def state(world):
    with world.home.context.store.transaction() as tx:
        return (world.now, [tuple(row) for row in tx.execute(sa.select(codes))],
                len(tx.execute(sa.select(events)).all()))


def test_a_link_is_opened_by_post_and_its_secret_is_in_no_log(world, server, ask):
    token = world.anna(uses=1)
    url = urllib.parse.urlsplit(url_of(world.home.base_url, token))
    assert url.fragment == token
    assert ask("GET", url.path or "/")[0] == 200  # a browser does not send the fragment
    form = {"token": token, "name": "anna"}
    status, _, body = ask("POST", "/code", form)
    assert (status, json.loads(body)) == (200, {"seconds": 300})
    world.home.outbox.deliver()
    (answer,) = world.mail.codes()
    for method, path in (("GET", "/open"), ("HEAD", "/open"), ("PUT", "/open"), ("GET", "/code"),
                         ("GET", f"/open?code={answer['code']}&sum={answer['sum']}"),
                         ("HEAD", "/"), ("GET", "/")):
        assert ask(method, path)[0] in (200, 405)
    assert world.home.links.all()[0]["left"] == 1
    status, heads, body = ask("POST", "/open", {**form, **answer})
    assert status == 200
    assert json.loads(body) == {"objects": [OBJECT], "scope": "all", "left": 0}
    assert heads["Cache-Control"] == "no-store"
    assert heads["Referrer-Policy"] == "no-referrer"
    assert ask("POST", "/open", {**form, **answer})[0] == 403
    assert len(server.log) == 11
    assert token not in "\n".join(server.log)


def test_get_changes_nothing(world, ask):
    world.anna()
    before = state(world)
    for path in ("/", "/code", "/open", "/register", "/prove", "/ask", "/x"):
        for method in ("GET", "HEAD"):
            assert ask(method, path)[0] in (200, 404, 405)
    assert state(world) == before


def test_a_link_is_registered_over_http(world, ask):
    world.anna()
    form = {"token": world.link("anna", bound=False), "name": "anna"}
    assert ask("POST", "/register", form)[0] == 200
    world.home.outbox.deliver()
    email, mobile = world.mail.codes()[0], world.sms.codes()[0]
    status, _, body = ask("POST", "/prove", {
        **form, "email_code": email["code"], "email_sum": email["sum"],
        "mobile_code": mobile["code"], "mobile_sum": mobile["sum"]})
    assert (status, json.loads(body)) == (200, {"bound": True})


def test_who_is_not_known_gets_the_same_answers(world, ask):
    token = world.anna()
    transcripts = []
    for name, link in (("anna", token), ("nobody", token), ("anna", "x" * 43)):
        form = {"token": link, "name": name}
        said = [ask("POST", "/code", form), ask("POST", "/code", form),
                ask("POST", "/open", {**form, "code": "000000", "sum": "0"}),
                ask("POST", "/open", {**form, "code": "000000", "sum": "0"}),
                ask("POST", "/ask", {**form, "objects": OBJECT})]
        transcripts.append([(status, body, {k: v for k, v in heads.items() if k != "Date"})
                            for status, heads, body in said])
    assert [found[0] for found in transcripts[0]] == [200, 429, 403, 429, 200]
    assert transcripts[0] == transcripts[1] == transcripts[2]
    assert transcripts[0][1][2]["Retry-After"] == "15"


@pytest.mark.parametrize(("form", "kind"), [
    ({"name": "anna"}, "application/json"), ({"token": "x", "name": "anna"}, "application/json"),
    ({"token": "x" * 43}, "application/json"), ([1], "application/json"),
    ({"token": 1}, "application/json"), ({"name": "x" * 70_000}, "application/json"),
    ({"token": "x" * 43, "name": "anna"}, "text/plain"),
    ({"token": "x" * 43, "name": "anna", "channel": "console"}, "application/json"),
    ({"token": "x" * 43, "name": "a", "factor": "no", "code": "000000"}, "application/json"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(world, ask, form, kind):
    path = "/open" if isinstance(form, dict) and "factor" in form else "/code"
    assert ask("POST", path, form, kind)[0] == 400


def test_bodies_that_are_no_json_are_refused(world):
    for body in (b"", b"{", b"\xff", b"[" * 20_000):
        assert world.home.handler.handle("POST", "/code", body,
                                         content_type="application/json").status == 400


def test_the_page_runs_its_own_script_alone():
    import base64
    import hashlib

    from dicomcrypt.otp.web import _PAGE_HEADS, PAGE

    script = PAGE.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in _PAGE_HEADS["Content-Security-Policy"]


def test_a_clock_that_was_put_back_is_not_told_to_visitors(world, ask):
    token = world.anna()
    world.now -= 60_000
    status, _, body = ask("POST", "/code", {"token": token, "name": "anna"})
    assert status == 403
    assert b"clock" not in body
