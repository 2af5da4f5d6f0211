"""Which input goes where."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ..errors import UsageError


def _base_name(path: str) -> str:
    name = os.path.basename(os.path.normpath(path))
    if name in ("", ".", ".."):
        name = os.path.basename(os.path.realpath(path))
    if not name:
        raise UsageError(f"{path!r} has no name to give to its output: give it alone")
    return name


def pair(
    inputs: Sequence[str], output: str | None, default_name: Callable[[str], str], verb: str,
    *, make: bool = True,
) -> list[tuple[str, str]]:
    """Pair each input with its output: beside it, under the given name, or in the folder.

    default_name: a file's output name from its own. make: whether the folder for several outputs
    is made. Raises UsageError.
    """
    if output == "":
        raise UsageError("the output's name is empty")
    folders = [path for path in inputs if os.path.isdir(path)]
    if folders and (output is None or output == "-"):
        raise UsageError(f"to {verb} the folder {folders[0]!r}, give --output FOLDER")
    if len(inputs) == 1:
        only = inputs[0]
        if only == "-":
            return [("-", output or "-")]
        if output is None:
            return [(only, default_name(only))]
        if not folders and (os.path.isdir(output) or output.endswith(os.sep)):
            return [(only, os.path.join(output, default_name(_base_name(only))))]
        return [(only, output)]
    if "-" in inputs or output == "-":
        raise UsageError("standard input and output take one file, not several")
    if output is None:
        return [(path, default_name(path)) for path in inputs]
    names = [_base_name(path) if path in folders else default_name(_base_name(path))
             for path in inputs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"several inputs are named {min(twice)!r}: {verb} their folder instead")
    if make:
        os.makedirs(output, exist_ok=True)
    return [(path, os.path.join(output, name)) for path, name in zip(inputs, names, strict=True)]
