"""README, guide, CONTRIBUTING and the page of benchmarks: what stands there is done."""

import json
import pathlib
import re
import shlex
import shutil

import pytest
import signers
from doc_commands import ROOT, Rule, page
from pydicom import dcmread
from pydicom.data import get_testdata_file

PAGES = ["README.md", "CONTRIBUTING.md", "docs/guide.md"]


def keys(scene, *names):
    for name in names:
        assert scene.shell(f"dicomcrypt keygen -o {name}.key") == 0, scene.err


def same(scene, one, other):
    assert (scene.folder / one).read_bytes() == (scene.folder / other).read_bytes()


def is_png(scene):
    assert (scene.folder / "frame.png").read_bytes().startswith(b"\x89PNG")


def not_run(scene, text):
    """What a test cannot wait for: its parts are there."""
    for word in shlex.split(text.replace("&&", " "), comments=True):
        if word.endswith(".py"):
            assert (ROOT / word).is_file(), word


def enter(scene):
    """The reader has gone into a folder of his own; beside it lies what `make demo` left."""
    scene.archive()
    (scene.folder / "demo-out").mkdir()
    (scene.folder / "archive").rename(scene.folder / "demo-out/archive")
    scene.folder /= "try"


def test_the_readme_runs_from_nothing_to_the_first_frame_and_back(scene):
    scene.run(page("README.md"), [
        Rule(r"mkdir try", after=enter),
        Rule(r"venv", do=not_run),
        Rule(r"dicomcrypt frame", after=is_png),
        Rule(r"import dicomcrypt", after=lambda s: same(s, "back.dcm", "us.dcm")),
        Rule(r"decrypt safe/", after=lambda s: same(s, "back/a/ct.dcm", "archive/a/ct.dcm")),
    ])  # fmt: skip


def test_python_in_a_source_folder_that_is_not_built_says_so(scene):
    shutil.copytree(ROOT / "dicomcrypt", scene.folder / "dicomcrypt",
                    ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        scene.environment.pop(name, None)
    assert scene.shell("python -c 'import dicomcrypt as dc; dc.encrypt'") == 1
    assert "dicomcrypt is not built here: this is its source folder" in scene.err


def test_what_contributing_says_to_type_is_there(scene):
    scene.run(page("CONTRIBUTING.md"), [Rule(r"venv", do=not_run), Rule(r"pytest", do=not_run)])


def test_the_readme_s_example_has_six_lines_of_python():
    (fence,) = [f for f in page("README.md").fences if f.language == "python"]
    assert len([line for line in fence.text.splitlines() if line.strip()]) == 6


def test_what_the_demonstration_says_of_itself():
    """The number of files that the README tells."""
    folder = pathlib.Path(get_testdata_file("CT_small.dcm")).parent
    listed = [path for path in folder.rglob("*") if path.is_file()]
    assert f"{len(listed)} real DICOM files" in (ROOT / "README.md").read_text()


def test_the_readme_links_to_pages_that_are_there_and_to_all_of_them():
    named = set(re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()))
    assert not [name for name in named if not (ROOT / name).exists()]
    pages = {str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")}
    assert pages - {"docs/index.md"} <= {n for n in named if not n.startswith("docs/reference")}


def test_the_guide_runs_from_top_to_bottom(scene, need_module):
    need_module("blake3", "vault")
    scene.archive()
    scene.dicom("ct.dcm")
    scene.dicom("us.dcm", "examples_ybr_color.dcm")
    keys(scene, "doctor", "index", "study", "colleague", "recovery")
    root = signers.private_key("p256", "Root")
    scene.write("root.crt", signers.pem(signers.certificate(root, "Root")))
    for name, stem in (("Anna Arzt", "anna"), ("Hospital", "hospital")):
        key = signers.private_key("p256", name)
        certificate = signers.pem(signers.certificate(key, name, "Root", root))
        scene.write(f"{stem}.crt", certificate)
        scene.write(f"{stem}.pem", signers.key_pem(key) + certificate, 0o600)

    def rows(scene):
        document = json.loads((scene.folder / "rows.json").read_text())
        assert {row["state"] for row in document["files"]} == {"done"}

    def tags(scene):
        data = (scene.folder / "us.tags").read_bytes()
        assert data == (scene.folder / "us.dcm").read_bytes()[: len(data)]
        assert 0 < len(data) < (scene.folder / "us.dcm").stat().st_size

    scene.run(page("docs/guide.md"), [
        Rule(r"--dry-run", after=lambda s: no_folder(s, "safe")),
        Rule(r"rows\.json", after=rows),
        Rule(r"--part tags", after=tags),
        Rule(r"same\.dcm", after=lambda s: same(s, "same.dcm", "ct.dcm")),
        Rule(r"vault find", after=lambda s: found(s, "1CT1")),
        Rule(r"vault get", after=lambda s: patient(s, "patient", "1CT1")),
        Rule(r"vault erase", after=lambda s: gone(s, "4MR1")),
    ])  # fmt: skip


def no_folder(scene, name):
    assert not list((scene.folder / name).rglob("*.dcmx")) if (scene.folder / name).exists() else 1


def found(scene, patient_id):
    assert patient_id in scene.out


def patient(scene, folder, patient_id):
    (path,) = [p for p in (scene.folder / folder).rglob("*") if p.is_file()]
    assert dcmread(path, stop_before_pixels=True).PatientID == patient_id


def gone(scene, patient_id):
    assert scene.shell("dicomcrypt vault ls vault/ -i doctor.key") == 0
    assert "1CT1" in scene.out
    assert patient_id not in scene.out


def test_the_readme_s_table_of_speed_has_the_figures_of_the_page_of_benchmarks():
    """A figure is told in two places, and once only measured."""
    benchmarks = (ROOT / "docs/benchmarks.md").read_text()
    table = (ROOT / "README.md").read_text().split("## Speed", 1)[1].split("\n## ", 1)[0]
    for row in re.findall(r"^\| [^|]+ \|([^|]+)\|([^|]*)\|", table, re.M)[2:]:
        for cell in row:
            for figure in re.findall(r"\d+\.\d+|\d{3}", cell):
                assert figure in benchmarks, cell


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md", "CONTRIBUTING.md"])
def test_programs_and_targets_that_the_text_names_are_there(name):
    makefile = (ROOT / "Makefile").read_text()
    for _, span in page(name).spans():
        words = span.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.M), span
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), span
