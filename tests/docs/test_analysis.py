"""docs/analysis.md: what it shows of four files is what the commands say."""

import doc_people as people
import pytest
from doc_commands import Rule, page

import dicomcrypt as dc
from tests.conftest import require_module

PAGE = "docs/analysis.md"


def test_the_figures_are_drawn(scene):
    require_module("matplotlib", "plot")
    people.keygen(scene, "doctor")
    ct = scene.dicom("ct.dcm")
    keys = dc.load_recipients(scene.folder / "doctor.pub")
    dc.encrypt_file(ct, scene.folder / "ct.dcm.dcmx", keys)
    before = page(PAGE).text.split("## Protocol")[0]
    scene.run(type(page(PAGE))(PAGE, before))
    for name in ("analyze.png", "map.png"):
        assert (scene.folder / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("heading", page(PAGE).headings(deep=3))
def test_what_the_page_shows_is_what_the_command_says(scene, heading):
    part = page(PAGE).part(heading)
    name = part.commands[0].text.split()[2]
    scene.dicom(name, name)
    (shown,) = [fence.text for fence in part.fences if fence.language == "text"]
    said = []
    scene.run(part, [Rule("analyze", after=lambda s: said.append(s.out))])
    assert _words(said[0]) == _words(shown)


def _words(text):
    return [line.split() for line in text.split("\n")]
