import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from tests.report.sample import failed_run, healthy_run, hostile_run, run_with, series, undecided_run
from traindoctor.model import Curve, Finding, OptimizerSpec, RunReport, Segment, VitalSign
from traindoctor.report.plots import keys_of, plots_of, short_names
from traindoctor.report.view import view_run


def plots(report):
    return plots_of(report, view_run(report))


def report_of(*made, signs=(), findings=(), **more):
    return RunReport(run_with("run", *made, **more), "failed" if findings else "healthy", "", findings, (), (), vital_signs=signs)


def whole(start, stop):
    return Finding("TD201", "learning-rate-too-high", "error", 0.9, "It failed.", "", Segment(start, stop, start))


def test_every_figure_has_a_key_of_its_own_and_all_that_is_drawn():
    made = plots(failed_run())
    keys = [f.key for f in made.figures]
    assert keys[:2] == ["loss", "residual"]
    assert len(set(keys)) == len(keys)
    for figure in made.figures:
        assert figure.panel.lines
        assert figure.panel.domain is made.figures[0].panel.domain
        ET.fromstring(str(figure.svg))


@pytest.mark.parametrize("report", [failed_run, healthy_run, undecided_run, hostile_run])
def test_paths_are_integers_and_places_are_in_percent(report):
    for figure in plots(report()).figures:
        for element in ET.fromstring(str(figure.svg)).iter():
            data = element.get("d", "")
            assert "." not in data or data.startswith("M-4.5"), data
            if element.tag == "text":
                assert element.get("x").endswith("%") or element.get("x") == "-10"


def test_keys_of_signs_are_plain_and_told_apart():
    assert keys_of(["√v̂ against eps", "g² over v̂", "Learning rate", "Learning rate", "幅"]) == [
        "sign-root-v-against-eps",
        "sign-g2-over-v",
        "sign-learning-rate",
        "sign-learning-rate-2",
        "sign-other",
    ]


def test_names_lose_what_all_of_them_share():
    assert short_names(["grad_norm/fc1.weight", "grad_norm/fc2.weight"]) == ["fc1", "fc2"]
    assert short_names(["net.0.weight", "net.2.weight"]) == ["0.weight", "2.weight"]
    assert short_names(["layer 0", "layer 12"]) == ["layer 0", "layer 12"]
    assert short_names(["encoder.layer.0", "encoder.layer.1"]) == ["layer.0", "layer.1"]
    assert short_names(["a", "a/b"]) == ["a", "a/b"]
    assert short_names(["loss"]) == ["loss"]


def test_a_segment_that_is_the_whole_run_is_said_and_not_tinted():
    loss = series("loss", "loss", np.linspace(2, 1, 100))
    all_of_it = plots(report_of(loss, findings=(whole(0, 100),)))
    assert all_of_it.loss.panel.domain.segment is None
    assert all_of_it.loss.panel.domain.onset is None
    assert "The finding concerns the whole run." in all_of_it.loss.text
    half = plots(report_of(loss, findings=(whole(50, 100),)))
    assert half.loss.panel.domain.segment == (50.0, 100.0)
    assert "whole run" not in half.loss.text


def test_a_healthy_range_is_tinted_where_theory_gives_a_bound_and_nowhere_else():
    step = np.arange(50)
    curve = Curve("margin", "observed", step, np.linspace(5, 39, 50))
    bound = VitalSign("Stability margin", "", (curve,), log_scale=False, limit=38.0, limit_name="stability limit")
    usual = replace(bound, name="Update-to-weight ratio", limit_is_bound=False)
    one, two = plots(report_of(series("loss", "loss", np.ones(50)), signs=(bound, usual))).signs
    assert [(b.low, b.high, b.kind) for b in one.panel.bands] == [(0.0, 38.0, "healthy")]
    assert two.panel.bands == ()
    assert 'class="ok"' in str(one.svg)
    assert 'class="ok"' not in str(two.svg)


def test_the_counterfactual_has_its_interval_and_says_which():
    report = failed_run()
    trials = tuple(
        replace(t, loss=replace(t.loss, low=t.loss.value / 2, high=t.loss.value * 2, interval="range of 3 fits"))
        for t in report.replay.trials
    )
    made = plots(replace(report, replay=replace(report.replay, trials=trials)))
    (line,) = [line for line in made.loss.panel.lines if line.role == "counterfactual"]
    assert np.all(line.low < line.high)
    assert 'class="interval f-fix"' in str(made.loss.svg)
    assert "Tinted about the dotted line: range of 3 fits." in made.loss.text
    assert "interval" not in str(plots(report).loss.svg)


def test_several_curves_of_one_sign_are_named_and_dashed_apart():
    step = np.arange(50)
    curves = tuple(Curve(f"grad_norm/fc{k}", "observed", step, np.full(50, 10.0**k)) for k in range(4))
    sign = VitalSign("Gradient norm by layer", "", curves, log_scale=True)
    (figure,) = plots(report_of(series("loss", "loss", np.ones(50)), signs=(sign,))).signs
    assert [line.name for line in figure.panel.lines] == ["fc0", "fc1", "fc2", "fc3"]
    assert len({line.dashes for line in figure.panel.lines}) == 4
    words = "".join(ET.fromstring(str(figure.svg)).itertext())
    assert all(f"fc{k}" in words for k in range(4))


def test_values_far_below_all_others_stand_at_the_edge_and_are_counted():
    loss = np.geomspace(1, 1e-3, 500)
    loss[[100, 200]] = 1e-60, 0.0
    made = plots(report_of(series("loss", "loss", loss)))
    assert made.loss.panel.scale.low > 1e-12
    assert made.loss.panel.zeros == (100, 200)
    assert "1 value is zero or less" in made.loss.text
    assert "1 value lies far below all others" in made.loss.text


@pytest.mark.parametrize(
    ("logged", "optimizer", "unit", "why"),
    [
        (False, "adam", "step", "no gradient norm was logged"),
        (False, None, "step", "no gradient norm was logged"),
        (True, None, "step", "the optimizer is not known"),
        (True, "adam", "epoch", "the log counts epochs"),
        (True, "adam", "step", ""),
        (False, "sgd", "step", ""),
    ],
)
def test_why_the_second_moment_is_not_drawn_is_said(logged, optimizer, unit, why):
    rate = VitalSign("Learning rate", "", (Curve("lr", "observed", np.arange(9), np.ones(9)),), log_scale=False)
    made = [series("loss", "loss", np.ones(9)), *([series("grad_norm", "grad_norm", np.ones(9))] if logged else [])]
    spec = None if optimizer is None else OptimizerSpec(optimizer)
    lede = plots(report_of(*made, signs=(rate,), optimizer=spec, step_unit=unit)).lede
    assert (f"Not shown, since {why}: " in lede) if why else lede == ""


@pytest.mark.parametrize(
    "value", [[1.0], [np.nan], [np.inf, 1.0], [0.0, 0.0], [-1.0, 1e30], [1e-300, 1e300], [np.nan, 2.0, np.nan]]
)
def test_the_shortest_and_the_worst_series_have_a_figure(value):
    made = plots(report_of(series("loss", "loss", value), series("grad_norm", "grad_norm", value)))
    for figure in made.figures:
        text = str(figure.svg)
        assert "nan" not in text.replace("NaN", "")
        assert "inf" not in text
