"""The card service of the system (pcscd) with two virtual readers (vpcd): what both need to run."""

from __future__ import annotations

import pathlib
import shutil

DRIVER = pathlib.Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
#: As programs see them.
NAMES = ("HPJC 00 00", "HPJC 00 01")
_CONFIGURATION = """\
FRIENDLYNAME "HPJC"
DEVICENAME   /dev/null:0x8C7B
LIBPATH      {driver}
CHANNELID    0x8C7B
"""


def find_pcscd() -> str | None:
    """Return where pcscd is; /usr/sbin need not be on the path."""
    return shutil.which("pcscd") or shutil.which("pcscd", path="/usr/sbin:/usr/local/sbin")


def write_configuration(folder: pathlib.Path) -> None:
    """Describe the readers in a folder for pcscd's --config."""
    folder.mkdir()
    (folder / "vpcd").write_text(_CONFIGURATION.format(driver=DRIVER))


def missing() -> list[str]:
    """Return the Debian packages that are missing: for namespaces, the service and its driver."""
    found = {
        "pcscd": find_pcscd(), "vsmartcard-vpcd": DRIVER.exists(),
        "iproute2": shutil.which("ip"), "util-linux": shutil.which("unshare"),
    }  # fmt: skip
    return [package for package, there in found.items() if not there]
