"""Comments that silence a finding: `# traindoctor: ignore[TD301] -- reason` at a line, `ignore-file[...]` for a whole file.

A comment speaks for the statement it stands in, whatever line of it; on a line of its own, for the statement below.
There is none without codes: what nobody can read from the file should not be silenced by it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.check.sources import SUPPRESSION, lines_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from traindoctor.check.findings import Found
    from traindoctor.check.sources import Source

_COMMENT = re.compile(r"#\s*traindoctor:\s*(?P<verb>[\w-]*)\s*(?:\[(?P<codes>[^\]]*)\])?(?P<rest>.*)")
_QUOTED = re.compile(r""" "(?:\\.|[^"\\])*" | '[^']*' """, re.VERBOSE)
_REASON = re.compile(r"\s*(?:--|:|—)\s*(?P<reason>\S.*)")

RemarkKind = Literal["unused", "blanket", "unknown", "no-reason"]


class Remark(NamedTuple):
    """What is to be said of a suppression comment: nothing needs it, it names no code or none that is known, it has no reason."""

    kind: RemarkKind
    file: str
    line: int
    column: int
    cell: int
    codes: tuple[str, ...]
    message: str


class Suppression(NamedTuple):
    """A comment that silences codes on lines `first` to `last` of a text; `line` and `column` are the comment's own."""

    codes: tuple[str, ...]
    first: int
    last: int
    line: int
    column: int
    reason: str


class Judged(NamedTuple):
    """The findings that stay, those that a comment silences, and what is to be said of the comments."""

    kept: list[Found]
    silenced: list[Found]
    remarks: list[Remark]


def judge(source: Source, found: Iterable[Found], active: Collection[str], known: Collection[str]) -> Judged:
    """Return the findings that no comment of the file silences, and what is wrong with the comments.

    `active`: the codes that were looked for: a comment for another is not called unused. `known`: all codes that there are.
    """
    comments = list(_comments(source))
    made, remarks = _suppressions(source, comments, known)
    used: set[tuple[int, str]] = set()
    kept: list[Found] = []
    silenced: list[Found] = []
    for one in found:
        place = one.mistake.location
        line = place.line + _first_line(source, place.cell) - 1
        hits = [i for i, s in enumerate(made) if one.code in s.codes and s.first <= line <= s.last]
        used.update((i, one.code) for i in hits)
        (silenced if hits else kept).append(one)
    for i, suppression in enumerate(made):
        idle = tuple(code for code in suppression.codes if code in active and (i, code) not in used)
        if idle:
            remarks.append(_remark(source, suppression, "unused", idle, f"nothing here needs [{', '.join(idle)}]: delete it"))
        elif not suppression.reason:
            advice = f"say why: # traindoctor: ignore[{','.join(suppression.codes)}] -- reason"
            remarks.append(_remark(source, suppression, "no-reason", suppression.codes, advice))
    return Judged(kept, silenced, sorted(remarks, key=lambda r: (r.file, r.cell, r.line, r.column)))


def _suppressions(
    source: Source, comments: list[tuple[int, int, str, int, int]], known: Collection[str]
) -> tuple[list[Suppression], list[Remark]]:
    made: list[Suppression] = []
    remarks: list[Remark] = []
    for line, column, text, first, last in comments:
        match = _COMMENT.search(text)
        if match is None:
            continue
        verb, listed = match["verb"], match["codes"]
        reason = _REASON.match(match["rest"])
        codes = tuple(code.strip().upper() for code in (listed or "").split(",") if code.strip())
        one = Suppression(codes, first, last, line, column, reason["reason"].strip() if reason else "")
        if verb not in ("ignore", "ignore-file"):
            what = f"{verb!r} is not known: write # traindoctor: ignore[TD301] -- reason"
            remarks.append(_remark(source, one, "unknown", (), what))
        elif not codes:
            remarks.append(
                _remark(source, one, "blanket", (), f"names no code, and silences nothing: write {verb}[TD301] -- reason")
            )
        else:
            strange = tuple(code for code in codes if code not in known)
            if strange:
                remarks.append(_remark(source, one, "unknown", strange, f"no rule has the code {', '.join(strange)}"))
            one = one._replace(codes=tuple(code for code in codes if code in known))
            made.append(one._replace(first=0, last=len(source.text)) if verb == "ignore-file" else one)
    return made, remarks


def _remark(source: Source, one: Suppression, kind: RemarkKind, codes: tuple[str, ...], message: str) -> Remark:
    line, cell = one.line, 0
    for c in source.notebook.cells if source.notebook is not None else ():
        if c.first_line <= one.line:
            line, cell = one.line - c.first_line + 1, c.number
    return Remark(kind, source.file, line, one.column, cell, codes, message)


def _first_line(source: Source, cell: int) -> int:
    cells = source.notebook.cells if source.notebook is not None and cell else ()
    return next((c.first_line for c in cells if c.number == cell), 1)


def _comments(source: Source) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield each comment that speaks to traindoctor: its line, column and text, and the lines of the statement it is for."""
    if source.kind == "config" and not source.file.endswith(".py"):
        yield from _of_lines(source)
    else:
        yield from _of_python(source.text)


def _of_python(text: str) -> Iterator[tuple[int, int, str, int, int]]:
    import io
    import tokenize

    waiting: list[tuple[int, int, str]] = []
    first = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline=None).readline):
            if token.type == tokenize.COMMENT:
                if SUPPRESSION in token.string:
                    waiting.append((token.start[0], token.start[1] + 1, token.string))
            elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
                for line, column, comment in waiting:
                    yield line, column, comment, min(first or line, line), token.start[0]
                waiting, first = [], 0
            elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and not first:
                first = token.start[0]
    except (tokenize.TokenError, IndentationError):
        return


def _of_lines(source: Source) -> Iterator[tuple[int, int, str, int, int]]:
    waiting: list[tuple[int, int, str]] = []
    first = depth = 0
    lines = lines_of(source.text)
    for number, line in enumerate(lines, 1):
        at = line.find("#")
        while at > 0 and not line[at - 1].isspace():  # a "#" inside a word begins no comment
            at = line.find("#", at + 1)
        comment = re.search(r"(?:^|(?<=\s))#\s*traindoctor:.*", line)
        if comment is not None:
            waiting.append((number, comment.start() + 1, comment[0]))
        body = (line[:at] if at >= 0 else line).rstrip()
        if not body.strip():
            continue
        first = first or number
        bare = _QUOTED.sub("", body)
        depth = max(0, depth + sum(bare.count(sign) for sign in "[{") - sum(bare.count(sign) for sign in "]}"))
        if body.endswith("\\") or (depth and body.endswith(("[", "{", ","))):
            continue
        for place, column, text in waiting:
            yield place, column, text, min(first, place), number
        waiting, first, depth = [], 0, 0
    for place, column, text in waiting:
        yield place, column, text, place, len(lines)
