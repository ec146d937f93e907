"""Whether a stream gets colours."""

from __future__ import annotations

import os


def in_colour(stream: object) -> bool:
    """Return whether a stream gets colours: a terminal does, unless NO_COLOR is set; FORCE_COLOR gives them to all."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return bool(getattr(stream, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"
