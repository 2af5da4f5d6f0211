"""The Python of the documentation runs as it stands there."""

import pathlib
import re

import object_files as make
import pytest

import dicomcrypt as dc
from dicomcrypt.keys import keyfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def blocks(name):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S)


def run(name, space):
    for number, block in enumerate(blocks(name)):
        exec(compile(block, f"{name}, block {number}", "exec"), space)  # noqa: S102
    return space


def test_the_page_for_gateways_runs_from_top_to_bottom(
    corpus, tmp_path, monkeypatch, need_module, capsys
):
    need_module("obstore", "obstore")
    monkeypatch.chdir(tmp_path)
    data = next(p for p in corpus if p.name == "CT_small.dcm").read_bytes()
    (tmp_path / "ct.dcm").write_bytes(data)
    space = run("docs/gateway.md", {})
    assert len(blocks("docs/gateway.md")) > 5
    for name in ("ct.dcmx", "async.dcmx"):
        assert dc.decrypt((tmp_path / name).read_bytes(), [space["identity"]]) == data
    assert capsys.readouterr().out == "CompressedSamples^CT1 32768\n"


def test_the_source_over_http_reads_frames():
    space = {}
    exec(next(b for b in blocks("docs/gateway.md") if "class HttpSource" in b), space)  # noqa: S102
    identity, data = dc.Identity.generate(), make.dicom(100, 100, make.noise(30_000), frames=3)
    blob = dc.encrypt(data, [identity.recipient])

    class Session:
        """What `requests.Session` does of it, without a network."""

        status_code = 206

        def head(self, url):
            self.headers = {"Content-Length": str(len(blob))}
            return self

        def get(self, url, headers):
            first, last = map(int, headers["Range"].removeprefix("bytes=").split("-"))
            self.content = blob[first : last + 1]
            return self

    source = space["HttpSource"](Session(), "https://store/ct.dcmx")
    with dc.open(source, [identity]) as obj, dc.open(blob, [identity]) as near:
        assert list(obj.frames) == list(near.frames)
    Session.status_code = 200
    with pytest.raises(OSError, match="no range"):
        dc.open(source, [identity])


def test_the_readme_s_python_runs(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    us = next(p for p in corpus if p.name == "examples_ybr_color.dcm")
    (tmp_path / "us.dcm").write_bytes(us.read_bytes())
    identity = dc.Identity.generate()
    (tmp_path / "doctor.key").write_text(keyfile.identity_text(identity))
    (tmp_path / "doctor.key").chmod(0o600)
    (tmp_path / "doctor.pub").write_text(keyfile.recipient_text(identity.recipient))
    run("README.md", {})
    assert (tmp_path / "back.dcm").read_bytes() == us.read_bytes()
