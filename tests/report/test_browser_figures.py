"""The figures of a page in a real browser: zoom, readout, scales, CSV; and the drawing wherever any of it is missing."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report import sample
from tests.report.chromium import needs_chromium, opened
from traindoctor.report.html import render_html, render_replay

pytestmark = needs_chromium

#: Labels of a canvas are pixels, so its words are caught on their way: `written`.
SPY = """window.written = [];
const canvas = CanvasRenderingContext2D.prototype, write = canvas.fillText;
canvas.fillText = function (text, ...more) { written.push(text); return write.call(this, text, ...more) };"""
#: How much of the page moved by itself: `shifted`.
SHIFTS = """window.shifted = 0;
new PerformanceObserver(list => { for (const entry of list.getEntries()) shifted += entry.value })
  .observe({ type: 'layout-shift', buffered: true });"""
#: Number of nearly white and of nearly black pixels of a figure, colours aside.
INK = """() => {
  const canvas = document.querySelector('[data-figure=loss] canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let light = 0, dark = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const [r, g, b, a] = pixels.slice(i, i + 4);
    if (a < 255 || r - b > 8) continue;
    if (r + g + b > 690) light++;
    if (r + g + b < 120) dark++;
  }
  return [light, dark] }"""


def run_with_zeros():
    """Return a run whose loss is zero at some steps, so that its logarithmic axis cannot show them."""
    report = sample.failed_run()
    loss = report.run.primary["loss"]
    value = loss.value.copy()
    value[[3000, 3001, 4000]] = 0.0
    series = replace(loss, value=value)
    others = tuple(s for s in report.run.series if s is not loss)
    run = replace(report.run, series=(series, *others), primary=dict(report.run.primary) | {"loss": series})
    return replace(report, run=run)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("figures")
    runs = {
        "failed": sample.failed_run(),
        "healthy": sample.healthy_run(),
        "undecided": sample.undecided_run(),
        "hostile": sample.hostile_run(),
        "zeros": run_with_zeros(),
    }
    made = {}
    for name, run in runs.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(render_html(sample.report_of(run)), encoding="utf-8")
    return made


def ready(browser, path, width=1280, **more):
    page = opened(browser, path, width, **more)
    page.locator("[data-figure=loss] .layer").wait_for()
    return page


def figure(page, key="loss"):
    return page.locator(f"[data-figure={key}]")


def point(page, share, key="loss"):
    """Return the place on the screen at a share of the width of a figure."""
    figure(page, key).scroll_into_view_if_needed()
    box = figure(page, key).locator(".layer").bounding_box()
    return box["x"] + share * box["width"], box["y"] + 0.5 * min(box["height"], 60)


def drag(page, start, stop, key="loss"):
    x, y = point(page, start, key)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(point(page, stop, key)[0], y, steps=4)
    page.mouse.up()


def in_view(page):
    """Return the steps in view as the page says them: (first, last), or "all"."""
    page.wait_for_timeout(120)
    said = page.locator(".said-view").inner_text()
    numbers = [int(word.replace(",", "")) for word in said.split() if word[0].isdigit()]
    return tuple(numbers) if numbers else said


def live(page):
    return page.locator(".f.live").count()


def test_at_rest_the_drawing_of_the_page_is_what_is_seen(browser, pages):
    page = ready(browser, pages["failed"])
    assert live(page) == 0
    assert figure(page).locator("> svg").is_visible()
    assert not figure(page).locator("canvas").count()
    page.mouse.move(*point(page, 0.5))
    assert figure(page).locator("canvas").count() == 1
    assert not figure(page).locator("canvas").is_visible()
    assert figure(page).locator("> svg").is_visible()
    page.context.close()


def test_dragging_zooms_all_figures_and_a_double_click_ends_it(browser, pages):
    page = ready(browser, pages["failed"])
    n_figures = page.locator("[data-figure]").count()
    drag(page, 0.25, 0.5)
    first, last = in_view(page)
    assert (first, last) == (pytest.approx(1500, abs=30), pytest.approx(3000, abs=30))
    assert live(page) == n_figures > 4
    assert page.evaluate("getComputedStyle(document.querySelector('[data-figure=loss] > svg')).visibility") == "hidden"
    assert figure(page).locator("canvas").is_visible()
    page.mouse.dblclick(*point(page, 0.5))
    assert in_view(page) == "all steps"
    assert live(page) == 0
    page.context.close()


def test_a_drag_on_any_figure_zooms_and_a_click_does_not(browser, pages):
    page = ready(browser, pages["failed"])
    page.mouse.click(*point(page, 0.5, "residual"))
    assert live(page) == 0
    drag(page, 0.5, 0.75, "residual")
    assert in_view(page) == (pytest.approx(3000, abs=30), pytest.approx(4500, abs=30))
    page.context.close()


def test_ctrl_wheel_zooms_about_the_pointer_and_a_plain_wheel_scrolls(browser, pages):
    page = ready(browser, pages["failed"])
    page.mouse.move(*point(page, 0.5))
    before = page.evaluate("scrollY")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    first, last = in_view(page)
    assert (first + last) / 2 == pytest.approx(3000, abs=60)
    assert last - first < 4000
    assert page.evaluate("scrollY") == before
    page.mouse.wheel(0, 300)
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") > before
    assert in_view(page) == (first, last)
    page.context.close()


def test_keys_on_a_focused_figure(browser, pages):
    page = ready(browser, pages["failed"])
    figure(page).locator(".layer").focus()
    page.keyboard.press("+")
    assert in_view(page) == (1500, 4500)
    page.keyboard.press("ArrowRight")
    assert in_view(page) == (2100, 5100)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("-")
    assert in_view(page) == "all steps"
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.keyboard.press("0")
    assert in_view(page) == "all steps"
    page.keyboard.press("ArrowRight")
    said = page.locator(".said-view").inner_text()
    assert said.startswith("step 3,0")
    assert "observed" in said
    page.context.close()


def test_every_figure_is_reached_by_tab_has_a_name_and_shows_its_focus(browser, pages):
    page = ready(browser, pages["failed"])
    layers = page.locator(".layer")
    for i in range(layers.count()):
        layer = layers.nth(i)
        assert layer.get_attribute("role") == "application"
        assert layer.get_attribute("aria-label").endswith(", to zoom into")
        assert page.locator("#" + layer.get_attribute("aria-describedby")).inner_text()
    page.locator(".tools button").last.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "layer"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.context.close()


def test_buttons_zoom_and_are_large_enough(browser, pages):
    page = ready(browser, pages["failed"])
    page.get_by_role("button", name="To the segment").click()
    first, last = in_view(page)
    assert 2200 < first < 2471 < last == 6000
    page.get_by_role("button", name="Zoom in").click()
    assert in_view(page)[1] - in_view(page)[0] == pytest.approx((last - first) / 2, abs=2)
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="All steps").click()
    assert in_view(page) == "all steps"
    for button in page.locator(".tools button, .csv").all():
        box = button.bounding_box()
        assert box["width"] >= 24
        assert box["height"] >= 24
    page.context.close()


def test_the_readout_tells_the_values_at_the_cursor_on_every_figure(browser, pages):
    page = ready(browser, pages["failed"])
    x, y = point(page, 0.5)
    page.mouse.move(x - 5, y)
    page.mouse.move(x, y)
    readout = figure(page).locator(".readout")
    words = readout.inner_text().split()
    assert words[0] == "step"
    step = int(words[1].replace(",", ""))
    assert step == pytest.approx(3000, abs=8)
    observed = sample.failed_run().run.primary["loss"].value[step]
    assert float(words[words.index("observed") + 1]) == pytest.approx(observed, rel=0.006)
    assert figure(page, "residual").locator(".readout").is_visible()
    page.mouse.move(5, 5)
    readout.wait_for(state="hidden")
    page.context.close()


def test_the_scale_of_the_loss_turns_and_zeros_are_stated(browser, pages):
    page = ready(browser, pages["zeros"])
    page.get_by_role("button", name="Linear scale").click()
    assert page.locator(".said-view").inner_text() == "linear scale"
    assert live(page) == 1
    page.get_by_role("button", name="Log scale").click()
    assert page.locator(".said-view").inner_text() == "log scale: 3 values are zero or below, circles on the lower edge"
    assert live(page) == 0
    page.context.close()


def test_zooming_turns_the_axis_to_what_is_in_view(browser, pages):
    page = ready(browser, pages["failed"], init=SPY)
    page.get_by_role("button", name="To the segment").click()
    in_view(page)
    written = set(page.evaluate("written"))
    assert {"3,000", "4,000", "5,000", "6,000", "steps", "step 2,471", "observed", "reproduced"} <= written
    page.evaluate("written.length = 0")
    page.get_by_role("button", name="Linear scale").click()
    assert "0" in page.evaluate("written")
    page.context.close()


def test_values_that_are_not_finite_stand_on_a_rail(browser, pages):
    page = ready(browser, pages["undecided"], init=SPY)
    drag(page, 0.7, 0.95)
    in_view(page)
    assert "Inf, NaN" in page.evaluate("written")
    page.context.close()


def test_csv_holds_the_numbers_of_a_figure(browser, pages):
    page = ready(browser, pages["undecided"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the numbers of Loss as CSV").click()
    assert download.value.suggested_filename == "loss.csv"
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    loss = sample.undecided_run().run.primary["loss"]
    assert [int(row["epoch"]) for row in rows] == loss.step.tolist()
    assert {row["series"] for row in rows} == {"observed"}
    assert np.array([float(row["value"]) for row in rows]) == pytest.approx(loss.value, rel=1e-7, nan_ok=True)
    assert page.seen["messages"] == []
    page.context.close()


def test_the_colours_follow_the_scheme(browser, pages):
    page = ready(browser, pages["failed"], color_scheme="light")
    page.get_by_role("button", name="To the segment").click()
    in_view(page)
    assert page.evaluate(INK)[1] > 500
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    light, _ = page.evaluate(INK)
    assert light > 500
    page.context.close()


@pytest.mark.parametrize("name", ["failed", "healthy", "undecided", "hostile", "zeros"])
def test_no_complaint_after_every_kind_of_use(browser, pages, name):
    page = ready(browser, pages[name])
    drag(page, 0.3, 0.6)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    for button in page.locator(".tools button:visible").all():
        button.click()
    figure(page).locator(".layer").focus()
    for key in ("+", "ArrowRight", "Shift+ArrowLeft", "-", "0"):
        page.keyboard.press(key)
    page.set_viewport_size({"width": 700, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert page.seen == {"requests": [pages[name].as_uri()], "messages": [], "dialogs": []}
    page.context.close()


@pytest.mark.parametrize("name", ["failed", "hostile"])
@pytest.mark.parametrize("width", [360, 390, 700, 1000])
def test_nothing_scrolls_sideways_with_figures_in_use(browser, pages, name, width):
    page = ready(browser, pages[name], width)
    page.get_by_role("button", name="To the segment").click()
    in_view(page)
    assert live(page) == (page.locator("[data-figure]").count() if name == "failed" else 0)  # hostile: 5 steps, all of them
    for share in (0.02, 0.3, 0.55, 0.7, 0.99):
        page.mouse.move(*point(page, share))
        assert figure(page).locator(".readout").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_two_fingers_zoom_and_one_reads(browser, pages):
    page = ready(browser, pages["failed"], 390, has_touch=True)
    x0, y = point(page, 0.0)
    width = figure(page).locator(".layer").bounding_box()["width"]
    session = page.context.new_cdp_session(page)

    def touch(kind, *shares):
        at = [{"x": x0 + share * width, "y": y, "id": i} for i, share in enumerate(shares)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", 0.4, 0.6)
    touch("touchMove", 0.3, 0.7)
    touch("touchMove", 0.2, 0.8)
    touch("touchEnd")
    first, last = in_view(page)
    assert (first, last) == (pytest.approx(2000, abs=80), pytest.approx(4000, abs=80))
    touch("touchStart", 0.5)
    touch("touchMove", 0.55)
    touch("touchMove", 0.6)
    assert "observed" in figure(page).locator(".readout").inner_text()
    touch("touchEnd")
    assert in_view(page) == (first, last)
    page.context.close()


def test_without_script_there_are_drawings_and_no_controls(browser, pages):
    page = opened(browser, pages["failed"], java_script_enabled=False)
    figures = page.locator("[data-figure]")
    assert figures.count() > 4
    assert all(figures.nth(i).locator("> svg").is_visible() for i in range(figures.count()))
    assert page.locator(".tools, .csv, .layer").count() == 0
    page.context.close()


@pytest.mark.parametrize("init", ["delete window.DecompressionStream", "window.atob = () => 'no stream'"])
def test_where_the_data_cannot_be_decoded_the_drawings_stay(browser, pages, init):
    page = opened(browser, pages["failed"], init=init)
    page.wait_for_timeout(300)
    assert page.locator(".tools, .csv, .layer").count() == 0
    assert figure(page).locator("> svg").is_visible()
    assert page.seen["messages"] == []
    page.context.close()


def test_paper_shows_the_drawings_of_the_whole_run(browser, pages):
    page = ready(browser, pages["failed"])
    page.get_by_role("button", name="To the segment").click()
    in_view(page)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('[data-figure=loss] > svg')).visibility") == "visible"
    assert not figure(page).locator("canvas").is_visible()
    assert page.locator(".tools:visible, .csv:visible, .layer:visible").count() == 0
    page.context.close()


def test_the_page_does_not_move_when_the_figures_become_ready(browser, pages):
    page = opened(browser, pages["failed"], init=SHIFTS)
    page.locator("[data-figure=loss] .layer").wait_for()
    page.mouse.move(*point(page, 0.5))
    page.wait_for_timeout(300)
    assert page.evaluate("shifted") < 0.001
    page.context.close()


def without(report, *quantities):
    """Return a report as a log without these quantities gives it."""
    primary = {quantity: series for quantity, series in report.run.primary.items() if quantity not in quantities}
    return replace(report, run=replace(report.run, primary=primary))


def test_a_run_without_a_loss_zooms_too(browser, tmp_path):
    path = tmp_path / "no-loss.html"
    path.write_text(render_html(sample.report_of(without(sample.healthy_run(), "loss", "val_loss"))), encoding="utf-8")
    page = opened(browser, path)
    page.locator(".layer").first.wait_for()
    page.get_by_role("button", name="Zoom in").click()
    assert in_view(page) == (5000, 15000)
    assert live(page) == page.locator("[data-figure]").count() == 2
    assert not page.get_by_role("button", name="scale").count()
    assert page.seen["messages"] == []
    page.context.close()


def test_a_long_log_says_what_its_page_leaves_out(browser, tmp_path):
    report = sample.healthy_run()
    loss = sample.series("loss", "train/loss", np.random.default_rng(0).random(300_000))
    run = replace(report.run, series=(loss,), primary={"loss": loss}, restarts=())
    path = tmp_path / "long.html"
    path.write_text(render_html(sample.report_of(replace(report, run=run))), encoding="utf-8")
    page = opened(browser, path)
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(120)
    assert "first, lowest, highest and last of 300 values each" in page.locator(".said-view").inner_text()
    button = page.get_by_role("button", name="Download the numbers of Loss as CSV")
    assert button.get_attribute("title").endswith("of 300,000 values, which draw the same curve")
    page.context.close()


def test_a_run_of_one_step_has_drawings_alone(browser, tmp_path):
    report = sample.healthy_run()
    loss = sample.series("loss", "train/loss", np.array([2.5]))
    run = replace(report.run, series=(loss,), primary={"loss": loss}, restarts=())
    path = tmp_path / "one-step.html"
    path.write_text(render_html(sample.report_of(replace(report, run=run))), encoding="utf-8")
    page = opened(browser, path)
    page.wait_for_timeout(200)
    assert page.locator(".layer, .tools").count() == 0
    assert figure(page).locator("> svg").is_visible()
    assert page.seen["messages"] == []
    page.context.close()


def test_the_page_of_a_replay_zooms_too(browser, tmp_path):
    report = sample.failed_run()
    path = tmp_path / "replay.html"
    path.write_text(render_replay(report.run, report.replay), encoding="utf-8")
    page = ready(browser, path)
    drag(page, 0.25, 0.5)
    assert in_view(page) == (pytest.approx(1500, abs=30), pytest.approx(3000, abs=30))
    assert live(page) == page.locator("[data-figure]").count() == 2
    assert page.seen == {"requests": [path.as_uri()], "messages": [], "dialogs": []}
    page.context.close()
