"""One file at a time, the command line needs no module that Unix alone has."""

import subprocess
import sys

import pytest

#: Hides the modules, then runs command lines, which `;` divides, in one process.
HIDDEN = """
import sys

for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
from dicomcrypt.cli import main

for line in " ".join(sys.argv[1:]).split(" ; "):
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{line}: {end.code}")
"""


@pytest.fixture
def hidden(command, tmp_path, dicom):
    """Run command lines in a folder with a file."""
    (tmp_path / "a.dcm").write_bytes(dicom.read_bytes())

    def run(lines):
        return subprocess.run(
            [sys.executable, "-c", HIDDEN, *lines.split()], cwd=tmp_path,
            env=command.environment(), capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    return run


def test_files_are_encrypted_and_read_without_the_modules_of_unix(hidden, tmp_path, dicom):
    done = hidden("""
        --help ; keygen -o a.key ; encrypt a.dcm -r a.pub ; verify a.dcm.dcmx -i a.key ;
        inspect a.dcm.dcmx -i a.key ; frame a.dcm.dcmx -i a.key -o a.npy ;
        decrypt a.dcm.dcmx -i a.key -o b.dcm
        """)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.dcm").read_bytes() == dicom.read_bytes()


def test_recipients_are_not_changed_where_no_lock_holds_the_change_together(hidden, tmp_path):
    made = hidden("keygen -o a.key ; encrypt a.dcm -r a.pub")
    assert made.returncode == 0, made.stderr
    before = (tmp_path / "a.dcm.dcmx").read_bytes()
    done = hidden("rewrap a.dcm.dcmx -i a.key --add a.pub")
    assert "a.dcm.dcmx: this system has no file locks" in done.stderr
    assert "rewrap a.dcm.dcmx -i a.key --add a.pub: 2" in done.stderr
    assert (tmp_path / "a.dcm.dcmx").read_bytes() == before
