"""`dicomcrypt otp` as a person uses it: codes come by the console, and are read from stdin."""

import base64
import contextlib
import json
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

import pytest

import dicomcrypt as dc
from tests.conftest import require_module

OBJECT = "0d91b1c27a5b8f3e"
require_module("sqlalchemy", "otp")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder made by `otp init`."""
    from dicomcrypt.otp import home

    folder = tmp_path_factory.mktemp("made") / "otp"
    home.create(folder, bits=2048)
    return folder


@pytest.fixture
def otp(call, made, tmp_path, monkeypatch):
    """Run a command on a folder in which Anna is registered; returns (output, messages)."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "otp")

    def run(*words, status=0, entered=""):
        done = call("otp", *words, "-d", "otp", entered=entered)
        assert done.status == status, done
        return done.out, done.err

    run("person", "add", "anna", "--email", "anna@klinikum.example", "--mobile", "+491701234567",
        "--language", "en")
    return run


def codes_in(text):
    found = re.findall(r"(?<![0-9+])[0-9]{6}(?![0-9])", text)
    return [f"{code} {sum(map(int, code))}" for code in found]


def link(otp, *words):
    out, _ = otp("link", "create", OBJECT, "--for", "anna", "--json", *words)
    return json.loads(out)["link"]


def test_from_the_link_to_the_objects(otp):
    out, err = otp("link", "create", OBJECT, "--for", "anna", "--uses", "2")
    assert re.fullmatch(r"https://portal\.example/#[A-Za-z0-9_-]{43}\n", out)
    (row,) = json.loads(otp("link", "list", "--json")[0])
    assert (row["state"], row["for"], row["bound"], row["left"]) == ("alive", "anna", None, 2)
    assert "not bound" in otp("send", row["link"], "anna", "--console", status=2)[1]
    _, err = otp("register", row["link"], "anna", "--console")
    email, mobile = codes_in(err)
    assert "wrong" in otp("prove", row["link"], "anna", status=3,
                          entered=f"{mobile} {email}\n")[1]
    time.sleep(1.1)  # what a wrong try costs
    otp("prove", row["link"], "anna", entered=f"{email} {mobile}\n")
    assert json.loads(otp("link", "list", "--json")[0])[0]["bound"] == "anna"
    assert "is bound" in otp("register", row["link"], "anna", "--console", status=2)[1]


def test_a_link_for_which_the_administrator_vouches(otp):
    one = link(otp, "--bound")
    _, err = otp("send", one, "anna", "--console")
    (code,) = codes_in(err)
    assert codes_in(otp("resend", one, "anna", "--console")[1]) == [code]
    out, _ = otp("check", one, "anna", "--json", entered=code + "\n")
    assert json.loads(out) == {"link": one, "person": json.loads(out)["person"],
                               "objects": [OBJECT], "scope": "all", "left": 0}
    assert "wrong" in otp("check", one, "anna", status=3, entered=code + "\n")[1]
    assert "not alive" in otp("send", one, "anna", status=2)[1]
    shown = otp("stats")[0]
    assert re.search(r"codes +used 1\n", shown)
    assert "5e-05" in shown


def test_a_failed_delivery_ends_with_1_and_can_be_repeated(otp):
    one = link(otp, "--bound")
    out, err = otp("send", one, "anna", "--json", status=1)
    assert json.loads(out)["deliveries"][0]["state"] == "failed"
    assert "resend" in err
    (code,) = codes_in(otp("resend", one, "anna", "--console")[1])
    otp("check", one, "anna", entered=code)


def test_a_proof_that_was_not_delivered_is_repeated_by_itself(otp, tmp_path):
    one = link(otp)
    assert "resend" in otp("register", one, "anna", status=1)[1]
    assert "no code is valid" not in otp("resend", one, "anna", "--console", status=2)[1]
    given = [codes_in(otp("resend", one, "anna", "--proof", proof, "--console")[1])[0]
             for proof in ("email", "mobile")]
    otp("prove", one, "anna", entered=" ".join(given))


def test_a_code_is_never_an_argument(otp):
    one = link(otp, "--bound")
    assert "unexpected extra argument" in otp("check", one, "anna", "891632", status=2)[1]
    said = otp("check", one, "anna", status=2, entered="")[1]
    assert "standard input" in said
    assert "6 digits" in otp("check", one, "anna", status=2, entered="12345 15\n")[1]


def test_a_link_goes_into_a_file_of_its_owner(otp, tmp_path):
    out, _ = otp("link", "create", OBJECT, "--for", "anna", "-o", "link.txt", "--json")
    assert "url" not in json.loads(out)
    path = tmp_path / "link.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("https://portal.example/#")


def test_a_file_that_is_there_is_refused_before_a_secret_is_made(otp, tmp_path):
    (tmp_path / "there").write_text("mine")
    for words in (("link", "create", OBJECT), ("totp", "enroll", "anna")):
        assert "exists" in otp(*words, "-o", "there", status=1)[1]
    assert (tmp_path / "there").read_text() == "mine"
    assert json.loads(otp("link", "list", "--json")[0]) == []
    assert json.loads(otp("stats", "--json")[0])["authenticators"] == 0


def test_an_object_is_named_by_its_file(otp, tmp_path, identity):
    (tmp_path / "ct.dcmx").write_bytes(dc.encrypt(b"a study", [identity.recipient]))
    (tmp_path / "other").write_bytes(b"no object")
    otp("link", "create", "ct.dcmx", "--for", "anna")
    (row,) = json.loads(otp("link", "list", "--json")[0])
    assert len(row["objects"][0]) == 32
    assert "no DCMX object" in otp("link", "create", "other", status=2)[1]


def test_a_revoked_link_is_listed_so(otp):
    one = link(otp)
    otp("link", "revoke", one)
    assert "revoked" in otp("link", "list")[0]
    assert "no such link" in otp("link", "revoke", one, status=2)[1]


def test_an_authenticator_opens_a_link(otp, tmp_path):
    one = link(otp, "--bound")
    otp("totp", "enroll", "anna", "-o", "anna.uri")
    assert stat.S_IMODE((tmp_path / "anna.uri").stat().st_mode) == 0o600
    assert "--force" in otp("totp", "enroll", "anna", status=1)[1]
    secret = parse_qs(urlsplit((tmp_path / "anna.uri").read_text().strip()).query)["secret"][0]

    from dicomcrypt.otp.totp import code_at

    now = int(time.time())
    code = code_at(base64.b32decode(secret), now)
    otp("check", one, "anna", "--totp", entered=code)
    assert "too often" in otp("totp", "check", "anna", status=3, entered=code)[1]


def test_requests_are_granted_and_refused(otp):
    otp("ask", "anna", OBJECT, "--reason", "second\x1b[31m opinion")
    otp("ask", "anna", "ab" * 16)
    assert "\\x1b[31m" in otp("requests")[0]
    first, second = json.loads(otp("requests", "--json")[0])
    assert re.match("https://", otp("grant", first["request"], "--bound")[0])
    otp("refuse", second["request"])
    assert json.loads(otp("requests", "--json")[0]) == []
    assert len(json.loads(otp("requests", "--state", "refused", "--json")[0])) == 1


def test_persons_come_and_go(otp):
    assert [p["name"] for p in json.loads(otp("person", "list", "--json")[0])] == ["anna"]
    assert "anna@klinikum.example" in otp("person", "list")[0]
    otp("person", "remove", "ANNA")
    assert json.loads(otp("person", "list", "--json")[0]) == []
    assert "no person" in otp("person", "remove", "anna", status=2)[1]


def test_the_clock_is_compared_and_reset(otp, tmp_path):
    assert json.loads(otp("clock", "--json")[0])["behind_seconds"] < 2
    with contextlib.closing(sqlite3.connect(tmp_path / "otp" / "otp.db")) as connection:
        connection.execute("UPDATE clock SET latest = ?", (int(time.time() * 1000) + 3_600_000,))
        connection.commit()
    assert "clock" in otp("link", "list", status=5)[1]
    otp("clock", status=5)
    otp("clock", "--reset")
    otp("link", "list")


def test_init_makes_a_folder_once(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = call("otp", "init", "new", "--bits", "2048", "--base-url", "https://p.example/x")
    assert made.status == 0
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert "exists" in call("otp", "init", "new").err
    assert call("otp", "upgrade", "-d", "new").status == 0
    assert "which folder" in call("otp", "stats").err
    (tmp_path / "config.toml").write_text('[otp]\nfolder = "new"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    assert call("otp", "stats").status == 0
    for url in ('https://p.example/"', "http://p.example/", "https://p.example/#", "https:///x"):
        assert call("otp", "init", "bad", "--base-url", url).status == 2
    assert not (tmp_path / "bad").exists()


def test_events_go_to_the_configured_audit_log(otp, tmp_path, monkeypatch):
    from dicomcrypt.audit import read, verify

    (tmp_path / "config.toml").write_text('[audit]\nlog = "audit.log"\n')
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    one = link(otp, "--bound")
    (code,) = codes_in(otp("send", one, "anna", "--console")[1])
    otp("check", one, "anna", entered=code)
    otp("check", one, "anna", status=3, entered=code)
    log = tmp_path / "audit.log"
    found = [(r["action"], r["outcome"]) for r in read(str(log))]
    assert found == [("otp.link", "ok"), ("otp.issue", "ok"), ("otp.send", "ok"),
                     ("otp.open", "ok"), ("otp.open", "no-identity")]
    verify(str(log), [])
    assert code.split()[0] not in log.read_text()
    assert "anna" not in log.read_text()
    assert all(r["actor"].startswith("uid:") and r["objects"] == [one] for r in read(str(log)))


def test_every_command_has_examples():
    import click

    from dicomcrypt.cli.otp import otp as group

    def walk(command, path):
        context = click.Context(command, info_name=path)
        assert "Examples:" in command.get_help(context), path
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                walk(command.get_command(context, name), f"{path} {name}")

    walk(group, "otp")
    assert len(group.list_commands(click.Context(group))) == 17


def test_it_runs_as_a_program(command, tmp_path):
    assert command("otp", "init", "otp", "--bits", "2048", "-q", cwd=tmp_path).returncode == 0
    done = command("otp", "stats", "-d", "otp", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["persons"] == 0
    assert done.stderr == b""


def test_without_the_library_the_extra_is_named(command, tmp_path):
    script = ("import sys; sys.modules['sqlalchemy'] = None; from dicomcrypt.cli import main; "
              "sys.argv = ['dicomcrypt', 'otp', 'init', 'otp']; main()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          cwd=tmp_path, timeout=100, env=command.environment(), check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("pip install 'dicomcrypt[otp]'\n")
