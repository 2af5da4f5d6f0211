"""docs/standard.md: files protected and revealed here and by gdcmanon."""

import pydicom
from doc_commands import Rule, page

from tests.conftest import need

PAGE = "docs/standard.md"


def test_the_page_runs_from_top_to_bottom(scene):
    need("/usr/bin/gdcmanon", "libgdcm-tools")  # a Python package has one of the same name
    ct = scene.dicom("ct.dcm")
    scene.dicom("study/ct.dcm")
    scene.dicom("study/mr.dcm", "MR_small.dcm")
    assert scene.shell("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=Doctor -days 2 "
                       "-keyout doctor-key.pem -out doctor.crt && chmod 600 doctor-key.pem") == 0
    scene.run(page(PAGE), [Rule("gdcmanon -", replace={"gdcmanon": "/usr/bin/gdcmanon"})])
    for name in ("ct.dcm", "mr.dcm"):
        original = (scene.folder / "study" / name).read_bytes()
        assert (scene.folder / "back" / name).read_bytes() == original
        protected = pydicom.dcmread(scene.folder / "shared" / name)
        assert protected.PatientID != pydicom.dcmread(scene.folder / "study" / name).PatientID
    name = pydicom.dcmread(ct).PatientName
    assert pydicom.dcmread(scene.folder / "shared.dcm").PatientName != name
    assert pydicom.dcmread(scene.folder / "from-gdcm.dcm").PatientName != name
    for file in ("theirs.dcm", "ours.dcm"):
        assert pydicom.dcmread(scene.folder / file).PatientName == name
