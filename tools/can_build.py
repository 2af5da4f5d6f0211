"""Tell in one line what this Python lacks for `make`: a version, venv, a C compiler, Python.h.

    PYTHON tools/can_build.py

The compiler and its flags are those that the build will take: of CC, CPPFLAGS and CFLAGS, else
Python's own. Pythons that are too old for dicomcrypt must be able to run this.
"""

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig

DEBIAN = "Debian: apt-get install python3-venv python3-dev gcc"


def missing(environment, include):
    """Return a sentence on what is missing, or None; include is the folder of Python.h."""
    if sys.version_info < (3, 11):  # noqa: UP036
        version = ".".join(map(str, sys.version_info[:2]))
        return f"dicomcrypt needs Python 3.11 or newer, this one is {version}: set PYTHON=..."
    for name in ("venv", "ensurepip"):
        if importlib.util.find_spec(name) is None:
            return f"{sys.executable} lacks the module {name}. {DEBIAN}"
    compiler = shlex.split(environment.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = [f for n in ("CPPFLAGS", "CFLAGS") for f in shlex.split(environment.get(n, ""))]
    command = compiler + flags + ["-I", include, "-E", "-x", "c", "-"]
    try:
        done = subprocess.run(command, input=b"#include <Python.h>\n", env=environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError:
        return f"there is no C compiler {compiler[0]}. {DEBIAN}"
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        if "Python.h" in said.split("error:")[-1]:
            return f"{compiler[0]} finds no Python.h in {include}. {DEBIAN}"
        line = next((s for s in said.splitlines() if "error" in s), "it fails")
        return f"{compiler[0]} compiles nothing: {line.strip()}. {DEBIAN}"
    return None


if __name__ == "__main__":
    sys.exit(missing(dict(os.environ), sysconfig.get_path("include")))
