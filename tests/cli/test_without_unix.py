"""One file at a time, the command line needs no module that Unix alone has."""

import subprocess
import sys

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


def test_files_are_encrypted_and_read_without_the_modules_of_unix(command, tmp_path, dicom):
    (tmp_path / "a.dcm").write_bytes(dicom.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, *"""
        --help ; keygen -o a.key ; encrypt a.dcm -r a.pub ; verify a.dcm.dcmx -i a.key ;
        inspect a.dcm.dcmx -i a.key ; frame a.dcm.dcmx -i a.key -o a.npy ;
        rewrap a.dcm.dcmx -i a.key --add a.pub ; decrypt a.dcm.dcmx -i a.key -o b.dcm
        """.split()], cwd=tmp_path, env=command.environment(), capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.dcm").read_bytes() == dicom.read_bytes()
