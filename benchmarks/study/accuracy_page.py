"""The rows of a scored study as docs/accuracy.md (text: accuracy_page.md.in) and its picture."""

from __future__ import annotations

import math
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from accuracy import (
    TIERS,
    Bin,
    Row,
    Share,
    calibration_error,
    confusions,
    grouped,
    onset_error,
    reliability,
    share_of,
    stated,
    wilson,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from others import Tool

TEXT = Path(__file__).with_name("accuracy_page.md.in")
PICTURE = "pictures/calibration.svg"
#: The part that the tables of single causes are of: the first of these that was scored.
SHOWN = ("held-back-2", "held-back")
#: Styles of sound runs with fewer runs share a line.
COMMON = 3


def page(rows: Sequence[Row], others: Mapping[str, Sequence[Row]], tools: Sequence[Tool], names: Mapping[str, str]) -> str:
    """Return the page. `others`: tool -> its rows on the same runs; `names`: code -> name of the cause."""
    parts = grouped(rows, lambda r: r.truth.part)
    seen = shown(rows)
    sound = [r for r in seen if r.truth.sound]
    answers, everything = stated(seen), stated(seen, undecided=True)
    return Template(TEXT.read_text(encoding="utf-8")).substitute(
        counts=", ".join(f"{len(some)} in the part {part}" for part, some in parts.items()),
        part=seen[0].truth.part,
        in_short=in_short(parts),
        tiers=by_tier(seen),
        causes=by_cause(seen, names),
        n_sound=len(sound),
        alarms=alarms(sound, names),
        n_undecided=sum(r.answer.verdict == "undecided" and not r.alarmed for r in sound),
        styles=by_style(sound),
        named_error=number(calibration_error(answers)),
        n_named=len(answers),
        stated_error=number(calibration_error(everything)),
        n_stated=len(everything),
        reliability=reliability_table(reliability(everything)),
        onset=onset(seen),
        several=several(seen),
        instead=instead(seen, names),
        others=compared(seen, {name: shown(some) for name, some in others.items()}, tools),
        pins=" ".join(f"{tool.name}=={tool.version}" for tool in tools),
    )


def shown(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the tables of single causes and the picture are of: those held back last, all where none is."""
    parts = {r.truth.part for r in rows}
    part = next((one for one in SHOWN if one in parts), None)
    return [r for r in rows if part in (None, r.truth.part)]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def percent(share: Share, *, interval: bool = False) -> str:
    """Return "87.5 % (7/8)", with the 95 % interval where it is asked for; a dash of none."""
    if not share.total:
        return "-"
    low, high = share.interval
    bounds = f"; {100 * low:.1f} to {100 * high:.1f}" if interval else ""
    return f"{100 * share.value:.1f} % ({share}{bounds})"


def number(value: float, digits: int = 3) -> str:
    """Return the number, a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def first_right(rows: Iterable[Row]) -> Share:
    """Return how many faults with a rule were named first."""
    return share_of([r for r in rows if r.truth.known], lambda r: r.right)


def pair_for_half(rows: Iterable[Row]) -> Share:
    """Return the same with a half for a right pair."""
    return share_of([r for r in rows if r.truth.known], lambda r: r.points)


def in_three(rows: Iterable[Row]) -> Share:
    """Return how many are among the first three."""
    return share_of([r for r in rows if r.truth.known], lambda r: r.right_in_three)


def false_alarms(rows: Iterable[Row]) -> Share:
    """Return how many sound runs were alarmed."""
    return share_of([r for r in rows if r.truth.sound], lambda r: r.alarmed)


def in_short(parts: Mapping[str, Sequence[Row]]) -> str:
    """Return the headline figures, a column for each part."""
    lines = [
        ["first cause right", *(percent(first_right(some), interval=True) for some in parts.values())],
        ["a pair counts half", *(percent(pair_for_half(some)) for some in parts.values())],
        ["among the first three", *(percent(in_three(some)) for some in parts.values())],
        *(
            [f"tier {tier}, a pair counts half", *(percent(pair_for_half(of_tier(some, tier))) for some in parts.values())]
            for tier, holds in TIERS.items()
        ),
        ["sound runs with an alarm", *(percent(false_alarms(some), interval=True) for some in parts.values())],
        ["expected calibration error", *(number(calibration_error(stated(some))) for some in parts.values())],
        ["onset, median miss in steps", *(number(onset_error(some).steps, 0) for some in parts.values())],
    ]
    return table(["", *parts], lines)


def of_tier(rows: Iterable[Row], tier: int) -> list[Row]:
    """Return the runs whose log holds so much."""
    return [r for r in rows if r.truth.tier == tier]


def by_tier(rows: Sequence[Row]) -> str:
    """Return the figures by what the log holds, and with and without a config beside it."""
    groups = {holds: of_tier(rows, tier) for tier, holds in TIERS.items()}
    groups |= {
        f"any of these, {word} a config": [r for r in rows if r.truth.config is (word == "with")] for word in ("with", "without")
    }
    return table(
        ["The log holds", "first cause right", "a pair counts half", "among the first three", "alarms on sound runs"],
        (
            [
                holds,
                percent(first_right(some)),
                percent(pair_for_half(some)),
                percent(in_three(some)),
                percent(false_alarms(some), interval=True),
            ]
            for holds, some in groups.items()
        ),
    )


def by_cause(rows: Iterable[Row], names: Mapping[str, str]) -> str:
    """Return a line for each expected cause."""
    groups = grouped((r for r in rows if r.truth.known), lambda r: r.truth.expected[0])
    return table(
        ["Code", "Cause", "first", "a pair half", "first three", *(f"tier {tier}" for tier in TIERS)],
        (
            [
                code,
                names.get(code, ""),
                first_right(some),
                pair_for_half(some),
                in_three(some),
                *(first_right(of_tier(some, tier)) for tier in TIERS),
            ]
            for code, some in groups.items()
        ),
    )


def alarms(sound: Iterable[Row], names: Mapping[str, str]) -> str:
    """Return which causes were wrongly named, and on which runs."""
    said = grouped((r for r in sound if r.alarmed), lambda r: r.answer.alarms[0])
    told = (f"{names.get(code, '')} ({code}) on {', '.join(r.truth.name for r in some)}" for code, some in said.items())
    return "; ".join(told) or "none"


def by_style(sound: Iterable[Row]) -> str:
    """Return the false alarms by how a sound run is unusual; rare styles stand together in the last line."""
    groups = grouped(sound, lambda r: r.truth.style)
    rare = [r for some in groups.values() if len(some) < COMMON for r in some]
    lines = [(style, some) for style, some in groups.items() if len(some) >= COMMON] + ([("other", rare)] if rare else [])
    return table(["Style", "runs", "alarms"], ([style, len(some), f"{false_alarms(some).got:g}"] for style, some in lines))


def reliability_table(bins: Iterable[Bin]) -> str:
    """Return the bins as a table."""
    return table(
        ["Confidence", "runs", "mean confidence", "share right", "95 % interval"],
        (
            [
                f"{b.low:.1f} to {b.high:.1f}",
                b.n,
                number(b.confidence, 2),
                number(b.right / b.n, 2),
                "{:.2f} to {:.2f}".format(*wilson(b.right, b.n)),
            ]
            for b in bins
        ),
    )


def onset(rows: Sequence[Row]) -> str:
    """Return how well the step is told at which a fault begins."""
    error = onset_error(rows)
    if not error.stated:
        return "No run with the right first cause has both a stated and a true onset."
    return (
        f"{error.n} runs have the right first cause and a fault that begins within the run, at a step on record. "
        f"{error.stated} of them were given\nan onset: it misses the true one by {error.steps:g} steps in the median, "
        f"{100 * error.run_share:.1f} % of the run, and comes late in {100 * error.late:.0f} %.\n"
        "Logs that count epochs state none."
    )


def several(rows: Iterable[Row]) -> str:
    """Return how often both of two faults were named."""
    both = [r for r in rows if r.truth.expected_all]
    if not both:
        return "No run of this part has two faults."
    return (
        f"{len(both)} runs have two independent faults. Both were named in {percent(share_of(both, lambda r: r.found_all))}, "
        f"and the first cause was one of them in {percent(share_of(both, lambda r: r.right))}."
    )


def instead(rows: Iterable[Row], names: Mapping[str, str]) -> str:
    """Return the confusion table, a line for each expected cause with what was said in its place."""

    def told(code: str) -> str:
        return f"{code} {names[code]}" if code in names else code

    lines = []
    for code, said in confusions(rows).items():
        wrong = [f"{n} {told(other)}" for other, n in said.most_common() if other != code]
        lines.append([code, names.get(code, ""), sum(said.values()), said[code], ", ".join(wrong) or "-"])
    return table(["Expected", "Cause", "runs", "said first", "said instead"], lines)


def compared(rows: Sequence[Row], others: Mapping[str, Sequence[Row]], tools: Iterable[Tool]) -> str:
    """Return the figures of all tools on the same runs."""
    if not others:
        return "Not run together with this page."
    titles = {t.name: f"[{t.name} {t.version}]({t.page}), {t.called}" for t in tools}
    groups = {"traindoctor": rows} | {titles[name]: some for name, some in others.items()}

    def line(title: str, some: Sequence[Row]) -> list[str]:
        known = [r for r in some if r.truth.known]
        meant = [len(r.answer.named[0]) for r in known if r.right]
        return [
            title,
            percent(share_of(known, lambda r: r.guessed)),
            percent(first_right(known)),
            f"{sum(meant) / len(meant):.1f}" if meant else "-",
            percent(in_three(known)),
            percent(false_alarms(some), interval=True),
        ]

    return table(
        [
            "Tool",
            "first cause right",
            "could mean it",
            "causes it could mean",
            "could mean it, first three",
            "alarms on sound runs",
        ],
        (line(title, some) for title, some in groups.items()),
    )


STYLE = (
    "text{font:12px sans-serif;fill:#333}.grid,.even,.bar{fill:none}.grid{stroke:#ddd}.even{stroke:#888;stroke-dasharray:4 4}"
    ".bar{stroke:#1f6feb;stroke-width:1.5}.dot{fill:#1f6feb}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.grid{stroke:#333}.bar{stroke:#58a6ff}.dot{fill:#58a6ff}}"
)


def reliability_picture(bins: Sequence[Bin]) -> str:
    """Return an SVG: share right against stated confidence, a dot per bin with its 95 % interval, the diagonal where they agree.

    Colours follow the reader's light or dark setting; the area of a dot grows with the number of runs.
    """
    side, left, top = 280, 52, 16
    width, height = left + side + 20, top + side + 48

    def x(value: float) -> str:
        return f"{left + side * value:.1f}"

    def y(value: float) -> str:
        return f"{top + side * (1 - value):.1f}"

    marks = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        marks += [
            f'<path class="grid" d="M{x(tick)} {y(0)}V{y(1)}M{x(0)} {y(tick)}H{x(1)}"/>',
            f'<text x="{x(tick)}" y="{top + side + 16}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{left - 8}" y="{y(tick)}" dy="4" text-anchor="end">{tick:g}</text>',
        ]
    marks.append(f'<path class="even" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    largest = max((b.n for b in bins), default=1)
    for b in bins:
        low, high = wilson(b.right, b.n)
        radius = 2.5 + 6.0 * math.sqrt(b.n / largest)
        told = f"{b.right} of {b.n} right at a mean confidence of {b.confidence:.2f}"
        marks += [
            f'<path class="bar" d="M{x(b.confidence)} {y(low)}V{y(high)}"/>',
            f'<circle class="dot" cx="{x(b.confidence)}" cy="{y(b.right / b.n)}" r="{radius:.1f}"><title>{told}</title></circle>',
        ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            "<title>Stated confidence against the share that was right</title>",
            f"<style>{STYLE}</style>",
            *marks,
            f'<text x="{left + side / 2:g}" y="{height - 10}" text-anchor="middle">stated confidence</text>',
            f'<text transform="translate(14 {top + side / 2:g}) rotate(-90)" text-anchor="middle">share right</text>',
            "</svg>\n",
        ]
    )
