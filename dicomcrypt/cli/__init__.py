"""The command line. Terminal rules are in `console`, one module a group of commands."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from .._version import __version__

#: Each command's module here, imported when the command is used: start-up counts.
COMMANDS = {
    "keygen": "keygen",
    "key": "key",
    "encrypt": "crypt",
    "decrypt": "crypt",
    "inspect": "objects",
    "verify": "objects",
    "frame": "objects",
    "rewrap": "objects",
    "analyze": "analyze",
    "policy": "policy",
    "audit": "audit",
    "pki": "pki",
    "vault": "vault",
    "card": "card",
    "otp": "otp",
    "prescription": "prescription",
    "standard": "standard",
    "bench": "bench",
}


#: Commands whose jobs on folders go on when they are given again, by their first words.
RESUMING = ("encrypt", "decrypt", "rewrap", "verify", "vault add", "vault get", "vault share",
            "vault rewrap", "standard protect", "standard reveal")


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

    modules: where each command is: `module` of this package, whose variable has the command's name
    with _ for -, or `module:variable`."""

    def __init__(self, *args: Any, modules: dict[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.modules:
            return None
        module, _, variable = self.modules[name].partition(":")
        found: click.Command = getattr(import_module(f".{module}", __name__),
                                       variable or name.replace("-", "_"))
        return found


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  dicomcrypt keygen -o doctor.key                    makes doctor.key and doctor.pub
  dicomcrypt encrypt archive/ -r doctor.pub -o safe/
  dicomcrypt decrypt safe/ -i doctor.key -o back/
  dicomcrypt inspect safe/ct.dcm.dcmx -i doctor.key
  dicomcrypt frame safe/us.dcm.dcmx -n 3 -i doctor.key -o frame.png

\b
Exit status: 0 all done, 1 some inputs failed, 2 wrong usage, 3 no identity fits,
4 damaged or forged, 5 refused by policy, 6 card or reader trouble, 130 interrupted.
""",
)
@click.version_option(__version__, prog_name="dicomcrypt")
def cli() -> None:
    """Encrypt DICOM files and archives, and get every byte back.

    Every file is taken, DICOM or not, broken or not, and comes back byte for byte.
    """


def _record_refusal(words: list[str]) -> None:
    """Put into the audit log, if there is one, what was refused before its job began."""
    from ..errors import DicomcryptError
    from . import auditing
    from .console import complain

    try:
        auditing.refused(words)
    except (DicomcryptError, OSError) as error:
        complain(f"the refusal is not in the audit log: {error}")


def main() -> None:
    """Run the command line; the process ends with the status of architecture.md."""
    try:
        import signal
        import warnings

        from . import auditing

        auditing.begun = False
        warnings.filterwarnings("ignore", "Attribute's length")  # of long names in certificates
        warnings.filterwarnings("ignore", module=r"pydicom\b")  # they quote the file's values
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as cleanly as by ctrl-C
        status = cli.main(prog_name="dicomcrypt", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        from ..objects.atomic import remove_unfinished
        from .console import complain

        remove_unfinished()
        resumes = any(" ".join(sys.argv[1:n]) in RESUMING for n in (2, 3))
        complain("interrupted: the same command goes on where it stopped" if resumes
                 else "interrupted")
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    except Exception as error:
        from ..errors import DicomcryptError, PolicyError
        from ..regular import reason
        from .console import complain

        if isinstance(error, DicomcryptError):
            complain(str(error))
            status = error.exit_status
            if isinstance(error, PolicyError):
                _record_refusal(sys.argv[1:3])
        elif isinstance(error, OSError):
            name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
            complain(f"{name}{reason(error)}")
            status = 1
        else:
            raise
    sys.exit(status if isinstance(status, int) else 0)
