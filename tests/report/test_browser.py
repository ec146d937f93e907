"""The pages of `traindoctor diagnose --html` in a real browser: what they ask for and complain of, who can use them, and where.

Each kind of page is made from logs on disk, by the command: one call writes the index and the pages of all its runs.
"""

import functools
import http.server
import io
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.report import sample
from tests.report.chromium import needs_chromium, opened, overflow
from traindoctor.cli import main
from traindoctor.report.html import render_html, render_replay

pytestmark = needs_chromium

FIXTURES = Path(__file__).parents[2] / "fixtures"
#: A run of each kind: name of its page -> the fixture.
RUNS = {
    "failed": "sick/overtrained-perceptron",
    "suspicious": "sick/digits-lr-too-low",
    "undecided": "sick/stuck-saddle",
    "healthy": "healthy/four-tasks",
    "damaged": "sick/log-of-zero",
}
KINDS = (*RUNS, "no-loss", "index", "replay", "hostile")
#: What must hold: WCAG 2.2 AA, and what axe-core counts as good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = """rules => axe.run({ runOnly: rules, resultTypes: ['violations'] }).then(made => made.violations.map(
  one => one.id + ': ' + one.nodes.map(node => node.html.slice(0, 200)).join(' | ')))"""
#: Width and color scheme; each kind of page is held against the first two, which have all of both.
LOOKS = ((1280, "light"), (390, "dark"), (1280, "dark"), (390, "light"))
OPEN_FOLDS = "document.querySelectorAll('details').forEach(fold => { fold.open = true })"
#: The header under which Jenkins shows a file that a job made: no script, and no style of its own.
SANDBOX = "sandbox; default-src 'none'; img-src 'self'; style-src 'self'"


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """A folder with a run of each kind. The log of one ends inside a record; one has no loss."""
    folder = tmp_path_factory.mktemp("runs") / "logs"
    for name, fixture in RUNS.items():
        shutil.copytree(FIXTURES / fixture, folder / name, ignore=shutil.ignore_patterns("expected.json"))
    cut = next((folder / "damaged").rglob("events.out.tfevents.*"))
    cut.write_bytes(cut.read_bytes()[:-7])
    (folder / "no-loss").mkdir()
    rows = "".join(f"{step},{61 + step % 3},{9.5 + step % 2}\n" for step in range(200))
    (folder / "no-loss" / "metrics.csv").write_text(f"step,gpu_temp,examples_per_second\n{rows}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pages(logs) -> dict[str, Path]:
    index = logs.parent / "report.html"
    assert main(["diagnose", str(logs), "--html", str(index), "--format", "json", "--output", str(index) + ".json", "-q"]) == 1
    made = {name: logs.parent / "report-runs" / f"{name}.html" for name in (*RUNS, "no-loss")} | {"index": index}
    failed = sample.failed_run()
    for name, page in (
        ("replay", render_replay(failed.run, failed.replay)),
        ("hostile", render_html(sample.report_of(sample.hostile_run()))),
    ):
        made[name] = logs.parent / f"{name}.html"
        made[name].write_text(page, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def served(logs):
    """The address of the pages under the header `SANDBOX`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Content-Security-Policy", SANDBOX)
            super().end_headers()

        def log_message(self, *said):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Handler, directory=logs.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def in_use(page):
    """Open all folds, and zoom where there are figures to zoom into, so that they are canvases."""
    page.evaluate(OPEN_FOLDS)
    if page.locator("[data-figure]").count():
        page.locator(".layer").first.wait_for()
        page.get_by_role("button", name="Zoom in").click()


@pytest.mark.parametrize("name", KINDS)
def test_one_request_and_no_complaint_and_nothing_scrolls_sideways(browser, pages, name):
    page = opened(browser, pages[name])
    in_use(page)
    page.emulate_media(color_scheme="dark")
    for width in (1280, 1000, 700, 390, 360, 320):
        assert overflow(page, width) == 0, width
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.seen == {"requests": [pages[name].as_uri()], "messages": [], "dialogs": []}
    page.context.close()


@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_nothing(browser, pages, name):
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    page = opened(browser, pages[name])
    in_use(page)
    page.evaluate(axe.AXE_SCRIPT)
    for width, scheme in LOOKS if name in ("failed", "index") else LOOKS[:2]:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(AXE, RULES) == [], (width, scheme)
    page.context.close()


# -- keyboard, links, copies ----------------------------------------------------------------------------------------------


def test_the_first_thing_the_keyboard_reaches_is_the_skip_link(browser, pages):
    page = opened(browser, pages["failed"])
    page.bring_to_front()
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the verdict")
    skip.and_(page.locator(":focus")).wait_for()
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.wait_for_url("**/*#verdict")
    page.context.close()


@pytest.mark.parametrize("name", ["failed", "index"])
def test_the_keyboard_reaches_everything_in_the_order_of_the_page_and_shows_where_it_is(browser, pages, name):
    page = opened(browser, pages[name])
    page.evaluate(OPEN_FOLDS)
    if name == "failed":
        page.locator(".layer").first.wait_for()
    expected = page.evaluate(
        "window.reached = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility({ visibilityProperty: true })); reached.length"
    )
    page.bring_to_front()
    for i in range(expected):
        page.keyboard.press("Tab")
        there = page.evaluate(
            "i => { const e = document.activeElement, s = getComputedStyle(e), seen = s.outlineStyle !== 'none';"
            " return [e === reached[i], seen && parseFloat(s.outlineWidth) >= 2, e.outerHTML.slice(0, 200)] }",
            i,
        )
        assert there[:2] == [True, True], there[2]
    page.context.close()


def test_the_copy_button_copies_a_patch_that_git_applies(browser, pages, logs, tmp_path):
    page = opened(browser, pages["failed"], permissions=["clipboard-read", "clipboard-write"])
    page.bring_to_front()
    page.get_by_role("button", name="Copy patch").first.click()
    page.get_by_role("status").filter(has_text="Copied").first.wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.patch pre'))")
    assert page.evaluate("getSelection().toString()").strip() == copied.strip()
    page.context.close()
    shutil.copytree(logs / "failed", tmp_path / "failed")
    subprocess.run(["git", "apply", "-"], input=copied.encode(), cwd=tmp_path, check=True)
    assert "eps: 0.1" in (tmp_path / "failed" / "config.yaml").read_text(encoding="utf-8")


def test_copying_works_in_a_frame_without_the_clipboard(browser, pages):
    page = opened(browser, pages["failed"], init="Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.addEventListener('copy', () => { window.copied = getSelection().toString() })")
    page.get_by_role("button", name="Copy patch").first.click()
    page.get_by_role("status").filter(has_text="Copied").first.wait_for()
    assert page.evaluate("copied").strip() == page.locator(".patch pre").first.text_content().strip()
    page.context.close()


def test_a_link_to_a_finding_leads_there_from_outside_and_from_the_index(browser, pages):
    page = opened(browser, pages["index"], reduced_motion="reduce")  # nothing glides, so that a place is reached at once
    page.get_by_role("row", name=re.compile("^undecided")).get_by_role("link").last.click()
    page.wait_for_url(re.compile(r"report-runs/undecided\.html#TD\d{3}-[0-9a-f]{4}$"))
    at_once = opened(browser, page.url, reduced_motion="reduce")
    for one in (page, at_once):
        marked = one.locator(".finding:target")
        marked.wait_for()
        assert "#" + marked.get_attribute("id") == re.search("#.*", one.url)[0]
        assert abs(marked.bounding_box()["y"]) < 100
        assert marked.evaluate("e => getComputedStyle(e, '::before').width") == "3px"
        one.context.close()


def test_every_link_within_the_pages_leads_somewhere(browser, pages):
    page = opened(browser, pages["index"])
    for name in ("index", *RUNS, "no-loss"):
        page.goto(pages[name].as_uri())
        for href in page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)"):
            place, _, anchor = href.partition("#")
            file = next((file for file in pages.values() if file.as_uri() == place), None)
            assert file, href
            assert not anchor or f'id="{anchor}"' in file.read_text(encoding="utf-8"), href
    page.context.close()


def test_the_onset_is_one_line_through_every_figure(browser, pages):
    page = opened(browser, pages["failed"])
    lines = page.evaluate(
        "[...document.querySelectorAll('.f svg.plot > line.s-fault')].filter(l => l.getAttribute('x1') === l.getAttribute('x2'))"
        ".map(l => Math.round(l.getBoundingClientRect().left * 10) / 10)"
    )
    assert len(lines) >= 7
    assert max(lines) - min(lines) <= 0.2
    page.context.close()


# -- without script, without style, on paper ------------------------------------------------------------------------------


def drawings(page):
    """Return of each drawing whether it is seen, its box on the page, and its first words, folds open."""
    page.evaluate(OPEN_FOLDS)
    return page.evaluate(
        "[...document.querySelectorAll('svg:not(svg svg)')].map(svg => {"
        " const { left, top, right, bottom } = svg.getBoundingClientRect();"
        " const seen = svg.checkVisibility({ visibilityProperty: true, opacityProperty: true });"
        " return { seen: seen && right - left >= 40 && bottom - top >= 8,"
        " box: [left, top + scrollY, right, bottom + scrollY], says: svg.outerHTML.slice(0, 99) } })"
    )


def nearly_black(page, drawn):
    """Return the largest share of nearly black pixels in a drawing of a page."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    shot = np.asarray(image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L"))
    boxes = [[max(0, round(edge)) for edge in one["box"]] for one in drawn]
    return max((float((shot[y0:y1, x0:x1] < 40).mean()) for x0, y0, x1, y1 in boxes), default=0.0)


def told(page):
    """Return what a page says was found, spaces aside: verdict, patches, evidence, rivals, and the lines of an index."""
    texts = page.locator("h1, pre, .finding, .rivals, .ladder, .runs tbody").all_text_contents()
    return ["".join(text.split()) for text in texts]


@pytest.mark.parametrize("name", KINDS)
def test_without_script_and_in_a_sandbox_every_figure_and_finding_is_there(browser, pages, served, name):
    full = opened(browser, pages[name])
    n_drawn, words = len(drawings(full)), told(full)
    full.context.close()
    plain = opened(browser, pages[name], java_script_enabled=False)
    assert plain.get_by_role("button").count() == plain.locator("input:visible, select:visible").count() == 0
    bare = opened(browser, f"{served}/{pages[name].relative_to(pages['index'].parent).as_posix()}")
    for page in (plain, bare):
        drawn = drawings(page)
        assert [one["says"] for one in drawn if not one["seen"]] == []
        assert len(drawn) == n_drawn
        assert told(page) == words
        if page is bare:  # a curve, its range and words are dark; what has no colour of its own is black all over
            assert nearly_black(page, drawn) < 0.25
        page.context.close()
    assert len(words) > 0


def test_the_share_of_black_tells_a_drawing_that_lost_its_colours(browser, tmp_path):
    path = tmp_path / "black.html"
    path.write_text('<!doctype html><svg width="200" height="50"><rect width="200" height="30"/></svg>', encoding="utf-8")
    page = opened(browser, path)
    assert nearly_black(page, drawings(page)) == pytest.approx(0.6, abs=0.02)
    page.context.close()


@pytest.mark.parametrize("name", KINDS)
def test_paper_shows_every_fold_and_drawing(browser, pages, name):
    page = opened(browser, pages[name], java_script_enabled=False)
    page.emulate_media(media="print")
    shut = page.evaluate(
        "[...document.querySelectorAll('details > :not(summary)')]"
        ".filter(e => getComputedStyle(e.parentElement).display !== 'none')"
        ".filter(e => !e.checkVisibility() || e.getBoundingClientRect().height < 4).map(e => e.outerHTML.slice(0, 99))"
    )
    assert shut == []
    gone = page.evaluate(
        "[...document.querySelectorAll('svg:not(svg svg)')].filter(svg => svg.getBoundingClientRect().height < 8).length"
    )
    assert gone == 0
    assert page.locator("button:visible, .skip:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.context.close()


def test_folds_open_when_a_page_is_printed(browser, pages):
    page = opened(browser, pages["failed"])
    assert page.locator("details:not([open])").count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.context.close()
