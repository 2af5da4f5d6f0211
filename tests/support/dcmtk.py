"""Programs of dcmtk."""

import functools
import os
import shutil
import subprocess

from tests.conftest import need


@functools.cache
def dcmtk(name):
    """The path of a program of dcmtk: pynetdicom brings others of these names."""
    for folder in os.get_exec_path():
        path = shutil.which(name, path=folder)
        if path and b"dcmtk" in subprocess.run([path, "--version"], check=False,
                                               capture_output=True).stdout:
            return path
    return need(f"dcmtk-{name}", "dcmtk")
