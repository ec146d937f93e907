import xml.etree.ElementTree as ET

import numpy as np
import pytest

from traindoctor.report.figures import Domain, Event, Limit, Line, Panel, Scale, draw, scale_of


def line(value, role="observed"):
    value = np.asarray(value, dtype=float)
    return Line(role, role, np.arange(value.size, dtype=np.int64), value)


def drawn(lines, scale=None, **more):
    domain = more.pop("domain", Domain(0, 99, (50, 100), 50))
    panel = Panel(tuple(lines), domain, scale or scale_of([x.value for x in lines]), **more)
    svg = str(draw(panel, height=100, sentence="what it shows"))
    return ET.fromstring(svg)


def test_logarithmic_only_when_positive_and_wide():
    assert scale_of([np.array([1e-9, 1.0])]).log
    assert not scale_of([np.array([1.0, 50.0])]).log
    assert not scale_of([np.array([-1.0, 1e-9, 1.0])]).log
    assert scale_of([np.array([0.0, 1e-9, 1.0])]).log


@pytest.mark.parametrize("value", [[], [np.nan], [np.inf, np.nan], [5.0], [0.0], [-3.0], [1e300, 1e-300], [-1e300, 1e300]])
def test_every_series_can_be_drawn(value):
    svg = drawn([line(value)])
    text = ET.tostring(svg, encoding="unicode")
    assert "nan" not in text.replace("NaN", "")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "what it shows"


def test_ticks_are_round_and_few():
    assert [t for _, t in Scale(True, 1e-13, 100).ticks(4)] == ["1e-12", "1e-8", "1e-4", "1"]
    assert [t for _, t in Scale(False, 0, 42).ticks(3)] == ["0", "20", "40"]
    assert [t for _, t in Scale(False, 0, 3e-4).ticks(3)] == ["0", "1e-4", "2e-4", "3e-4"]
    assert [t for _, t in scale_of([np.full(9, 1e-3)]).ticks(3)] == ["1e-3"]


def test_values_that_are_not_finite_are_marks_on_a_rail():
    value = np.ones(100)
    value[[10, 60, 61, 62]] = np.nan
    svg = drawn([line(value)])
    marks = [
        e
        for e in svg.iter()
        if e.get("cy") == "-14" or (e.tag == "line" and e.get("y1") == "-14" and e.get("stroke-width") == "5")
    ]
    assert len(marks) == 2
    assert "NaN" in [t.text for t in svg.iter("text")]


def test_presentation_attributes_carry_the_figure_without_styles():
    svg = drawn(
        [line(np.linspace(1, 2, 100)), line(np.linspace(2, 1, 100), "counterfactual")], limits=(Limit(1.5, "limit", True),)
    )
    for element in svg.iter():
        assert element.get("style") is None
        if element.tag in ("path", "line"):
            assert element.get("stroke")
        if element.tag in ("text", "rect", "circle"):
            assert element.get("fill")


def test_a_calm_figure_has_no_red():
    value = np.ones(100)
    value[10] = np.nan
    domain = Domain(0, 99, None, None, calm=True, events=(Event("resume", 30, "resumed"),))
    svg = ET.tostring(
        drawn([line(value), line(value, "reproduced")], domain=domain, limits=(Limit(1.0, "limit", True),)), encoding="unicode"
    )
    assert "#b23a0e" not in svg
    assert "fault" not in svg


def test_the_observed_band_holds_the_extremes():
    value = np.ones(6000)
    value[3000] = 2.0
    svg = drawn([Line("observed", "", np.arange(6000), value, band=True)], domain=Domain(0, 6000))
    assert any("band" in (e.get("class") or "") for e in svg.iter("path"))


def test_zeros_on_a_log_axis_are_circles_on_the_edge():
    svg = drawn([line([1, 1e-4, 0, 1e-6])], zeros=(2,))
    assert [e.get("cx") for e in svg.iter("circle") if "hollow" in (e.get("class") or "")] == ["2%"]


def test_an_interval_is_a_tinted_path_under_its_line():
    value = np.linspace(1, 2, 100)
    tinted = Line("counterfactual", "with the fix", np.arange(100), value, low=value - 0.5, high=np.full(100, np.inf))
    svg = drawn([line(value), tinted])
    (path,) = [e for e in svg.iter("path") if "interval" in (e.get("class") or "")]
    assert path.get("fill") == "#1b5fa6"
    assert path.get("stroke") == "none"


def test_an_outlier_far_below_does_not_stretch_the_axis():
    value = np.geomspace(1, 1e-4, 1000)
    value[500] = 1e-80
    assert scale_of([value]).low > 1e-13
    assert scale_of([np.geomspace(1, 1e-80, 1000)]).low < 1e-79


def words(svg):
    return ["".join(t.itertext()) for t in svg.iter("text")]


def test_events_have_words_while_they_are_few_and_marks_alone_when_many():
    few = Domain(0, 100, events=tuple(Event("resume", s, "resumed") for s in (20, 60)))
    many = Domain(0, 100, events=tuple(Event("resume", s, "resumed") for s in range(5, 95, 5)))
    value = np.linspace(2, 1, 100)
    panel = Panel((line(value),), few, scale_of([value]))
    svg = ET.fromstring(str(draw(panel, height=300, sentence="", hero=True)))
    assert words(svg).count("resumed") == 2
    svg = ET.fromstring(str(draw(Panel((line(value),), many, scale_of([value])), height=300, sentence="", hero=True)))
    assert "resumed" not in words(svg)
    assert sum(e.get("stroke-dasharray") == "2 3" for e in svg.iter("line")) == 18


def test_epochs_are_ticks_on_the_lower_edge_of_the_outer_figures():
    domain = Domain(0, 100, events=(Event("epoch", 50, "epoch 1"), Event("lr", 70, "lr × 0.1")))
    value = np.linspace(2, 1, 100)
    panel = Panel((line(value),), domain, scale_of([value]))
    inner = ET.fromstring(str(draw(panel, height=96, sentence="")))
    outer = ET.fromstring(str(draw(panel, height=300, sentence="", hero=True)))
    assert not [e for e in inner.iter("svg") if e.get("y") == "100%"]
    assert [e.get("x") for e in outer.iter("svg") if e.get("y") == "100%"] == ["70%", "50%"]
    assert "lr × 0.1" in words(outer)
    assert "epoch 1" not in words(outer)


def test_words_beside_marks_do_not_cover_each_other():
    domain = Domain(0, 100, events=tuple(Event("lr", s, f"lr × 0.{s}") for s in (50, 51, 52, 53)))
    value = np.full(100, 1.0)
    svg = ET.fromstring(str(draw(Panel((line(value),), domain, scale_of([value])), height=300, sentence="", hero=True)))
    placed = [(t.get("y"), t.get("text-anchor")) for t in svg.iter("text") if (t.text or "").startswith("lr")]
    assert len(placed) == len(set(placed)) == 4


def test_a_curve_that_ends_early_has_its_last_finite_value_where_it_ends():
    value = np.append(np.linspace(3, 2, 50), np.full(50, np.nan))
    svg = drawn([line(value)], end="NaN")
    assert [(t.get("x"), t.text) for t in svg.iter("text") if t.text == "2"] == [("49.49%", "2")]
    whole = drawn([line(np.append(np.linspace(3, 2, 98), [np.nan, np.nan]))], end="NaN")
    assert [t.text for t in whole.iter("text") if t.get("x") == "100%"] == ["NaN"]
