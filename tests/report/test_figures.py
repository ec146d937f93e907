import xml.etree.ElementTree as ET

import numpy as np
import pytest

from traindoctor.report.figures import Domain, Limit, Line, Scale, panel, scale_of


def line(value, role="observed"):
    value = np.asarray(value, dtype=float)
    return Line(role, role, np.arange(value.size, dtype=np.int64), value)


def drawn(lines, scale=None, **more):
    domain = more.pop("domain", Domain(0, 99, (50, 100), 50))
    svg = str(panel(lines, domain, scale or scale_of([x.value for x in lines]), height=100, sentence="what it shows", **more))
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
    svg = drawn([line(np.linspace(1, 2, 100)), line(np.linspace(2, 1, 100), "counterfactual")], limit=Limit(1.5, "limit", True))
    for element in svg.iter():
        assert element.get("style") is None
        if element.tag in ("path", "line"):
            assert element.get("stroke")
        if element.tag in ("text", "rect", "circle"):
            assert element.get("fill")


def test_a_calm_figure_has_no_red():
    value = np.ones(100)
    value[10] = np.nan
    domain = Domain(0, 99, None, None, calm=True, restarts=(30,))
    svg = ET.tostring(
        drawn([line(value), line(value, "reproduced")], domain=domain, limit=Limit(1.0, "limit", True)), encoding="unicode"
    )
    assert "#b23a0e" not in svg
    assert "fault" not in svg


def test_the_observed_band_holds_the_extremes():
    value = np.ones(6000)
    value[3000] = 2.0
    svg = drawn([Line("observed", "", np.arange(6000), value, band=True)], domain=Domain(0, 6000))
    assert any("band" in (e.get("class") or "") for e in svg.iter("path"))


def test_zeros_on_a_log_axis_are_circles_on_the_edge():
    svg = drawn([line([1, 1e-4, 0, 1e-6])], zeros=[2])
    assert [e.get("cx") for e in svg.iter("circle") if "hollow" in (e.get("class") or "")] == ["2%"]
