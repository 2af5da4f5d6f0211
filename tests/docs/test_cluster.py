"""docs/cluster.md: a scheduler and workers over TLS, as the page starts them."""

import doc_people as people
from doc_commands import Rule, page
from ports import free_port

from tests.conftest import require_module

PAGE = "docs/cluster.md"


def certificates(scene):
    """An authority's certificate, and those of the scheduler, the workers, and the client."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(scene.folder / "ca.pem"))
    for name in ("head", "w1", "me"):
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(scene.folder / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(scene.folder / f"{name}-key.pem"))


def test_the_page_runs_from_top_to_bottom(scene):
    require_module("distributed", "dask")
    require_module("trustme", "test")
    certificates(scene)
    people.keygen(scene, "doctor", "colleague")
    archive = scene.archive()
    scene.dicom("ward3/ct.dcm")
    assert scene.shell("dicomcrypt vault create archive.vault/ -r doctor.pub") == 0, scene.err
    port = free_port()
    here = "--host 127.0.0.1 --no-dashboard"
    scene.run(page(PAGE), [
        Rule("dask scheduler", serve="Scheduler at:",
             replace={"scheduler": f"scheduler {here} --port {port}"}),
        Rule("dask worker", serve="Registered to:",
             replace={"worker": f"worker {here} --local-directory {scene.base}", "16": "1"}),
    ], replace={"head:8786": f"127.0.0.1:{port}", "/keys/doctor.key": "$PWD/doctor.key"})
    assert scene.shell("dicomcrypt decrypt safe/ -i colleague.key -o back/") == 0, scene.err
    for path in archive.rglob("*.dcm"):
        back = scene.folder / "back" / path.relative_to(archive)
        assert back.read_bytes() == path.read_bytes()
    assert scene.shell("dicomcrypt vault ls archive.vault/ -i doctor.key") == 0
    assert "1CT1" in scene.out
