"""The page in a real browser: what it asks for, what it complains of, and whether it fits."""

import shutil
from pathlib import Path

import pytest

from tests.report import sample
from traindoctor.report.html import render_html

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page was not opened in a browser")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    reports = {
        "failed": (sample.failed_run(),),
        "healthy": (sample.healthy_run(),),
        "undecided": (sample.undecided_run(),),
        "hostile": (sample.hostile_run(),),
        "many": (sample.failed_run(), sample.healthy_run(), sample.undecided_run(), sample.hostile_run()),
    }
    made = {}
    for name, runs in reports.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(render_html(sample.report_of(*runs)), encoding="utf-8")
    return made


def opened(browser, path, width=1280, **more):
    context = browser.new_context(viewport={"width": width, "height": 800}, **more)
    page = context.new_page()
    page.seen = {"requests": [], "messages": [], "dialogs": []}
    page.on("request", lambda r: page.seen["requests"].append(r.url))
    page.on("console", lambda m: page.seen["messages"].append(m.text))
    page.on("pageerror", lambda e: page.seen["messages"].append(str(e)))
    page.on("dialog", lambda d: (page.seen["dialogs"].append(d.message), d.dismiss()))
    page.add_init_script("document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))")
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("name", ["failed", "healthy", "undecided", "hostile", "many"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_request_and_no_complaint(browser, pages, name, scheme):
    page = opened(browser, pages[name], color_scheme=scheme)
    assert page.seen == {"requests": [pages[name].as_uri()], "messages": [], "dialogs": []}
    page.context.close()


@pytest.mark.parametrize("name", ["failed", "healthy", "undecided", "hostile", "many"])
@pytest.mark.parametrize("width", [360, 390, 700, 1000, 1280])
def test_nothing_scrolls_sideways(browser, pages, name, width):
    page = opened(browser, pages[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_the_copy_button_copies_the_patch(browser, pages):
    page = opened(browser, pages["failed"], permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy patch").first
    button.click()
    page.get_by_role("status").filter(has_text="Copied").first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == sample.PATCH
    page.context.close()


def test_without_script_the_page_reads_and_has_no_dead_button(browser, pages):
    page = opened(browser, pages["failed"], java_script_enabled=False)
    assert page.get_by_role("heading", level=1).inner_text().startswith("Training failed from step")
    assert page.get_by_role("button", name="Copy patch").count() == 0
    page.context.close()


def test_the_first_thing_the_keyboard_reaches_is_the_skip_link(browser, pages):
    page = opened(browser, pages["failed"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#verdict")
    page.context.close()


def test_the_onset_is_one_line_through_every_figure(browser, pages):
    page = opened(browser, pages["failed"])
    lines = page.evaluate(
        "[...document.querySelectorAll('svg.plot > line.s-fault')].filter(l => l.getAttribute('x1') === l.getAttribute('x2'))"
        ".map(l => Math.round(l.getBoundingClientRect().left * 10) / 10)"
    )
    assert len(lines) >= 7
    in_figures = [x for x in lines if x > 500]  # the marks of other findings stand elsewhere
    assert max(in_figures) - min(in_figures) <= 0.2
    page.context.close()


def test_contrast_of_every_text(browser, pages):
    """WCAG 2.2 AA: 4.5 to 1 for text, against the paper and against the tinted segment."""
    script = """() => {
      const lum = c => { const f = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                         return .2126 * f[0] + .7152 * f[1] + .0722 * f[2] };
      const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) };
      const root = getComputedStyle(document.documentElement), out = {};
      const hex = n => { const h = root.getPropertyValue('--' + n).trim();
                         return [1, 3, 5].map(i => parseInt(h.slice(i, i + 2), 16)) };
      for (const ink of ['ink', 'soft', 'fault', 'fix']) for (const paper of ['paper', 'seg', 'ok'])
        out[ink + ' on ' + paper] = ratio(hex(ink), hex(paper));
      return out }"""
    for scheme in ("light", "dark"):
        page = opened(browser, pages["failed"], color_scheme=scheme)
        poor = {k: v for k, v in page.evaluate(script).items() if v < 4.5}
        assert not poor
        page.context.close()
