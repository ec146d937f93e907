"""The data of the figures: what is kept of a curve, how it is packed, and that it comes out again."""

import base64
import hashlib
import json
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.report import sample
from traindoctor.model import Segment, VitalSign
from traindoctor.report.curves import BUCKETS, BUDGET, Columns, figures_data, kept, rounded, thinned
from traindoctor.report.figures import Domain
from traindoctor.report.html import render_html
from traindoctor.report.plots import plots_of
from traindoctor.report.view import view_run

VENDORED = Path(__file__).parents[2] / "traindoctor" / "report" / "_vendor"
floats = arrays.arrays(np.float64, st.integers(0, 300), elements=st.floats(allow_nan=True, allow_infinity=True))


def unpacked(data):
    """Return the columns as a browser decodes them: inflate, put the bytes together again, add the steps up."""
    raw, at, made = zlib.decompress(base64.b64decode(data["data"])), 0, []
    for kind, n, *first in data["columns"]:
        size, length = (8 if kind == "f8" else 4), (n - 1 if kind == "step" else n)
        planes = np.frombuffer(raw[at : at + size * length], np.uint8).reshape(size, length)
        at += size * length
        column = planes.T.copy().view({"f8": "<f8", "f4": "<f4", "step": "<i4"}[kind]).ravel()
        made.append(np.cumsum([first[0], *column]) if kind == "step" else column)
    assert at == len(raw)
    return made


def figures_of(report):
    return plots_of(report, view_run(report, sample.NAMES)).figures


def test_the_vendored_files_are_those_that_were_fetched():
    folders = [p.parent for p in VENDORED.rglob("VERSION.json")]
    assert folders
    for folder in folders:
        known = json.loads((folder / "VERSION.json").read_text())
        there = {p.name for p in folder.iterdir()} - {"VERSION.json"}
        assert there == set(known["sha256"]) >= {"LICENSE"}
        assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in there} == known["sha256"]
        assert f"(v{known['version']})" in (folder / "uPlot.iife.min.js").read_text()[:80]


def test_the_licence_of_what_a_page_holds_is_in_the_page():
    page = render_html(sample.report_of(sample.healthy_run()))
    assert (VENDORED / "uplot" / "LICENSE").read_text().strip() in page


@given(floats)
def test_values_come_back_as_float32_or_whole(value):
    columns = Columns()
    columns.values(value)
    (back,) = unpacked(columns.data())
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
    assert np.array_equal(back, value if back.dtype == np.float64 else single, equal_nan=True)
    finite = np.isfinite(value)
    assert np.array_equal(np.isfinite(back), finite)
    assert np.array_equal(back == 0, value == 0)


@given(arrays.arrays(np.int64, st.integers(1, 100), elements=st.integers(0, 2**52)))
def test_steps_come_back_exactly(step):
    columns = Columns()
    columns.steps(step)
    assert np.array_equal(unpacked(columns.data())[0], step)


def test_equal_columns_stand_in_the_page_once():
    columns, step = Columns(), np.arange(0, 5000, 5)
    assert columns.steps(step) == columns.steps(step.copy()) != columns.steps(step + 1)


@given(arrays.arrays(np.float32, st.integers(1, 100), elements=st.floats(width=32, allow_subnormal=False)))
def test_rounding_keeps_four_digits_and_what_is_not_finite(value):
    near = rounded(value)
    finite = np.isfinite(value)
    assert np.array_equal(np.isfinite(near), finite)
    assert np.array_equal(near[~finite], value[~finite], equal_nan=True)
    assert (np.abs(near[finite].astype(float) - value[finite]) <= 2.0**-13 * np.abs(value[finite].astype(float))).all()


@given(floats, st.integers(1, 20))
def test_a_bucket_keeps_its_first_lowest_highest_and_last_value_and_no_gap_closes(value, n_buckets):
    at = thinned(value, n_buckets)
    assert np.array_equal(at, np.unique(at))
    assert at.size <= max(4 * n_buckets, 6 * n_buckets)
    if value.size <= 4 * n_buckets:
        assert at.size == value.size
        return
    width = -(-value.size // n_buckets)
    for start in range(0, value.size, width):
        own, there = value[start : start + width], value[at[(at >= start) & (at < start + width)]]
        good = own[np.isfinite(own)]
        left = there[np.isfinite(there)]
        assert (good.size == 0) == (left.size == 0)
        if good.size:
            assert (left[0], left[-1], left.min(), left.max()) == (good[0], good[-1], good.min(), good.max())
        assert np.isfinite(own).all() == np.isfinite(there).all()


def test_a_run_of_nan_keeps_both_its_ends():
    value = np.sin(np.arange(100_000) / 50)
    value[40_123:60_457] = np.nan
    at = thinned(value)
    bad = at[np.isnan(value[at])]
    assert (bad[0], bad[-1]) == (40_123, 60_456)


def test_a_short_curve_is_kept_whole_and_a_long_one_in_its_segment():
    step = np.arange(200_000)
    value = np.random.default_rng(0).standard_normal(step.size)
    assert kept(step[:4000], value[:4000], Domain(0, 4000), 0).at.size == 4000
    domain = Domain(0, 200_000, (100_000.0, 104_000.0), 101_000)
    at, every, whole = kept(step, value, domain, 20_000)
    assert (every, whole) == (200, (100_000, 104_000))
    assert np.isin(np.arange(100_000, 104_000), at).all()
    assert at.size <= 20_000
    assert kept(step, value, Domain(0, 200_000), 20_000).at.size <= 4 * BUCKETS


def test_of_a_segment_beyond_the_budget_what_is_about_the_onset_is_kept():
    step = np.arange(0, 2_000_000, 2)
    value = np.random.default_rng(0).standard_normal(step.size)
    at, _, (first, last) = kept(step, value, Domain(0, 2e6, (1_000_000.0, 2_000_000.0), 1_200_000), 14_000)
    assert last - first == 10_000
    assert step[first] < 1_200_000 < step[last]
    assert np.isin(np.arange(first, last), at).all()
    assert at.size <= 14_000


def test_the_page_holds_every_line_of_every_figure():
    figures = figures_of(sample.failed_run())
    data = figures_data(figures)
    columns = unpacked(data)
    assert [f["key"] for f in data["figures"]] == [f.key for f in figures]
    for figure, told in zip(figures, data["figures"], strict=True):
        assert len(figure.panel.lines) == len(told["lines"])
        for line, one in zip(figure.panel.lines, told["lines"], strict=True):
            assert one["n"] == line.value.size
            assert np.array_equal(columns[one["step"]], line.step)
            assert columns[one["value"]] == pytest.approx(line.value, rel=2.0**-12, nan_ok=True)
    json.dumps(data, allow_nan=False)


def test_no_figure_no_data():
    assert figures_data(()) == {}


def test_a_log_out_of_order_is_sorted():
    report = sample.healthy_run()
    rng = np.random.default_rng(0)
    steps, loss = rng.permutation(500), rng.random(500)
    series = sample.series("loss", "train/loss", loss, steps)
    run = replace(report.run, series=(series,), primary={"loss": series}, restarts=())
    data = figures_data(figures_of(replace(report, run=run)))
    line = data["figures"][0]["lines"][0]
    columns = unpacked(data)
    assert np.array_equal(columns[line["step"]], np.arange(500))
    assert columns[line["value"]] == pytest.approx(loss[np.argsort(steps)])


def test_values_beyond_the_range_of_float32_stay_finite_and_apart_from_zero():
    columns = Columns()
    columns.values(np.array([1e60, 1e-60, 0.0]))
    assert unpacked(columns.data())[0].tolist() == [1e60, 1e-60, 0.0]


def test_a_run_of_a_million_steps_and_twenty_series_fits_its_budget():
    n = 1_000_000
    rng = np.random.default_rng(0)
    steps = np.arange(n, dtype=np.int64)
    curves = [sample.Curve(f"{i}", "observed", steps, np.exp(rng.standard_normal(n))) for i in range(20)]
    report = sample.failed_run()
    signs = tuple(VitalSign(f"Sign {i}", "", tuple(curves[i : i + 2]), log_scale=True) for i in range(0, 20, 2))
    finding = replace(report.findings[0], segment=Segment(300_000, n, 400_000))
    figures = figures_of(replace(report, replay=None, vital_signs=signs, findings=(finding,)))
    before = time.process_time()
    data = figures_data(figures)
    spent = time.process_time() - before
    lines = [line for f in data["figures"] for line in f["lines"]]
    held = sum(unpacked(data)[line["value"]].size for line in lines)
    assert len(lines) > 20
    assert held <= BUDGET * 1.5
    assert len(json.dumps(data)) < 1_000_000
    assert spent < 3.0  # about 0.7 s on a desktop
    assert all(line["whole"][0] < 400_000 < line["whole"][1] for line in lines if line["n"] == n)
