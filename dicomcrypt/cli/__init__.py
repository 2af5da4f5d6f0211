"""The command line. Terminal rules are in `console`, one module a group of commands."""

from __future__ import annotations

import os
import sys
from importlib import import_module

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
    "vault": "vault",
    "bench": "bench",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(import_module(f".{COMMANDS[name]}", __name__), name)


@click.group(
    cls=LazyGroup,
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


def main() -> None:
    """Run the command line; the process ends with the status of architecture.md."""
    import signal

    from .console import complain

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as cleanly as by ctrl-C
    try:
        status = cli.main(prog_name="dicomcrypt", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        from ..objects.atomic import remove_unfinished

        remove_unfinished()
        complain("interrupted: the same command goes on where it stopped")
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    except Exception as error:
        from ..errors import DicomcryptError

        if isinstance(error, DicomcryptError):
            complain(str(error))
            status = error.exit_status
        elif isinstance(error, OSError):
            name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
            complain(f"{name}{(error.strerror or str(error)).lower()}")
            status = 1
        else:
            raise
    sys.exit(status if isinstance(status, int) else 0)
