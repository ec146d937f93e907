"""W&B logs: what wandb itself wrote, read to the bit; records framed byte by byte; every kind of damage."""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.wire import field
from traindoctor.errors import UnreadableInputError
from traindoctor.model import QUANTILES
from traindoctor.readers.log import Hints
from traindoctor.readers.table import Table
from traindoctor.readers.wandblog import BLOCK, Loss, looks_like_wandb, read_records, read_wandb, split_export

FOLDER = Path(__file__).parents[2] / "fixtures" / "formats" / "wandb"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
PLAIN = (FOLDER / "plain.wandb").read_bytes()
HEADER = b":W&B\xe1\xbe\x00"


def chunk(kind, data):
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data


def frame(*payloads, origin=0):
    """Return a W&B file of these records."""
    out = bytearray(HEADER)
    for payload in payloads:
        first = True
        while True:
            left = BLOCK - (len(out) - origin) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            piece, payload = payload[: left - 7], payload[left - 7 :]
            out += chunk((1 if first else 4) if not payload else (2 if first else 3), piece)
            first = False
            if not payload:
                break
    return bytes(out)


def item(key, value):
    names = [key] if isinstance(key, str) else key
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"".join(field(2, name.encode()) for name in names) + field(16, text)


def history(step=None, **values):
    own = {} if step is None else {"_step": step, "_timestamp": 1.7e9 + step}
    items = b"".join(field(1, item(key.replace("__", "/"), value)) for key, value in (values | own).items())
    return field(2, items)


def metric(name, counter):
    return field(12, (field(2, name.encode()) if "*" in name else field(1, name.encode())) + field(4, counter.encode()))


def config(key, value):
    return field(5, field(1, item(key, value)))


def read(*payloads, **hints):
    (log,) = read_wandb(frame(*payloads), "run.wandb", Hints(**hints))
    return log


def points(log):
    return {s.tag: dict(zip(s.step.tolist(), s.value.tolist(), strict=True)) for s in log.series}


def flatten(values, beginning=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{beginning}{key}.")
        elif isinstance(value, bool | int | float):
            yield beginning + key, float(value)


# -- what wandb wrote -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_every_value_that_was_logged_is_read_to_the_bit(name):
    (log,) = read_wandb((FOLDER / f"{name}.wandb").read_bytes(), name)
    logged = {}
    for call in EXPECTED[name]:
        for tag, value in flatten(call["values"]):
            logged.setdefault(tag, []).append((call["step"], value))
    logged.pop(log.step_source, None)
    found = {s.tag: s for s in log.series}
    assert set(found) == set(logged)
    for tag, expected in logged.items():
        assert found[tag].step.tolist() == [step for step, _ in expected]
        assert found[tag].value.tobytes() == np.array([value for _, value in expected]).tobytes()
        assert np.isfinite(found[tag].wall_time).all()


def test_a_run_says_its_name_its_config_and_its_start():
    (log,) = read_wandb(PLAIN, "plain.wandb")
    assert log.name == "plain"
    assert log.settings == {
        "lr": 1e-3,  # set again after the start
        "batch_size": 32,
        "optimizer": {"name": "adamw", "betas": [0.9, 0.95]},
        "seed": None,
        "epochs": 3,
    }
    assert log.begun <= log.series[0].wall_time[0] < log.begun + 60


def test_histograms_are_measured_and_other_media_counted():
    (log,) = read_wandb(PLAIN, "plain.wandb")
    (weights,) = log.histograms
    assert weights.tag == "weights"
    assert weights.step.tolist() == [0, 40, 80]
    assert weights.count.tolist() == [500.0] * 3
    assert np.isnan(weights.total).all()
    assert np.isnan(weights.sum_squares).all()
    assert (np.diff(weights.quantile, axis=1) >= 0).all()
    assert abs(weights.quantile[:, QUANTILES.index(0.5)]).max() < 0.3  # 500 numbers of a standard normal
    (damage,) = log.damages
    assert damage.kind == "left-out"
    for named in ("image-file image (1 time)", "text note (3 times)", "list list (3 times)"):
        assert named in damage.detail
    assert not any(s.tag.startswith("image") for s in log.series)  # its width and height are no series


@pytest.mark.parametrize(("name", "counter"), [("counted", "train/global_step"), ("lightning", "trainer/global_step")])
def test_the_column_that_define_metric_names_counts_the_steps(name, counter):
    (log,) = read_wandb((FOLDER / f"{name}.wandb").read_bytes(), name)
    assert (log.step_source, log.step_unit) == (counter, "step")
    assert log.damages == ()


def test_nothing_of_the_machine_stands_in_the_fixtures():
    for path in FOLDER.iterdir():
        data = path.read_bytes()
        assert not any(word in data for word in (b"/root", b"/tmp/", b"/home/", b"@gmail"))


# -- which column counts ----------------------------------------------------------------------------------------------


def test_own_steps_that_the_script_gave_win_over_a_column_that_is_called_step():
    log = read(*(history(100 * i, loss=1.0 / (i + 1), iter=i) for i in range(5)))
    assert log.step_source == "_step"
    assert points(log)["loss"] == {0: 1.0, 100: 0.5, 200: 1 / 3, 300: 0.25, 400: 0.2}


def test_a_column_that_counts_wins_where_wandb_counted_calls():
    log = read(*(history(i, loss=1.0 / (i + 1), iter=250 * i) for i in range(5)))
    assert log.step_source == "iter"
    assert list(points(log)["loss"]) == [0, 250, 500, 750, 1000]


@pytest.mark.parametrize(
    "column",
    [[0, 1, 2, 0, 1], [0.5, 1.5, 2.5, 3.5, 4.5], [7] * 5, [0, 1, math.nan, 3, 4]],
    ids=["starts again", "fractions", "stands still", "nan"],
)
def test_a_column_that_does_not_count_is_no_step(column):
    log = read(*(history(i, loss=1.0, batch=value) for i, value in enumerate(column)))
    assert log.step_source == "_step"
    assert "batch" in points(log)


def test_rows_without_the_counter_stand_at_the_one_before():
    log = read(
        metric("*", "opt/step"),
        history(0, loss=1.0, opt__step=10),
        history(1, eval=2.0),
        history(2, loss=0.5, opt__step=20),
    )
    assert points(log) == {"loss": {10: 1.0, 20: 0.5}, "eval": {10: 2.0}}
    (damage,) = log.damages
    assert (damage.kind, damage.detail) == ("no-step", "1 row without opt/step: put at the one before")


def test_the_longest_beginning_decides_and_a_minority_does_not_choose_the_steps_of_all():
    rows = [history(i, a__x=1.0, a__y=1.0, a__z=1.0, val__loss=1.0, epoch=i // 2) for i in range(6)]
    assert read(metric("val/*", "epoch"), *rows).step_source == "_step"
    rows = [history(i, loss=1.0, lr=1.0, epoch=i + 1) for i in range(6)]
    log = read(metric("*", "epoch"), *rows)
    assert (log.step_source, log.step_unit) == ("epoch", "epoch")


def test_the_user_names_the_column():
    rows = [history(i, loss=float(i), tokens=1000 * i) for i in range(3)]
    assert list(points(read(*rows, step_column="tokens"))["loss"]) == [0, 1000, 2000]
    assert read(*rows, step_column="row").step_unit == "row"
    assert read(*rows, step_column="_step").step_source == "_step"
    with pytest.raises(UnreadableInputError, match="no column 'nothing'") as caught:
        read(*rows, step_column="nothing")
    assert caught.value.ways_out == ("another of the columns: loss, tokens",)


def test_a_count_of_fractions_that_the_user_names_is_told_and_not_used():
    log = read(*(history(i, loss=1.0, part=i / 2) for i in range(3)), step_column="part")
    assert log.step_source == "_step"
    assert [d.kind for d in log.damages] == ["fractional-steps"]


def test_the_step_of_the_record_counts_where_the_row_has_none():
    rows = [field(2, field(1, item("loss", 1.0)) + field(2, field(1, step) if step else b"")) for step in (0, 5, 6)]
    assert list(points(read(*rows))["loss"]) == [0, 5, 6]


def test_rows_without_any_step_count_on():
    log = read(history(3, loss=1.0), history(loss=2.0), history(loss=3.0))
    assert points(log)["loss"] == {3: 1.0, 4: 2.0, 5: 3.0}
    assert [d.kind for d in log.damages] == ["no-step"]


def test_steps_that_go_back_are_kept_and_told():
    log = read(*(history(step, loss=1.0) for step in (0, 1, 2, 1, 2)))
    assert log.series[0].step.tolist() == [0, 1, 2, 1, 2]
    assert log.goes_back == (1,)
    assert [d.kind for d in log.damages] == ["duplicate-steps", "steps-go-back"]


def test_a_resumed_run_says_where_it_starts():
    run = field(17, field(1, b"abc") + field(14, 500) + field(18, 1))
    log = read(run, history(500, loss=1.0))
    assert log.starts == (500,)
    assert log.name == "abc"  # the id, where there is no name


# -- values -----------------------------------------------------------------------------------------------------------


def test_what_is_not_finite_is_read_as_json_and_as_words():
    texts = [b"NaN", b"Infinity", b"-Infinity", b'"NaN"', b'"Infinity"', b'"-Infinity"', b"1e999"]
    log = read(*(history(i, loss=text) for i, text in enumerate(texts)))
    values = log.series[0].value
    assert np.isnan(values[[0, 3]]).all()
    assert values[[1, 2, 4, 5, 6]].tolist() == [math.inf, -math.inf, math.inf, -math.inf, math.inf]


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_every_float_is_read_to_the_bit(values):
    log = read(*(history(i, loss=value) for i, value in enumerate(values)))
    assert log.series[0].value.tobytes() == np.array(values).tobytes()


def test_keys_are_read_in_every_form_that_wandb_has_had():
    old = field(
        2, field(1, field(1, b"loss") + field(16, b"0.5")) + field(1, field(1, b"d") + field(16, b'{"a": {"b": 2}, "c": true}'))
    )
    new = field(2, field(1, item(["d", "a", "b"], 3)) + field(1, item(["d", "c"], False)))
    assert points(read(old, new)) == {"loss": {0: 0.5}, "d.a.b": {0: 2.0, 1: 3.0}, "d.c": {0: 1.0, 1: 0.0}}


def test_a_histogram_of_the_old_form_is_one():
    log = read(history(0, h={"_type": "histogram", "values": [1, 0, 3], "bins": [0, 1, 2, 4]}))
    (histogram,) = log.histograms
    assert histogram.count.tolist() == [4.0]
    assert histogram.quantile[0, [0, QUANTILES.index(0.25), -1]].tolist() == [0.0, 1.0, 4.0]


@pytest.mark.parametrize(
    "parts",
    [
        {"values": [1, 2], "bins": [0, 1]},
        {"values": [1, -2], "bins": [0, 1, 2]},
        {"values": [0, 0], "bins": [0, 1, 2]},
        {"values": [1, 2], "bins": [0, 2, 1]},
        {"values": [1, "x"], "bins": [0, 1, 2]},
        {"values": [1, math.inf], "bins": [0, 1, 2]},
        {"values": [], "bins": [0]},
        {"values": 5},
    ],
)
def test_a_histogram_that_is_none_is_left_out_and_told(parts):
    log = read(history(0, h={"_type": "histogram"} | parts, loss=1.0))
    assert log.histograms == ()
    assert points(log) == {"loss": {0: 1.0}}
    assert [d.detail for d in log.damages] == ["left out: histogram h (1 time)"]


def test_a_value_that_is_no_json_is_left_out_and_told():
    log = read(history(0, loss=1.0, bad=b"{"), history(1, loss=0.5, deep=b"[" * 100_000))
    assert points(log) == {"loss": {0: 1.0, 1: 0.5}}
    assert [(d.kind, d.detail) for d in log.damages] == [("unreadable-cell", "no JSON, left out: bad (1 time), deep (1 time)")]


def test_an_item_that_stands_twice_counts_once():
    assert points(read(field(2, field(1, item("a", 1)) + field(1, item("a", 2)))))["a"] == {0: 2.0}


def test_config_is_set_changed_and_removed():
    log = read(
        config("a", 1),
        config(["b", "c"], "x"),
        config(["b", "d"], [1, 2]),
        config("_wandb", {"cli_version": "0.31.0"}),
        config("a", 2),
        field(5, field(2, field(2, b"b") + field(2, b"c"))),
    )
    assert log.settings == {"a": 2, "b": {"d": [1, 2]}}


def test_too_many_tags_are_left_out_and_told(monkeypatch):
    monkeypatch.setattr("traindoctor.readers.logcalls.MOST_TAGS", 10)
    log = read(history(0, **{f"t{i:02}": i for i in range(20)}))
    assert len(log.series) == 10
    (damage,) = log.damages
    assert damage.kind == "too-many-tags"


def test_system_statistics_and_output_are_no_series():
    stats = field(7, field(1, 0) + field(3, field(1, b"cpu") + field(16, b"5")))
    log = read(stats, field(13, b"printed"), history(0, loss=1.0))
    assert list(points(log)) == ["loss"]


# -- damage -----------------------------------------------------------------------------------------------------------


def rows_of(data):
    return [found for found in read_records(data) if not isinstance(found, Loss)]


def test_it_is_told_by_its_first_bytes():
    assert looks_like_wandb(PLAIN[:100], "anything")
    assert looks_like_wandb(b"", "run-1.wandb")
    assert not looks_like_wandb(b"", "run-1.csv")
    assert not looks_like_wandb(b"step,loss\n", "run-1.wandb")


@pytest.mark.parametrize("size", [0, 1, 40_000])
def test_a_file_of_nothing_is_empty(size):
    (log,) = read_wandb(bytes(size), "run.wandb")
    assert log.series == ()
    assert [d.kind for d in log.damages] == ["empty-file"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"step,loss\n1,2\n", "does not begin with"),
        (b":W&B\x00\x00\x00", "its mark is 0x0000"),
        (b":W&B\xe1\xbe\x07" + PLAIN[7:], "of version 7: only version 0 is known"),
    ],
)
def test_what_is_no_log_of_the_known_version_is_refused(data, why):
    with pytest.raises(UnreadableInputError, match=why):
        read_wandb(data, "run.wandb")


def test_a_flipped_byte_loses_one_record_and_no_other():
    rows = [history(i, loss=float(i)) for i in range(100)]
    data = bytearray(frame(*rows))
    data[data.index(b"50.0")] ^= 1
    (log,) = read_wandb(bytes(data), "run.wandb")
    assert points(log)["loss"] == {i: float(i) for i in range(100) if i != 50}
    (damage,) = log.damages
    assert damage.kind == "corrupt-record"
    assert damage.offset is not None
    assert data[damage.offset + 7 :].startswith(rows[50][:8])


def test_a_length_that_is_wrong_loses_the_block_alone():
    rows = [history(i, loss=float(i), pad="x" * 100) for i in range(1000)]
    data = bytearray(frame(*rows))
    data[BLOCK + 5000 : BLOCK + 5400] = b"\xff" * 400
    (log,) = read_wandb(bytes(data), "run.wandb")
    steps = log.series[0].step
    lost = sorted(set(range(1000)) - set(steps.tolist()))
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert len(lost) < 200  # a block holds about as many
    assert log.damages[0].kind == "corrupt-record"


def test_zeros_in_the_middle_and_at_the_end_are_told():
    rows = [history(i, loss=float(i), pad="x" * 100) for i in range(1000)]
    data = bytearray(frame(*rows))
    data[2 * BLOCK : 3 * BLOCK] = bytes(BLOCK)
    (log,) = read_wandb(bytes(data), "run.wandb")
    assert any("zero bytes" in d.detail and d.offset == 2 * BLOCK for d in log.damages)
    assert 999 in log.series[0].step
    (log,) = read_wandb(frame(*rows[:10]) + bytes(500), "run.wandb")
    assert [(d.kind, "only zero bytes follow" in d.detail) for d in log.damages[:1]] == [("truncated", True)]
    assert len(log.series[0]) == 10


@given(st.integers(0, len(PLAIN)))
@settings(derandomize=True, max_examples=80, deadline=None)
def test_a_cut_gives_a_prefix_and_at_most_one_loss(size):
    whole = list(read_records(PLAIN))
    found = list(read_records(PLAIN[:size]))
    records = [entry for entry in found if not isinstance(entry, Loss)]
    assert records == whole[: len(records)]
    losses = found[len(records) :]
    assert [loss.kind for loss in losses] in ([], ["truncated"])
    if size == len(PLAIN):
        assert not losses


def test_records_longer_than_a_block_are_put_together():
    payloads = [bytes([i]) * length for i, length in enumerate((10, 40_000, 32_747, 32_748, 200_000, 0, 5))]
    data = frame(*payloads)
    assert [payload for _, payload in rows_of(data)] == payloads


def test_blocks_of_wandb_before_0_17_6_begin_behind_the_header():
    rows = [history(i, loss=float(i), pad="x" * 100) for i in range(1000)]
    (log,) = read_wandb(frame(*rows, origin=7), "run.wandb")
    assert log.series[0].step.tolist() == list(range(1000))
    assert [d.kind for d in log.damages] == ["left-out"]


def test_many_losses_are_counted_behind_the_first():
    data = bytearray(frame(*(history(i, loss=float(i)) for i in range(100))))
    at = 7
    while at < len(data):  # every second record
        length = struct.unpack_from("<H", data, at + 4)[0]
        data[at + 7] ^= 0xFF
        at += 7 + length
        at += 7 + struct.unpack_from("<H", data, at + 4)[0]
    (log,) = read_wandb(bytes(data), "run.wandb")
    assert len(log.series[0]) == 50
    assert len(log.damages) == 9
    assert log.damages[-1].detail.startswith("42 records more")


def test_a_record_that_is_no_protocol_buffer_is_told():
    log = read(b"\xff" * 20, history(0, loss=1.0))
    assert [d.kind for d in log.damages] == ["corrupt-record"]
    assert points(log) == {"loss": {0: 1.0}}


def mutate(data, draw):
    """Return bytes with a few random changes: cut, flipped, repeated, inserted."""
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw.draw(st.sampled_from(["cut", "flip", "repeat", "insert"]))
        if kind == "cut":
            data = data[:at]
        elif kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + draw.draw(st.integers(1, 300))] + data[at:]
        elif kind == "insert":
            data = data[:at] + draw.draw(st.binary(max_size=40)) + data[at:]
    return data


def reads_or_refuses(data):
    try:
        logs = read_wandb(data, "run.wandb")
    except UnreadableInputError:
        return
    for log in logs:
        assert all(s.step.size == s.value.size == s.wall_time.size > 0 for s in log.series)


SMALL = (FOLDER / "lightning.wandb").read_bytes()


@given(st.data())
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_mutated_file_is_read_or_refused(draw):
    reads_or_refuses(mutate(SMALL, draw))


@given(st.data())
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_mutated_record_behind_a_sound_checksum_is_read_or_told(draw):
    payloads = [payload for _, payload in rows_of(SMALL)][:12]
    at = draw.draw(st.integers(0, len(payloads) - 1))
    payloads[at] = mutate(payloads[at], draw)
    reads_or_refuses(frame(*payloads))


@pytest.mark.slow
@given(st.data())
@settings(derandomize=True, max_examples=10_000, deadline=None)
def test_ten_thousand_mutated_files_are_read_or_refused(draw):
    if draw.draw(st.booleans()):
        reads_or_refuses(mutate(SMALL, draw))
    else:
        payloads = [payload for _, payload in rows_of(SMALL)]
        at = draw.draw(st.integers(0, len(payloads) - 1))
        payloads[at] = mutate(payloads[at], draw)
        reads_or_refuses(frame(*payloads))


# -- tables of the web page -------------------------------------------------------------------------------------------

EXPORT = """\
Step,a - b - loss,a - b - loss__MIN,a - b - loss__MAX,other - loss,other - loss__MIN,other - loss__MAX
0,1.5,1.5,1.5,,,
10,1.0,0.5,2.0,3.0,3.0,3.0
20,,,,NaN,NaN,NaN"""


def table_of(text):
    """Return the table of a CSV text that holds numbers and blanks."""
    header, *rows = [line.split(",") for line in text.splitlines()]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    numbers = {name: np.array([float(cell or "nan") for cell in cells]) for name, cells in columns.items()}
    filled = {name: np.array([cell != "" for cell in cells]) for name, cells in columns.items()}
    return Table(tuple(header), numbers, filled, np.arange(len(rows)) + 2, ())


def test_an_exported_table_holds_a_run_for_each_name():
    runs = split_export(table_of(EXPORT), "export.csv")
    assert runs is not None
    assert [name for name, _ in runs] == ["a - b", "other"]
    tables = dict(runs)
    assert tables["a - b"].columns == ("Step", "loss")
    assert tables["a - b"].numbers["Step"].tolist() == [0.0, 10.0]
    assert tables["a - b"].numbers["loss"].tolist() == [1.5, 1.0]
    assert [(d.kind, d.file) for d in tables["a - b"].damages] == [("sampled", "export.csv")]  # the bounds are not the values
    assert tables["other"].line.tolist() == [3, 4]
    assert tables["other"].numbers["loss"][0] == 3.0
    assert math.isnan(tables["other"].numbers["loss"][1])
    assert tables["other"].damages == ()


def test_wandbs_own_count_is_no_series_of_an_exported_table():
    (run,) = (
        split_export(table_of("train/step,a - _step,a - _step__MIN,a - _step__MAX,a - l,a - l__MIN,a - l__MAX\n10,1,1,1,2,2,2"))
        or ()
    )
    assert run[1].columns == ("train/step", "l")


@pytest.mark.parametrize(
    "header",
    [
        "step,loss",
        "Step,a - loss",
        "Step,a - loss,a - loss__MIN",
        "a - l,a - l__MIN,a - l__MAX",
        "x,y,a - l,a - l__MIN,a - l__MAX",
    ],
)
def test_another_table_is_no_export(header):
    assert split_export(table_of(f"{header}\n{','.join('1' * (header.count(',') + 1))}")) is None
