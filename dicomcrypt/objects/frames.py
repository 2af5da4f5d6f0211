"""One frame as an array or a picture, through pydicom's decoders."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import FrameError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from pydicom.uid import UID

    from ..container.index import Geometry
    from .opened import OpenedObject

_FLOAT = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
#: What pydicom and its plug-ins raise for pixel data that they cannot decode.
DECODER_ERRORS = (
    AttributeError, IndexError, KeyError, MemoryError, NotImplementedError, OSError,
    RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip
MAX_FRAME_BITS = 8 << 32
FORMATS = (".png", ".bmp", ".raw", ".npy")


def _bits(obj: OpenedObject, number: int) -> np.ndarray:
    """One frame of one-bit pixels; frames need not begin at a byte's border."""
    g = obj.geometry
    pixels = g.rows * g.columns * (g.samples or 1)
    skip = number * pixels % 8
    data = np.frombuffer(obj.native_bytes(number), np.uint8)
    bits = np.unpackbits(data, bitorder="little")[skip : skip + pixels]
    if len(bits) != pixels or not pixels:
        raise FrameError(f"frame {number} does not hold the pixels that the image should have")
    return bits.reshape((g.rows, g.columns) if (g.samples or 1) == 1 else
                        (g.rows, g.columns, g.samples))


def decode_frame(obj: OpenedObject, number: int) -> np.ndarray:
    """Return one frame decoded; raises FrameError with what is missing."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    g = obj.geometry
    if g.rows * g.columns * max(g.samples, 1) * g.bits_allocated > MAX_FRAME_BITS:
        raise FrameError(f"frame {number} would take more than 4 GiB of memory")
    encapsulated = obj.container.index(2).frames is not None
    if g.bits_allocated == 1 and not encapsulated:
        return _bits(obj, number)
    frame = obj.frame_bytes(number) if encapsulated else obj.native_bytes(number)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    syntax = UID(obj.transfer_syntax)
    if not encapsulated and syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        syntax = ExplicitVRBigEndian if g.big_endian else ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows, dataset.Columns = g.rows, g.columns
    dataset.SamplesPerPixel = g.samples or 1
    dataset.PhotometricInterpretation = g.photometric or "MONOCHROME2"
    dataset.BitsAllocated = g.bits_allocated
    dataset.BitsStored = g.bits_stored or g.bits_allocated
    dataset.HighBit = g.high_bit or dataset.BitsStored - 1
    dataset.PixelRepresentation = g.pixel_representation
    if dataset.SamplesPerPixel > 1:
        dataset.PlanarConfiguration = g.planar
    dataset.NumberOfFrames = 1
    if g.tag in _FLOAT:
        setattr(dataset, _FLOAT[g.tag], frame)
    else:
        dataset.PixelData = encapsulate([frame]) if encapsulated else frame + b"\0" * (
            len(frame) % 2
        )
        dataset["PixelData"].VR = "OB" if encapsulated or g.bits_allocated <= 8 else "OW"
    if encapsulated:
        dataset["PixelData"].is_undefined_length = True
    try:
        return np.asarray(dataset.pixel_array)
    except DECODER_ERRORS as error:
        raise FrameError(f"frame {number}{_reason(g, syntax, error)}") from None


def _reason(geometry: Geometry, syntax: UID, error: Exception) -> str:
    """Why a frame cannot be decoded, without what the file has in place of a term or a UID of the
    standard: it may be anything."""
    from pydicom.pixels.common import PhotometricInterpretation

    name = syntax.name
    if name == str(syntax):
        return " cannot be decoded: its TransferSyntaxUID is none that is known"
    if geometry.photometric not in ("", *PhotometricInterpretation):
        reason = "PhotometricInterpretation is of a kind that cannot be shown"
    else:
        reason = " ".join(str(error).split())
        if "missing" in reason or "Unable to decompress" in reason or "require" in reason:
            reason += "; pip install 'dicomcrypt[images]' brings decoders for JPEG and JPEG 2000"
    return f" ({name}) cannot be decoded: {reason}"


def as_picture(array: np.ndarray, obj: OpenedObject) -> np.ndarray:
    """Return the frame as 8-bit grey or RGB for the eye: VOI window if the tags are
    readable and have one, otherwise the frame's own range."""
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        shown = array[..., :3]
        if shown.dtype == np.uint8:
            return shown
        top = float(np.iinfo(shown.dtype).max) if shown.dtype.kind in "ui" else 1.0
        return (shown.astype(np.float64) / top * 255).clip(0, 255).astype(np.uint8)
    values = array.astype(np.float64)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    photometric = obj.geometry.photometric
    if obj.container.keys.opens(1) and obj.geometry.tag == 0x7FE00010:
        values, low, high = _windowed(array, obj, values, low, high)
    else:
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # pixels may be any floats
        span = high - low or 1.0
        grey = ((np.nan_to_num(values, nan=low) - low) / span * 255).clip(0, 255).astype(np.uint8)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def _windowed(
    array: np.ndarray, obj: OpenedObject, values: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, float, float]:
    """Modality LUT and VOI window (PS3.3 C.11.1, C.11.2), as far as the tags give them."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    try:
        dataset = obj.dataset
        if "PALETTE" in obj.geometry.photometric:
            return values, low, high
        values = np.asarray(apply_modality_lut(array, dataset), dtype=np.float64)
        if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
            values = np.asarray(apply_voi_lut(values, dataset), dtype=np.float64)
    except (AttributeError, EOFError, IndexError, KeyError, RuntimeError, TypeError, ValueError,
            struct.error):
        values = array.astype(np.float64)  # tags that contradict the pixels: show them plainly
    return values, float(values.min(initial=values.flat[0] if values.size else 0)), float(
        values.max(initial=values.flat[0] if values.size else 0)
    )


def write_frame(
    obj: OpenedObject, number: int, path: str | os.PathLike[str], file: BinaryIO
) -> None:
    """Write one frame into an open binary file, in the format of the path's ending.

    .raw: the frame's bytes as encoded; .npy: the decoded array; .png, .bmp: a picture for the
    eye, 8 bits a sample. Raises UsageError for other endings.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"unknown picture format {ending!r}: use one of {', '.join(FORMATS)}")
    if ending == ".raw":
        file.write(obj.frame_bytes(number))
        return
    if ending != ".npy":
        try:
            from PIL import Image
        except ImportError:
            raise MissingExtraError(
                "pictures need Pillow: pip install 'dicomcrypt[images]', or write .raw or .npy"
            ) from None
    array = obj.frame_array(number)
    if ending == ".npy":
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        return
    Image.fromarray(as_picture(array, obj)).save(file, format=ending[1:].upper())
