"""Lines of styled words: what a terminal shows in colour, and a file as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

#: Words with a style: "fault", "doubt", "note", "fine", "fix", "bold", "soft" or "" for none.
Words = tuple[str, str]
#: The same styles as SGR codes of a terminal, for what must not wait for rich.
ANSI = {"fault": "1;31", "doubt": "1;33", "note": "1;36", "fine": "1;32", "fix": "1;34", "bold": "1", "soft": "2"}
RICH = {
    "fault": "bold red",
    "doubt": "bold yellow",
    "note": "bold cyan",
    "fine": "bold green",
    "fix": "bold blue",
    "bold": "bold",
    "soft": "dim",
    "ink": "bold",
    "": "",
}
#: Width of the labels on the left.
MARGIN = 15


def plain_text(lines: Iterable[Sequence[Words]]) -> str:
    """Return the lines without their styles, each with a line break at its end."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def ansi_text(lines: Iterable[Sequence[Words]]) -> str:
    """Return the lines with their styles as escape sequences of a terminal."""
    return "".join("".join(f"\x1b[{ANSI[s]}m{t}\x1b[0m" if t and s in ANSI else t for t, s in line) + "\n" for line in lines)


def print_lines(lines: Iterable[Sequence[Words]], console: Console) -> None:
    """Print the lines to a terminal, in colour. No string of a log is read as markup."""
    from rich.text import Text

    for line in lines:
        made = Text(overflow="fold")
        for words, style in line:
            made.append(words, style=RICH[style])
        console.print(made, soft_wrap=True)


def entry(label: str, words: Sequence[Words], width: int) -> list[list[Words]]:
    """Return a labelled paragraph: the label in the margin, the words wrapped beside it."""
    body = wrapped(words, max(30, width - MARGIN))
    return [[(f"{label if i == 0 else '':<{MARGIN}}", "soft"), *line] for i, line in enumerate(body)]


def wrapped(words: Sequence[Words], width: int) -> list[list[Words]]:
    """Return styled words wrapped to a width, each keeping its style."""
    import textwrap

    whole = "".join(text for text, _ in words)
    styles = [style for text, style in words for _ in text]
    made: list[list[Words]] = []
    at = 0
    for line in textwrap.wrap(whole, width, break_on_hyphens=False, drop_whitespace=True) or [""]:
        at = whole.index(line, at) if line else at
        parts: list[Words] = []
        for character, style in zip(line, styles[at : at + len(line)], strict=True):
            if parts and parts[-1][1] == style:
                parts[-1] = (parts[-1][0] + character, style)
            else:
                parts.append((character, style))
        made.append(parts)
        at += len(line)
    return made


def cut(text: str, longest: int) -> str:
    """Return the text, with an ellipsis for what is beyond `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
