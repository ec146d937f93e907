"""One self-contained page of a run: no request, a policy that allows the one style and the one script it holds, nothing else.

Every string passes Jinja's autoescape; figures are built from escaped elements; secrets are left out. The same report gives
the same bytes. Several runs give an index and one page each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from traindoctor import __version__
from traindoctor.errors import TraindoctorError
from traindoctor.model import Report, RunReport
from traindoctor.report import replaying
from traindoctor.report.curves import BUDGET, figures_data
from traindoctor.report.index import file_names, render_index
from traindoctor.report.markup import digest, embedded, environment, licensed, source
from traindoctor.report.outlook import signs_of, view_outlook
from traindoctor.report.plots import plots_of
from traindoctor.report.redaction import redacted
from traindoctor.report.to_json import to_json
from traindoctor.report.view import diagnosis_first, in_order, view_run
from traindoctor.report.writing import write_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from traindoctor.model import Replay, Run
    from traindoctor.replay.outlook import Outlook
    from traindoctor.report.plots import Figure

#: Points per curve that is drawn, and values of all curves to zoom into: fewer where a page would be larger than it may be.
SIZES = ((600, BUDGET), (300, BUDGET // 4), (150, 0))
#: A page that is larger than this is slow to open and to send, and not written unless `--max-size` allows it.
LARGE_BYTES, LARGEST_BYTES = 2_000_000, 5_000_000


#: What the page of a run is styled and driven by.
STYLES = ("_vendor/uplot/uPlot.min.css", "templates/report.css", "templates/figures.css")
SCRIPTS = ("_vendor/uplot/uPlot.iife.min.js", "templates/report.js", "templates/figures.js")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page of a run stands among others: the way to the index and to the runs beside it in its order."""

    index: str
    n_runs: int
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the page, or the index and the folder of the pages. `large`: names of pages over `LARGE_BYTES`."""

    file: Path
    n_pages: int
    folder: Path | None
    large: tuple[str, ...]


def render_html(report: Report, max_bytes: int = LARGEST_BYTES) -> str:
    """Return the report of one run as a page; of several, their index, whose rows lead nowhere: `write_html` writes all pages.

    The page holds the findings as JSON, needs no network and no script to be read, and is the same for the same
    report: it knows neither the time nor the machine.

    Raises: TraindoctorError when it would be larger than `max_bytes`.
    """
    report = redacted(report)
    if len(report.runs) == 1:
        return _page(report, report.runs[0], max_bytes)
    return render_index(report)


def write_html(
    report: Report,
    path: Path,
    max_bytes: int = LARGEST_BYTES,
    progress: Callable[[str], None] | None = None,
) -> Written:
    """Write the report of one run as the page `path`; of several, as an index there and one page each in a folder beside it.

    The folder is named after the page, `<stem>-runs`, and is replaced as a whole where an earlier report left it. Nothing is
    half written: the folder is made under another name, and the index comes last. `progress` is called before each page.

    Raises: UnreadableInputError when the place cannot be written, or the folder holds what is no report of ours;
    TraindoctorError when a page would be larger than `max_bytes`.
    """
    report = redacted(report)
    large = []
    if len(report.runs) == 1:
        page = _page(report, report.runs[0], max_bytes)
        write_whole(path, page)
        return Written(path, 1, None, (path.name,) if _size(page) > LARGE_BYTES else ())
    folder = path.with_name(f"{path.stem}-runs")

    def pages() -> Iterator[tuple[str, str]]:
        for name, page in run_pages(report, path.name, max_bytes):
            if _size(page) > LARGE_BYTES:
                large.append(f"{folder.name}/{name}")
            if progress is not None:
                progress(f"writing {folder.name}/{name}")
            yield name, page

    index = render_index(report, folder.name)
    n_bytes = _size(index)
    if n_bytes > max_bytes:
        raise _too_large(path.name, n_bytes, max_bytes)
    write_folder(folder, pages())
    write_whole(path, index)
    return Written(path, len(report.runs), folder, (*((path.name,) if n_bytes > LARGE_BYTES else ()), *large))


def run_pages(report: Report, index: str, max_bytes: int = LARGEST_BYTES) -> Iterator[tuple[str, str]]:
    """Yield the page of each run of a report, worst first, as (file name, page); `index` is the file that leads to them."""
    runs = in_order(report)
    names = file_names(runs)
    for i, run in enumerate(runs):
        before, after = (names[j] if 0 <= j < len(names) else "" for j in (i - 1, i + 1))
        place = Place(f"../{quote(index)}", len(runs), quote(before), quote(after))
        yield names[i], _page(report, run, max_bytes, place)


def _page(report: Report, run: RunReport, max_bytes: int, place: Place | None = None) -> str:
    """Return the page of one run, with as many points as fit."""
    alone = replace(report, runs=(run,), across=None)
    run = diagnosis_first(run)
    view = view_run(run, report.names)
    data = embedded(to_json(alone))
    n_bytes = 0
    for points, budget in SIZES:
        plots = plots_of(run, view, points)
        made = (
            environment()
            .get_template("report.html.j2")
            .render(
                view=view,
                plots=plots,
                place=place,
                provenance=run.provenance,
                version=report.version,
                problems=report.problems,
                data=data,
                **_driven(plots.figures, budget),
            )
        )
        n_bytes = _size(made)
        if n_bytes <= max_bytes:
            return made
    raise _too_large(view.name, n_bytes, max_bytes)


def _driven(figures: Sequence[Figure], budget: int = BUDGET) -> dict[str, object]:
    """Return what styles and drives a page, by the names of the template: files with their hashes, and the figures as data."""
    style, scripts = "".join(map(source, STYLES)), [licensed(name) for name in SCRIPTS]
    return {
        "style": Markup(style),  # our own files, and one that is vendored
        "scripts": [Markup(script) for script in scripts],  # likewise
        "style_hash": digest(style),
        "script_hashes": [digest(script) for script in scripts],
        "figures": embedded(figures_data(figures, budget)),
    }


def _size(page: str) -> int:
    """Return the bytes that a page takes in a file."""
    return len(page.encode("utf-8", "backslashreplace"))


def _too_large(what: str, n_bytes: int, max_bytes: int) -> TraindoctorError:
    return TraindoctorError(
        what,
        f"its page would take {n_bytes / 1e6:.1f} MB, more than {max_bytes / 1e6:g} MB",
        f"--max-size {n_bytes // 1_000_000 + 1} to write it all the same, --format json for the findings alone",
    )


def render_replay(run: Run, replay: Replay, outlook: Outlook | None = None) -> str:
    """Return a replay, and where the optimizer stands, as one HTML page of the same kind as `render_html`."""
    signs = () if outlook is None else signs_of(outlook)
    shown = RunReport(run, "undecided", "", (), (), (), replay=replay, vital_signs=signs)
    report = redacted(Report((shown,), __version__)).runs[0]
    view = view_run(report)
    plots = plots_of(report, view, SIZES[0][0])
    if not signs:  # those of the log are no part of it
        plots = replace(plots, signs=())
    data = replaying.to_json(report.run, report.replay or replay, outlook, curves=False)
    return (
        environment()
        .get_template("replay.html.j2")
        .render(
            view=view,
            told=replaying.view_replay(report.run, report.replay or replay),
            stands=None if outlook is None else view_outlook(report.run, outlook),
            plots=plots,
            version=__version__,
            data=embedded(data),
            **_driven(plots.figures),
        )
    )
