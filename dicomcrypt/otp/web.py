"""The functions of `service` behind paths, for any server, without a framework.

The secret of a link is the fragment of its address: it reaches the server in the body of a POST
alone, so no log of addresses has it. GET consumes nothing, whatever a scanner of mails does with a
link. Who serves this gives it method, path, body and the visitor's address, over TLS.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import (
    DicomcryptError,
    NoIdentityError,
    PolicyError,
    ThrottledError,
    UsageError,
)
from .links import check_token
from .requests import Requests
from .service import LinkService

_MOST_BODY = 64 << 10
_SCRIPT = """
const token = location.hash.slice(1), form = document.querySelector("form");
history.replaceState(null, "", location.pathname);
async function post(path, fields) {
  const answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"},
                                    body: JSON.stringify({token, ...fields})});
  document.querySelector("output").textContent = JSON.stringify(await answer.json());
}
form.addEventListener("submit", event => {
  event.preventDefault();
  post(event.submitter.value, Object.fromEntries(new FormData(form)));
});
"""
PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Open a link</title>
<form>
<label>Name <input name="name" required autocomplete="username"></label>
<button value="/code">Send me a code</button>
<label>Code <input name="code" inputmode="numeric" autocomplete="one-time-code"></label>
<label>Sum of its digits <input name="sum" inputmode="numeric" autocomplete="off"></label>
<button value="/open">Open</button>
</form>
<output></output>
<script>{_SCRIPT}</script>
</html>
"""
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_HEADS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
          "X-Content-Type-Options": "nosniff"}
_PAGE_HEADS = {
    **_HEADS, "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"default-src 'none'; script-src 'sha256-{_HASH}'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
}  # fmt: skip


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]


class Form:
    """The texts of a JSON object; raises UsageError for anything else."""

    def __init__(self, body: bytes, content_type: str) -> None:
        # What a page of another site can post unasked is of other types.
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise UsageError("send application/json")
        if len(body) > _MOST_BODY:
            raise UsageError("that is too long")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise UsageError("that is no JSON") from None
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise UsageError("that is no JSON object of texts")
        self._found: dict[str, str] = found

    def text(self, name: str) -> str:
        return self._found.get(name, "")

    def token(self) -> str:
        return check_token(self.text("token"))


class Handler:
    """Answers requests; nothing of it is kept between them."""

    def __init__(self, service: LinkService, requests: Requests) -> None:
        self._service, self._requests = service, requests
        self._routes = {"/code": self._code, "/open": self._open, "/register": self._register,
                        "/prove": self._prove, "/ask": self._ask}

    def handle(
        self, method: str, path: str, body: bytes = b"", *, content_type: str = "",
        address: str | None = None,
    ) -> Reply:
        """Answer one request. address: the visitor's, by which is counted; behind a proxy the one
        that the proxy vouches for. Bodies are JSON objects of texts."""
        path = path.partition("?")[0]
        if path == "/" and method in ("GET", "HEAD"):
            return Reply(200, PAGE.encode() if method == "GET" else b"", _PAGE_HEADS)
        if path not in self._routes:
            return _reply(404, {"error": "nothing is here"})
        if method != "POST":
            return _reply(405, {"error": "a link is used by POST alone"}, Allow="POST")
        try:
            return _reply(200, self._routes[path](Form(body, content_type), address))
        except ThrottledError as error:
            return _reply(429, {"error": str(error)}, **{"Retry-After": str(int(error.seconds))})
        except UsageError as error:
            return _reply(400, {"error": str(error)})
        except NoIdentityError as error:
            return _reply(403, {"error": str(error)})
        except PolicyError:
            return _reply(403, {"error": "the link cannot be opened now"})
        except DicomcryptError:
            return _reply(503, {"error": "it does not work now: try again later"})

    def _code(self, form: Form, address: str | None) -> dict[str, Any]:
        channel = form.text("channel") or "email"
        if channel not in ("email", "mobile"):
            raise UsageError("a code goes by email or mobile")
        return self._service.request_code(form.text("name"), channel=channel, token=form.token(),
                                          address=address)

    def _open(self, form: Form, address: str | None) -> dict[str, Any]:
        access = self._service.open(
            form.text("name"), {"code": form.text("code"), "sum": form.text("sum")},
            factor=form.text("factor") or "code", token=form.token(), address=address)
        return {"objects": list(access.objects), "scope": access.scope, "left": access.left}

    def _register(self, form: Form, address: str | None) -> dict[str, Any]:
        return self._service.register(form.text("name"), token=form.token(), address=address)

    def _prove(self, form: Form, address: str | None) -> dict[str, Any]:
        answers = {kind: {"code": form.text(f"{kind}_code"), "sum": form.text(f"{kind}_sum")}
                   for kind in ("email", "mobile")}
        self._service.prove(form.text("name"), answers, token=form.token(), address=address)
        return {"bound": True}

    def _ask(self, form: Form, address: str | None) -> dict[str, Any]:
        self._requests.ask(form.text("name"), form.text("objects").split(),
                           scope=form.text("scope") or "all", reason=form.text("reason"),
                           address=address)
        return {"asked": True}


def _reply(status: int, value: dict[str, Any], **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(),
                 {**_HEADS, "Content-Type": "application/json", **headers})
