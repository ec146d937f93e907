"""What a notebook shows, in a real browser: the card in its colours, the whole page in a frame that reaches nothing."""

import pytest

from tests.report import sample
from tests.report.chromium import needs_chromium, opened
from traindoctor.report.html import render_html
from traindoctor.report.notebook import card, frame

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A page in the place of a notebook, with a card of one run, a card of two, and the whole page of one in a frame."""
    one, two = sample.report_of(sample.failed_run()), sample.report_of(sample.failed_run(), sample.hostile_run())
    made = tmp_path_factory.mktemp("notebook") / "notebook.html"
    cells = "".join(f"<section>{cell}</section>" for cell in (card(one), card(two), frame(render_html(one), 500)))
    look = "<style>body { background: #111; color: rgb(238, 238, 238); width: 900px }</style>"
    made.write_text(f"<!doctype html><meta charset=utf-8><title>a notebook</title>{look}{cells}", encoding="utf-8")
    return made


def test_it_complains_of_nothing_and_asks_for_nothing(browser, notebook):
    page = opened(browser, notebook)
    assert page.seen["messages"] == []
    assert page.seen["dialogs"] == []
    assert [one for one in page.seen["requests"] if not one.startswith(("about:", notebook.as_uri()))] == []
    page.context.close()


def test_the_loss_is_drawn_in_the_colour_of_the_notebook(browser, notebook):
    page = opened(browser, notebook)
    drawn = page.locator("section").first.locator("svg path").last
    assert drawn.evaluate("e => getComputedStyle(e).stroke") == "rgb(238, 238, 238)"
    box = drawn.bounding_box()
    assert box["width"] > 600
    assert box["height"] > 80
    page.context.close()


def test_cards_fit_their_cell(browser, notebook):
    page = opened(browser, notebook, 1000)
    assert page.evaluate("[...document.querySelectorAll('section')].every(s => s.scrollWidth <= 900)")
    page.context.close()


def test_the_frame_shows_the_page_and_reaches_nothing(browser, notebook):
    page = opened(browser, notebook)
    inside = page.frames[1]
    assert inside.get_by_role("heading", level=1).inner_text().startswith("Training failed from step")
    reached = inside.evaluate("() => { try { return parent.document.title } catch (error) { return error.name } }")
    assert reached == "SecurityError"
    page.context.close()
