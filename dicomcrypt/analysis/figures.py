"""Figures, by matplotlib (the extra `plot`): one PNG each, without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from ..ciphers.transform import LINEAR_UNIT, METHOD_NAMES, unit_count
from ..container.layout import PIXELS
from ..errors import DicomcryptError, FrameError, MissingExtraError
from ..objects.decoder import stream_runs
from . import measures
from .study import SEALED, one_output
from .subject import Subject

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..objects.opened import OpenedObject

DPI = 100
#: Width and height in inches: 1200 * 720 and 800 * 600 pixels.
ANALYSIS_SIZE, MAP_SIZE = (12.0, 7.2), (8.0, 6.0)
_DOTS = 3000  # of the scatter of neighbours
_COLOURS = ("tab:blue", "tab:orange", "tab:green")  # of the three methods
_UNITS_SHOWN = 64


def need_matplotlib() -> None:
    """Raise MissingExtraError where figures cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "figures need matplotlib: pip install 'dicomcrypt[plot]'") from None


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure. Raises MissingExtraError."""
    need_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, layout="constrained")


def write_png(figure: Figure, file: BinaryIO) -> None:
    """Write a figure as PNG in 256 colours: a third of the size."""
    from io import BytesIO

    from PIL import Image  # matplotlib brings it

    whole = BytesIO()
    figure.savefig(whole, format="png", dpi=DPI)
    # The median cut, which is the default, would blend the methods' colours.
    picture = Image.open(whole).convert("RGB").quantize(
        256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(file, format="PNG", optimize=True)


# ---- analyze -----------------------------------------------------------------


def _shown(subject: Subject, data: bytes | bytearray) -> numpy.ndarray:
    """A subject's first frame, or a stream's bytes as a square, as grey or RGB of 8 bits."""
    import numpy

    if not subject.is_image:
        flat = numpy.frombuffer(data, numpy.uint8)
        side = max(1, min(512, int(len(flat) ** 0.5)))
        return flat[: side * side].reshape(side, -1)
    frame = subject.array(data, "sample")[0]
    # The top byte: what is displayed of wide samples.
    top: numpy.ndarray = (frame >> 8 * (subject.sample - 1)).astype(numpy.uint8)
    return top if top.shape[2] == 3 else top[:, :, 0]


def _before(subject: Subject, obj: OpenedObject) -> tuple[numpy.ndarray, str]:
    """The image for the eye; where it cannot be decoded, its bytes."""
    from ..objects.frames import as_picture

    if obj.frame_count:
        try:
            number = subject.frame or 0
            return as_picture(obj.frame_array(number), obj), f"before: frame {number}"
        except DicomcryptError:
            pass
    return _shown(subject, subject.data), "before: the bytes as a square"


def _scatter(
    axes: Axes, subject: Subject, data: bytes | bytearray, by: str, title: str
) -> None:
    import numpy

    image = subject.array(data, by)
    (here, there) = measures.DIRECTIONS["horizontal"]
    frame = image[0]
    first, second = (frame[place].ravel() for place in (here, there))
    if len(first):
        chosen = numpy.random.default_rng(0).integers(0, len(first), _DOTS)
        axes.plot(first[chosen], second[chosen], ".", markersize=1.5, color="black")
    axes.set(title=title, xlabel=by, ylabel=f"the next {by}")
    axes.locator_params(nbins=5)


def _histogram(
    axes: Axes, subject: Subject, data: bytes | bytearray, title: str, scale: str
) -> None:
    found = measures.counts(subject.array(data, "byte"), 256)
    axes.stairs(found, range(257), fill=True, color="tab:blue")
    axes.axhline(found.sum() / 256, color="tab:orange", linewidth=1)
    axes.set(title=title, xlabel="byte", ylabel="count", xlim=(0, 256), yscale=scale)


def draw_analysis(subject: Subject, obj: OpenedObject, method: str, of: str, file: BinaryIO
                  ) -> None:
    """Write one figure: image, histogram of bytes, scatter of horizontal neighbours, before and
    after. No name and no tag stands in it, but the image does."""
    figure = new_figure(ANALYSIS_SIZE)
    made = one_output(subject, method, of)
    by = "sample" if subject.sample == 2 else "byte"
    before, title = _before(subject, obj)
    after = "sealed" if of == SEALED else f"block layer, {method}"
    axes = figure.subplots(2, 3)
    for row, picture, data, name in ((0, before, subject.data, title),
                                     (1, _shown(subject, made), made, f"after: {after}")):
        axes[row][0].imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes[row][0].set(title=name, xticks=[], yticks=[])
        when = name.partition(":")[0]
        scale = "linear" if row else "log"  # images have many zeros
        _histogram(axes[row][1], subject, data, f"bytes {when} ({scale}); orange: equal counts",
                   scale)
        _scatter(axes[row][2], subject, data, by, f"horizontal neighbours {when}")
    write_png(figure, file)


# ---- inspect -----------------------------------------------------------------


def method_map(obj: OpenedObject, number: int) -> dict[str, Any]:
    """Return which method transformed which block of a frame.

    {"frame", "rows", "bytes", "split", "blocks"} for native frames: rows, bytes of a row, bytes of
    the left blocks' rows, the four methods. {"frame", "units"} for compressed ones and those of
    single bits: length and methods of every unit that holds some of the frame's bytes.
    Raises FrameError.
    """
    offset, length = obj.frame_place(number)
    runs, methods = stream_runs(obj.container, PIXELS)
    if not runs:
        raise FrameError("the block layer was not used (method none): there is no map")
    unit, units = 0, []
    for run in runs:
        if len(run) == 5:
            start, size, rows, width, split = run
            at = (offset - start) // (rows * width)
            four = _four(methods[unit + at])
            return {"frame": number, "rows": rows, "bytes": width, "split": split,
                    "blocks": four}
        for n in range(unit_count(run)):
            start = run[0] + n * LINEAR_UNIT
            size = min(LINEAR_UNIT, run[0] + run[1] - start)
            if start < offset + length and start + size > offset:
                units.append({"length": size, "blocks": _four(methods[unit + n])})
        unit += unit_count(run)
    return {"frame": number, "units": units}


def _four(packed: int) -> list[str]:
    return [METHOD_NAMES[packed >> shift & 3] for shift in (0, 2, 4, 6)]


def draw_method_map(obj: OpenedObject, number: int, file: BinaryIO) -> dict[str, Any]:
    """Write a frame with its blocks in the colours of their methods; return `method_map`.

    Where the byte stream is divided, not the picture, it is drawn as a bar below.
    """
    figure = new_figure(MAP_SIZE)
    found = method_map(obj, number)
    from matplotlib.patches import Patch

    legend = [Patch(color=colour, alpha=0.6, label=name)
              for colour, name in zip(_COLOURS, METHOD_NAMES, strict=True)]
    if "blocks" in found:
        _over_frame(figure.subplots(), obj, found)
    else:
        top, bar = figure.subplots(2, 1, height_ratios=(6, 1))
        _picture(top, obj, number)
        _bar(bar, found["units"])
    figure.legend(handles=legend, loc="outside lower center", ncols=3)
    write_png(figure, file)
    return found


def _picture(axes: Axes, obj: OpenedObject, number: int) -> None:
    from ..objects.frames import as_picture

    axes.set(xticks=[], yticks=[])
    try:
        axes.imshow(as_picture(obj.frame_array(number), obj), cmap="gray")
        axes.set_title(f"frame {number}: its byte stream is divided, not the image")
    except FrameError as error:
        axes.set_title(f"frame {number} cannot be shown")
        axes.text(0.5, 0.5, str(error), ha="center", va="center", wrap=True)


def _over_frame(axes: Axes, obj: OpenedObject, found: dict[str, Any]) -> None:
    """The frame, its blocks coloured; colour by plane as it stands in the file, plane by plane."""
    from matplotlib.patches import Rectangle

    from ..objects.frames import as_picture

    rows, columns = found["rows"], obj.geometry.columns
    picture = as_picture(obj.frame_array(found["frame"]), obj)
    if picture.shape[0] != rows:  # planes
        picture = picture.transpose(2, 0, 1).reshape(rows, columns)
    axes.imshow(picture, cmap="gray")
    half, split = -(-rows // 2), found["split"] * columns // found["bytes"]
    for block, name in enumerate(found["blocks"]):
        y, height = (half, rows - half) if block & 2 else (0, half)
        x, width = (split, columns - split) if block & 1 else (0, split)
        colour = _COLOURS[METHOD_NAMES.index(name)]
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, facecolor=colour, alpha=0.35,
                                 edgecolor="white", linewidth=1.5))
        axes.text(x + width / 2, y + height / 2, f"block {block}\n{name}", ha="center",
                  va="center", color="white", weight="bold",
                  bbox={"facecolor": "black", "alpha": 0.5, "linewidth": 0})
    axes.set(title=f"frame {found['frame']}: the method of each block", xticks=[], yticks=[])


def _bar(axes: Axes, units: list[dict[str, Any]]) -> None:
    at = 0
    for unit in units[:_UNITS_SHOWN]:
        for k, name in enumerate(unit["blocks"]):
            start, end = (unit["length"] * n // 4 for n in (k, k + 1))
            axes.barh(0, end - start, left=at + start, edgecolor="white",
                      color=_COLOURS[METHOD_NAMES.index(name)], alpha=0.6)
        at += unit["length"]
    more = f" (the first {_UNITS_SHOWN} of {len(units)} units)" if len(units) > _UNITS_SHOWN else ""
    axes.set(xlim=(0, at), yticks=[], xlabel=f"byte of the frame's fragments{more}")
