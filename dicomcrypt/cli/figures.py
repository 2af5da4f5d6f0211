"""Where commands put figures."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError


def figure_place(path: str) -> None:
    """Refuse what cannot be drawn before there is work.

    Raises UsageError for another ending than .png, MissingExtraError."""
    from ..analysis.figures import need_matplotlib

    if Path(path).suffix.lower() != ".png":
        raise UsageError("the figure's name must end in .png")
    need_matplotlib()
