"""Lines of styled words: what a terminal shows in colour, and a file as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Words with a style: "fault", "doubt", "note", "fine", "fix", "bold", "soft" or "" for none.
Words = tuple[str, str]
#: The same styles as SGR codes of a terminal.
ANSI = {
    "fault": "1;31",
    "doubt": "1;33",
    "note": "1;36",
    "fine": "1;32",
    "fix": "1;34",
    "bold": "1",
    "soft": "2",
    "ink": "1",
}
#: Width of the labels on the left, and what stands there on a terminal too narrow for both them and a text.
MARGIN = 15
INDENT = 2
#: Columns that a text beside its label has at least.
NARROWEST = 30


def plain_text(lines: Iterable[Sequence[Words]]) -> str:
    """Return the lines without their styles, each with a line break at its end."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def ansi_text(lines: Iterable[Sequence[Words]]) -> str:
    """Return the lines with their styles as escape sequences of a terminal."""
    return "".join("".join(f"\x1b[{ANSI[s]}m{t}\x1b[0m" if t and s in ANSI else t for t, s in line) + "\n" for line in lines)


def margin(width: int) -> int:
    """Return the columns to the left of a text: those of the labels, or fewer where the labels stand above it."""
    return MARGIN if width - MARGIN >= NARROWEST else INDENT


def entry(label: str, words: Sequence[Words], width: int, most: int = 1000) -> list[list[Words]]:
    """Return a labelled paragraph: the label in the margin, the words wrapped beside it, in at most so many lines.

    On a narrow terminal the label has a line of its own above.
    """
    left = margin(width)
    body = shortened(wrapped(words, max(1, width - left)), most, max(1, width - left))
    if left == MARGIN:
        return [[(f"{label if i == 0 else '':<{MARGIN}}", "soft"), *line] for i, line in enumerate(body)]
    return [*([[(label, "soft")]] if label else []), *([(" " * left, ""), *line] for line in body)]


def shortened(lines: list[list[Words]], most: int, width: int) -> list[list[Words]]:
    """Return the lines up to so many, with an ellipsis for the others within the width."""
    if len(lines) <= most:
        return lines
    *begun, (text, style) = lines[most - 1]
    if sum(len(words) for words, _ in lines[most - 1]) >= width:
        text = text.rpartition(" ")[0] or text[:-1]
    return [*lines[: most - 1], [*begun, (f"{text.rstrip(' .,;:')}…", style)]]


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
