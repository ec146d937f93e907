"""The result of a check for a terminal: each finding with its lines of source, or one line each, and a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.report.lines import wrapped
from traindoctor.report.wording import begun, clean, plural, stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.check.findings import Found
    from traindoctor.check.results import FileResult, Result
    from traindoctor.check.sources import Source
    from traindoctor.mistake import Location
    from traindoctor.report.lines import Words

TONES = {"error": "fault", "warning": "doubt", "info": "note"}
TAB = 4
#: Places beside the finding's own that an excerpt shows.
MOST_PLACES = 4
#: Lines of context between two shown ones that are shown too, rather than left out.
NEAR = 2


class Mark(NamedTuple):
    """Characters of a line that are underlined, with words beside them; `main`: the finding's own."""

    line: int
    start: int
    stop: int
    words: str
    main: bool


def concise_lines(result: Result) -> list[list[Words]]:
    """Return one line for each finding: place, severity, code, name and message."""
    lines: list[list[Words]] = []
    for file in result.files:
        for one in file.findings:
            repair = one.mistake.repair
            fix = "" if repair is None else " [*]" if repair.safe else " [**]"
            lines.append([*_head(one), (": " + clean(one.mistake.message, 2000), ""), (fix, "fix")])
        for remark in file.remarks:
            place = f"{clean(file.file)}:{_at(remark.cell, remark.line, remark.column)}: "
            lines.append([(place, "bold"), ("note", "note"), (f" suppression-comment: {clean(remark.message)}", "")])
    return lines


def full_lines(result: Result, width: int) -> list[list[Words]]:
    """Return each finding with its source, what it means and the way out, wrapped to a width."""
    lines: list[list[Words]] = []
    for file in result.files:
        for one in file.findings:
            lines += [*_finding(one, file, width), []]
        for remark in file.remarks:
            head = f"{clean(file.file)}:{_at(remark.cell, remark.line, remark.column)}: "
            place = _Place(remark.line, remark.column, remark.cell)
            lines += [[(head, "bold"), ("note", "note"), (" suppression-comment", "bold")]]
            lines += _indented([(stopped(clean(remark.message)), "")], width)
            lines += [*_excerpt(file.source, [_whole_rest(file.source, place)], place.cell, width), []]
    return lines


def _at(cell: int, line: int, column: int) -> str:
    return f"cell {cell}:{line}:{column}" if cell else f"{line}:{column}"


class _Place(NamedTuple):
    line: int
    column: int
    cell: int


def _head(one: Found) -> list[Words]:
    place = one.mistake.location
    severity = str(one.mistake.severity)
    return [
        (f"{clean(place.file)}:{_at(place.cell, place.line, place.column)}: ", "bold"),
        (severity, TONES[severity]),
        (f" {one.code}", TONES[severity]),
        (f" {one.name}", "bold"),
    ]


def _finding(one: Found, file: FileResult, width: int) -> list[list[Words]]:
    mistake = one.mistake
    lines = [_head(one), *_indented([(stopped(clean(mistake.message, 2000)), "")], width)]
    here = [(place, words) for place, words in mistake.related if (place.file, place.cell) == _where(mistake.location)]
    marks = [_mark(file.source, mistake.location, "", main=True)]
    marks += [_mark(file.source, place, clean(words, 200), main=False) for place, words in here[:MOST_PLACES]]
    lines += _excerpt(file.source, marks, mistake.location.cell, width)
    notes: list[tuple[str, list[Words]]] = []
    if mistake.advice:
        notes.append(("help", [(begun(stopped(clean(mistake.advice, 2000))), "")]))
    if mistake.repair is not None:
        option = "--fix" if mistake.repair.safe else "--unsafe-fixes"
        notes.append(("fix", [(begun(clean(mistake.repair.title, 500).rstrip(".")), "fix"), (f" ({option})", "soft")]))
    others = [(place, words) for place, words in mistake.related if (place.file, place.cell) != _where(mistake.location)]
    for place, words in others[:MOST_PLACES]:
        notes.append(("see", [(f"{clean(place.text)}:{place.column}", "bold"), (f" {clean(words, 200)}", "")]))
    for label, told in notes:
        body = wrapped(told, max(30, width - 8))
        lines += [[("  " + (f"{label}:" if i == 0 else "").ljust(6), "soft"), *line] for i, line in enumerate(body)]
    return lines


def _where(place: Location) -> tuple[str, int]:
    return place.file, place.cell


def _indented(words: Sequence[Words], width: int) -> list[list[Words]]:
    return [[("  ", ""), *line] for line in wrapped(words, max(30, width - 2))]


# -- excerpts ---------------------------------------------------------------------------------------------------------


def _mark(source: Source, place: Location, words: str, *, main: bool) -> Mark:
    line = source.line(place.line, place.cell)
    stop = place.end_column - 1 if place.end_line == place.line else len(line.rstrip())
    if not place.end_line:
        stop = place.column
    start = min(max(0, place.column - 1), len(line))
    return Mark(place.line, start, max(min(stop, len(line)), start + 1), words, main)


def _whole_rest(source: Source, place: _Place) -> Mark:
    line = source.line(place.line, place.cell)
    return Mark(place.line, place.column - 1, max(len(line.rstrip()), place.column), "", True)


def _excerpt(source: Source, marks: Sequence[Mark], cell: int, width: int) -> list[list[Words]]:
    """Return the marked lines of a source with a line before and after the main one, underlined, between two empty lines."""
    if not source.text:
        return []
    by_line: dict[int, list[Mark]] = {}
    for mark in marks:
        by_line.setdefault(mark.line, []).append(mark)
    main = next(mark.line for mark in marks if mark.main)
    numbers = _numbers(by_line, main)
    texts = {number: source.line(number, cell) for number in numbers}
    while numbers and numbers[0] not in by_line and not texts[numbers[0]].strip():
        numbers.pop(0)
    while numbers and numbers[-1] not in by_line and not texts[numbers[-1]].strip():
        numbers.pop()
    gutter = max(4, len(str(numbers[-1])) + 2)
    lines: list[list[Words]] = [[]]
    previous = numbers[0]
    for number in numbers:
        if number > previous + 1:
            lines.append([("...".rjust(gutter), "soft")])
        previous = number
        lines += _line(number, texts[number], by_line.get(number, []), gutter, width)
    return [*lines, []]


def _numbers(by_line: dict[int, list[Mark]], main: int) -> list[int]:
    """Return the numbers of the lines to show: the marked ones, those around the main one, and short gaps filled."""
    wanted = sorted({*by_line, main + 1, *([main - 1] if main > 1 else [])})
    made: list[int] = []
    for number in wanted:
        if made and number - made[-1] <= NEAR:
            made += range(made[-1] + 1, number)
        made.append(number)
    return made


def _line(number: int, text: str, marks: Sequence[Mark], gutter: int, width: int) -> Iterator[list[Words]]:
    """Yield a line of source with its number, and the underlines below it."""
    room = max(20, width - gutter - 3)
    main = min(marks, key=lambda mark: not mark.main, default=None)
    cells, columns = _unrolled(text)
    first = 0
    if len(cells) > room:
        start = columns[main.start] if main is not None else 0
        stop = columns[min(main.stop, len(columns) - 1)] if main is not None else 0
        if stop > room - 1:
            first = max(0, min(start - room // 3, len(cells) - room + 1))
    body = cells[first : first + room]
    if first:
        body[:2] = ["…", body[1] or " "]
    if len(cells) > first + room:
        body[-2:] = [body[-2] if body[-1] else " ", "…"]
    is_main = any(mark.main for mark in marks)
    yield [(f"{number}".rjust(gutter), "bold" if is_main else "soft"), (" | ", "soft"), ("".join(body), "" if marks else "soft")]
    for mark in sorted(marks, key=lambda mark: not mark.main):
        start = max(0, columns[min(mark.start, len(columns) - 1)] - first)
        length = columns[min(mark.stop, len(columns) - 1)] - first - start
        length = max(1, min(length, room - start))
        sign, tone = ("^", "fault") if mark.main else ("-", "note")
        beside = mark.words if start + length + 1 + _cells(mark.words) <= room else ""
        yield [(" " * gutter, ""), (" | ", "soft"), (" " * start, ""), (f"{sign * length} {beside}".rstrip(), tone)]
        if mark.words and not beside:
            under = max(0, min(start, room - _cells(mark.words)))
            yield [(" " * gutter, ""), (" | ", "soft"), (" " * under, ""), (mark.words, tone)]


def _unrolled(text: str) -> tuple[list[str], list[int]]:
    """Return a line as what stands in each cell of a terminal, and the cell of each of its characters.

    Tabs are blanks, and what cannot be seen is written out. Of a wide character the second cell is empty; an accent stands in
    the cell of its letter.
    """
    cells: list[str] = []
    columns = []
    for character in text.rstrip("\r\n"):
        columns.append(len(cells))
        if character == "\t":
            cells += " " * (TAB - len(cells) % TAB)
        elif (width := _cells(character)) == 1:
            cells += clean(character)
        elif width:
            cells += [character, ""]
        elif cells:
            cells[-1] += character
    return cells, [*columns, len(cells)]


def _cells(text: str) -> int:
    """Return the width of a text on a terminal: two for the wide characters of East Asia and emoji, none for accents."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


# -- the end ----------------------------------------------------------------------------------------------------------


class Hidden(NamedTuple):
    """What the result does not show: findings below the level, those that comments silence."""

    n_below: int = 0
    n_silenced: int = 0


def summary(result: Result, hidden: Hidden, n_fixed: int = 0) -> list[Words]:
    """Return the last line: "Found 3 errors and 1 warning in 12 files (2 fixable with --fix)."."""
    found = [one for file in result.files for one in file.findings]
    files = plural(len(result.files), "file")
    counts = [(plural(n, word), TONES[severity]) for severity, word in _WORDS if (n := _count(found, severity))]
    asides = []
    if n_safe := sum(one.mistake.repair is not None and one.mistake.repair.safe for one in found):
        asides.append(f"{n_safe} fixable with --fix")
    if n_more := sum(one.mistake.repair is not None and not one.mistake.repair.safe for one in found):
        asides.append(f"{n_more} {'more ' if n_safe else ''}with --unsafe-fixes")
    if hidden.n_below:
        asides.append(f"{hidden.n_below} more with --level info")
    if hidden.n_silenced:
        asides.append(f"{hidden.n_silenced} silenced by comments")
    if result.n_known:
        asides.append(f"{result.n_known} in the baseline")
    if result.n_links:
        asides.append(f"{plural(result.n_links, 'link')} to folders not followed: name them")
    tail = f" ({'; '.join(asides)})" if asides else ""
    fixed: list[Words] = [(f"Repaired {plural(n_fixed, 'mistake')}. ", "fix")] if n_fixed else []
    if not result.files:
        return [*fixed, ("No training code or training config found", "bold"), (f"{_looked(result)}{tail}.", "")]
    if not counts:
        return [*fixed, ("No mistake found", "fine"), (f" in {files}{tail}.", "")]
    words: list[Words] = [*fixed, ("Found ", "bold")]
    for i, (text, tone) in enumerate(counts):
        words += [("" if i == 0 else " and " if i == len(counts) - 1 else ", ", "bold"), (text, tone)]
    return [*words, (f" in {files}{tail}.", "")]


_WORDS = (("error", "error"), ("warning", "warning"), ("info", "note"))


def _looked(result: Result) -> str:
    return f" in {plural(result.n_other, 'file')}" if result.n_other else ""


def _count(found: Sequence[Found], severity: str) -> int:
    return sum(one.mistake.severity == severity for one in found)


def unread_lines(result: Result) -> list[list[Words]]:
    """Return what lies in a folder and could not be checked, one line each; what was asked for by name is told elsewhere."""
    return [
        [("not checked: ", "doubt"), (f"{clean(one.file)}{f':{one.line}' if one.line else ''}: {clean(one.reason, 500)}", "")]
        for one in result.not_checked
        if not one.asked
    ]


def statistics_lines(result: Result) -> list[list[Words]]:
    """Return how often each code was found, the most frequent first."""
    counts: dict[tuple[str, str], list[str]] = {}
    for file in result.files:
        for one in file.findings:
            counts.setdefault((one.code, one.name), []).append(str(one.mistake.severity))
    rows = sorted(counts.items(), key=lambda row: (-len(row[1]), row[0]))
    width = max((len(str(len(found))) for found in counts.values()), default=1)
    lines: list[list[Words]] = []
    for (code, name), found in rows:
        worst = min(found, key=list(TONES).index)
        lines.append([(f"{len(found):>{width}}  ", "bold"), (code, TONES[worst]), (f"  {name}", "")])
    return lines
