"""Signers with certificates, and DICOM files that they sign."""

import io
from types import SimpleNamespace

import pydicom
from certificates import DAY, Maker, key

from dicomcrypt.keys.signing import Signer
from dicomcrypt.standard import signatures, signing

#: One of each kind: encodings, compressed and native pixels, sequences, private elements, no image.
KINDS = (
    "CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "image_dfl.dcm",
    "JPEG2000.dcm", "SC_rgb_rle_16bit.dcm", "693_J2KI.dcm", "rtplan.dcm", "reportsi.dcm",
    "nested_priv_SQ.dcm", "waveform_ecg.dcm", "liver_1frame.dcm", "emri_small.dcm",
    "chrH31.dcm", "explicit_VR-UN.dcm", "rtdose_expb_1frame.dcm", "US1_UNCI.dcm",
)  # fmt: skip


def make_world(folder, corpus):
    root = Maker.root("Root", begin=-60 * DAY)
    made = {"rsa": root.leaf("Scanner", uses=["signing"], kind="rsa-2048"),
            "ec": root.leaf("Doctor", uses=["signing"]),
            "other": Maker.root("Other").leaf("Other", uses=["signing"], key=key("p256", 3))}
    for name, one in made.items():
        (folder / f"{name}.pem").write_bytes(one.key_pem() + one.pem())
        (folder / f"{name}.pem").chmod(0o600)
        (folder / f"{name}.key").write_bytes(one.key_pem())
        (folder / f"{name}.crt").write_bytes(one.pem())
    (folder / "root.pem").write_bytes(root.pem())
    by_name = {path.name: path for path in corpus}
    return SimpleNamespace(
        file=lambda name: folder / name, ct=by_name["CT_small.dcm"],
        kinds=[by_name[name] for name in KINDS if name in by_name],
        signer={name: Signer(one.key, one.certificate) for name, one in made.items()},
    )


def sign(world, data, who="ec", **options):
    out = io.BytesIO()
    signing.sign(io.BytesIO(data), out, world.signer[who], **options)
    return out.getvalue()


def verify(data):
    return signatures.verify(io.BytesIO(data))


def unsigned(data):
    found = verify(data)
    return signatures.unsigned_names(found.unsigned(found.signatures))


def changed(data, change):
    """A file that was read and written by pydicom with something else in it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    change(dataset)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()
