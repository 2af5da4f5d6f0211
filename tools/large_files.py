"""Refuse files of more than 500 kB: pictures of patients and archives do not belong here.

    python tools/large_files.py FILE...
"""

from __future__ import annotations

import pathlib
import sys

LIMIT = 500_000


def main(names: list[str]) -> int:
    large = [name for name in names if pathlib.Path(name).stat().st_size > LIMIT]
    for name in large:
        print(f"{name}: larger than {LIMIT // 1000} kB")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
