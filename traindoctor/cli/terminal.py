"""Lines of styled words on stdout: how wide they may be, and whether in colour."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from traindoctor.cli.colour import in_colour

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.report.lines import Words

#: Columns of a text on a wide terminal at most, and where there is no terminal.
WIDEST, USUAL = 100, 88


def columns(narrowest: int = 30) -> int:
    """Return the columns of stdout: those of the terminal, within `narrowest` and `WIDEST`; else `USUAL`."""
    if not sys.stdout.isatty():
        return USUAL
    return max(narrowest, min(WIDEST, shutil.get_terminal_size((USUAL, 24)).columns))


def write_lines(lines: Iterable[Sequence[Words]]) -> None:
    """Print the lines, in colour where stdout gets colours."""
    from traindoctor.report.lines import ansi_text, plain_text

    sys.stdout.write((ansi_text if in_colour(sys.stdout) else plain_text)(lines))
