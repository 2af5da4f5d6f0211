"""`python -m dicomcrypt`, and the command `dicomcrypt`."""

import sys


def main() -> None:
    """Run the command line; who interrupts it while it is imported sees no traceback either."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("dicomcrypt: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
