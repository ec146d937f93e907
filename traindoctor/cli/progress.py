"""What a command tells on stderr while it works."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def telling(*, quiet: bool) -> Iterator[Callable[[str], None] | None]:
    """Yield what tells the progress: a spinner on a terminal; None elsewhere, and where `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    from traindoctor.report.wording import clean

    console = Console(stderr=True, highlight=False)
    with console.status(Text("reading")) as status:
        yield lambda message: status.update(Text(clean(message, 100)))
