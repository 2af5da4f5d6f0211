"""docs/gateway.md: what it shows of the library runs, the receiver receives."""

import doc_people as people
import object_files as make
import pytest
from doc_commands import ROOT, Rule, page
from ports import free_port

import dicomcrypt as dc
from tests.conftest import need, require_module

PAGE = "docs/gateway.md"


def test_the_page_runs_from_top_to_bottom(scene, capsys):
    require_module("obstore", "obstore")
    require_module("pynetdicom", "gateway")
    need("storescu", "dcmtk")
    people.keygen(scene, "doctor", "recovery")
    data = scene.dicom("ct.dcm").read_bytes()
    scene.write("ward.txt", "file recovery.pub\ngroup night\nfile doctor.pub\n")
    port = str(free_port())
    scene.run(page(PAGE), [
        Rule("cstore_receiver.py", serve="listening on"),
        Rule("storescu", after=lambda s: s.stop()),
        Rule("decrypt safe/", after=lambda s: _holds(s.folder / "back", data)),
    ], replace={"11112": port, "localhost": "127.0.0.1",
                "examples/cstore_receiver.py": str(ROOT / "examples/cstore_receiver.py")})
    for path in scene.folder.glob("*.dcmx"):
        if path.name not in ("1.dcmx", "2.dcmx"):
            assert dc.decrypt(path.read_bytes(), [scene.space["identity"]]) == data
    assert len(list(scene.folder.glob("*.dcmx"))) == 9
    assert not list(scene.folder.glob("*.part"))
    assert capsys.readouterr().out == "CompressedSamples^CT1 32768\n"


def _holds(folder, data):
    """What came back has the data set of the file that was sent, bit by bit."""
    back, = folder.iterdir()
    assert back.read_bytes().endswith(data[-30_000:])


def test_the_source_over_http_reads_frames(scene):
    block = next(f for f in page(PAGE).fences if "class HttpSource" in f.text)
    scene.python(block)
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

    source = scene.space["HttpSource"](Session(), "https://store/ct.dcmx")
    with dc.open(source, [identity]) as obj, dc.open(blob, [identity]) as near:
        assert list(obj.frames) == list(near.frames)
    Session.status_code = 200
    with pytest.raises(OSError, match="no range"):
        dc.open(source, [identity])
