"""Digital signatures in DICOM files (PS3.15 C): ours, and those of dcmtk's dcmsign."""

import subprocess

import pytest
from signed_files import changed, make_world, sign, unsigned, verify

from dicomcrypt.errors import DamagedError, PolicyError, UsageError
from tests.conftest import need

#: dcmtk takes superfluous padding away as it reads, so that it verifies something else.
PADDED = {"SC_rgb_gdcm_KY.dcm", "SC_rgb_gdcm2k_uncompressed.dcm", "gdcm-US-ALOKA-16.dcm",
          "examples_ybr_color.dcm", "color3d_jpeg_baseline.dcm"}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory, corpus):
    return make_world(tmp_path_factory.mktemp("signatures"), corpus)


def test_dcmsign_verifies_ours_and_we_verify_dcmsign_s(world, tmp_path):
    dcmsign = need("dcmsign", "dcmtk")
    theirs, ours = tmp_path / "theirs.dcm", tmp_path / "ours.dcm"
    done = {"theirs": 0, "ours": 0}
    for number, path in enumerate(world.kinds):
        who = ("rsa", "ec")[number % 2]
        subprocess.run(
            [dcmsign, "+s", world.file(f"{who}.key"), world.file(f"{who}.crt"), "-pf",
             ("+m2", "+m3", "+m5")[number % 3], path, theirs], check=True, capture_output=True,
        )  # fmt: skip
        (found,) = verify(theirs.read_bytes()).signatures
        assert found.made.subject == world.signer[who].subject
        done["theirs"] += 1
        profile = ("creator", "base")[number // 2 % 2]
        ours.write_bytes(sign(world, path.read_bytes(), who, profile=profile))
        told = subprocess.run(
            [dcmsign, "--verify", "+cf", world.file("root.pem"), "+rg", ours], check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert told.returncode == 0, (path.name, told.stderr)
        done["ours"] += 1
    assert min(done.values()) > 12


@pytest.mark.soak
def test_dcmsign_and_every_file_of_the_corpus(world, corpus, tmp_path):
    """Whatever dcmsign signs is verified; it verifies what we sign, but for what it changes."""
    dcmsign = need("dcmsign", "dcmtk")
    theirs, ours = tmp_path / "theirs.dcm", tmp_path / "ours.dcm"
    failed, done = [], 0
    for path in corpus:
        words = [dcmsign, "+s", world.file("rsa.key"), world.file("rsa.crt"), "+m2"]
        made = subprocess.run([*words, path, theirs], check=False, capture_output=True)
        if made.returncode == 0 and "DICOMDIR" not in path.name:  # it signs nothing of those
            assert len(verify(theirs.read_bytes()).signatures) == 1, path
        try:
            ours.write_bytes(sign(world, path.read_bytes(), "rsa", profile="base"))
        except (DamagedError, UsageError):
            continue
        told = subprocess.run([dcmsign, "--verify", "+cf", world.file("root.pem"), "+rg", ours],
                              check=False, capture_output=True)
        failed += [path.name] if told.returncode else []
        done += 1
    assert set(failed) == PADDED
    assert done > 200


def test_the_creator_profile_has_what_dcmsign_demands_of_it(world, tmp_path):
    dcmsign, ours = need("dcmsign", "dcmtk"), tmp_path / "ours.dcm"
    ours.write_bytes(sign(world, world.ct.read_bytes(), "rsa"))
    subprocess.run([dcmsign, "--verify", "+cf", world.file("root.pem"), "+rc", ours], check=True,
                   capture_output=True)


def test_dcmsign_signs_what_we_signed(world, tmp_path):
    dcmsign = need("dcmsign", "dcmtk")
    ours, both = tmp_path / "ours.dcm", tmp_path / "both.dcm"
    ours.write_bytes(sign(world, world.ct.read_bytes()))
    subprocess.run([dcmsign, "+s", world.file("rsa.key"), world.file("rsa.crt"), "+m2", ours,
                    both], check=True, capture_output=True)  # fmt: skip
    assert len(verify(both.read_bytes()).signatures) == 2
    assert len(verify(sign(world, both.read_bytes())).signatures) == 3


def test_signatures_of_items_are_found_and_verified(world, tmp_path):
    """dcmsign signs an item; a change in it is noticed, and outside of it not."""
    dcmsign = need("dcmsign", "dcmtk")
    path, out = next(p for p in world.kinds if p.name == "rtplan.dcm"), tmp_path / "item.dcm"
    subprocess.run([dcmsign, "+si", world.file("rsa.key"), world.file("rsa.crt"),
                    "BeamSequence[0]", "+m2", path, out], check=True, capture_output=True)
    (found,) = verify(out.read_bytes()).signatures
    assert found.place == "BeamSequence[0]."
    assert len(unsigned(out.read_bytes())) > 20  # nothing of the data set itself

    def beam(dataset):
        dataset.BeamSequence[0].BeamName = "another"

    with pytest.raises(DamagedError, match="signature 1 in BeamSequence"):
        verify(changed(out.read_bytes(), beam))


def test_old_digests_are_refused_by_name(world, tmp_path):
    dcmsign, out = need("dcmsign", "dcmtk"), tmp_path / "old.dcm"
    for option, name in (("+ms", "SHA1"), ("+mm", "MD5"), ("+mr", "RIPEMD160")):
        subprocess.run([dcmsign, "+s", world.file("rsa.key"), world.file("rsa.crt"), option,
                        world.ct, out], check=True, capture_output=True)
        with pytest.raises(PolicyError, match=f"{name} is not taken"):
            verify(out.read_bytes())
