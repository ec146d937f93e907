"""Event files in each of their forms, whole, damaged, many at once, and while they grow."""

from __future__ import annotations

import gzip
import itertools
import math
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from traindoctor.errors import UnreadableInputError
from traindoctor.model import QUANTILES
from traindoctor.readers import events
from traindoctor.readers.events import EventTail, looks_like_events, read_event_file, read_event_files, read_events
from traindoctor.readers.tfrecord import masked_crc

from .wire import VERSION, event, event_file, field, fixed32, float_tensor, loss_file, metadata, record, simple, tensor, varint

if TYPE_CHECKING:
    from traindoctor.model import Series
    from traindoctor.readers.log import Log

FIXTURES = Path(__file__).parents[2] / "fixtures" / "formats" / "tensorboard"


def series(log: Log, tag: str = "loss") -> Series:
    [found] = [one for one in log.series if one.tag == tag]
    return found


def values(log: Log, tag: str = "loss") -> list[float]:
    return series(log, tag).value.tolist()


def assert_same(a: Log, b: Log) -> None:
    assert [one.tag for one in a.series] == [one.tag for one in b.series]
    for x, y in zip(a.series, b.series, strict=True):
        for name in ("step", "value", "wall_time"):
            mine, other = getattr(x, name), getattr(y, name)
            assert mine.dtype == other.dtype
            assert np.array_equal(mine, other, equal_nan=name != "step"), (x.tag, name)
    assert [one.tag for one in a.histograms] == [one.tag for one in b.histograms]
    for h, k in zip(a.histograms, b.histograms, strict=True):
        assert np.array_equal(h.step, k.step)
        for name in ("wall_time", "count", "total", "sum_squares", "quantile"):
            assert np.array_equal(getattr(h, name), getattr(k, name), equal_nan=True)
    assert (a.settings, a.starts, a.damages) == (b.settings, b.starts, b.damages)
    assert a.begun == b.begun or (math.isnan(a.begun) and math.isnan(b.begun))


# -- what is in them --------------------------------------------------------------------------------------------------


def test_simple_values() -> None:
    log = read_events(loss_file([1.0, float("nan"), float("inf"), 0.1], stride=300), "f")
    found = series(log)
    assert found.step.tolist() == [0, 300, 600, 900]
    np.testing.assert_array_equal(found.value, np.array([1.0, np.nan, np.inf, np.float32(0.1)], dtype=np.float64))
    assert found.wall_time.tolist() == [1.7e9 + i for i in range(4)]
    assert (found.source, found.quantity, log.format) == ("f", "", "tensorboard")
    assert (log.damages, log.begun) == ((), 1.7e9)


@pytest.mark.parametrize("few", [1, 2**30])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (float_tensor(1.5), 1.5),
        (field(1, 1) + field(2, b"") + field(5, struct.pack("<f", 2.5)), 2.5),
        (field(1, 1) + fixed32(5, 2.5), 2.5),
        (field(1, 2) + field(4, struct.pack("<d", 0.1)), 0.1),
        (field(1, 2) + field(6, struct.pack("<d", 0.1)), 0.1),
        (field(1, 2) + field(6, 0.1), 0.1),
        (field(1, 1) + field(2, b""), 0.0),
        (field(1, 19) + field(13, 0x3E00), 1.5),
        (field(1, 19) + field(4, b"\x00\x3e"), 1.5),
        (field(1, 14) + field(13, 0x3FC0), 1.5),
        (field(1, 3) + field(7, -3), -3.0),
        (field(1, 9) + field(10, varint(7)), 7.0),
        (field(1, 10) + field(11, 1), 1.0),
        (field(1, 1) + field(2, field(2, field(1, 1))) + fixed32(5, 2.5), 2.5),
    ],
)
def test_tensors_of_one_number(body: bytes, expected: float, few: int) -> None:
    first = event(1, tensor("loss", body, metadata("scalars")))
    data = event_file(first, *(event(i, tensor("loss", body)) for i in range(2, 6)))
    assert values(read_events(data, "f", few=few)) == [expected] * 5


@pytest.mark.parametrize("few", [1, 2**30])
def test_metadata_of_the_first_event_tell_what_the_others_are(few: int) -> None:
    curves = [event(i, tensor("note", float_tensor(1.0), metadata("pr_curves") if i == 0 else b"")) for i in range(5)]
    matrix = event(0, tensor("histogram", field(1, 2) + field(2, field(2, field(1, 3))) + field(4, bytes(24))))
    log = read_events(event_file(*curves, matrix, event(0, simple("loss", 1.0))), "f", few=few)
    assert [one.tag for one in log.series] == ["loss"]


@pytest.mark.parametrize("few", [1, 2**30])
def test_metadata_count_from_where_they_stand(few: int) -> None:
    """A tensor that nothing was said of is a scalar; once its tag is another plugin's, it is none."""
    before = [event(i, tensor("loss", float_tensor(float(i)))) for i in range(30)]
    said = event(30, tensor("loss", float_tensor(30.0), metadata("pr_curves")))
    after = [event(i, tensor("loss", float_tensor(float(i)))) for i in range(31, 60)]
    log = read_events(event_file(*before, said, *after), "f", few=few)
    assert values(log) == [float(i) for i in range(30)]
    first = event(0, tensor("loss", float_tensor(0.0), metadata("scalars")))
    log = read_events(event_file(first, *before[1:], said, *after), "f", few=few)
    assert values(log) == [float(i) for i in range(60)], "what was said first of a tag counts"


def test_several_values_in_one_event_and_other_orders_of_fields() -> None:
    turned = field(5, simple("loss", 3.0)) + field(2, 7) + field(1, 9.0)
    log = read_events(event_file(event(1, simple("a", 1.0), simple("loss", 2.0), wall=8.0), turned), "f")
    assert series(log).step.tolist() == [1, 7]
    assert series(log).wall_time.tolist() == [8.0, 9.0]
    assert [one.tag for one in log.series] == ["a", "loss"]


def test_hparams_and_session_starts() -> None:
    def entry(name: str, value: bytes) -> bytes:
        return field(1, field(1, name.encode()) + field(2, value))

    info = entry("lr", field(2, 0.001)) + entry("optimizer", field(3, b"adam")) + entry("nesterov", field(4, 1))
    start = event(0, field(1, field(1, b"_hparams_/session_start_info") + metadata("hparams", field(2, b"") + field(3, info))))
    log = read_events(event_file(start, field(1, 1.0) + field(2, 40) + field(7, field(1, 1))), "f")
    assert log.settings == {"lr": 0.001, "optimizer": "adam", "nesterov": True}
    assert log.starts == (40,)
    assert log.series == ()
    assert log.damages == ()


def text(tag: str, content: bytes, *, declared: bool = True) -> bytes:
    body = field(1, 7) + field(2, field(2, field(1, 1))) + field(8, content)
    return event(0, tensor(tag, body, metadata("text") if declared else b""))


def test_settings_in_texts_and_hyperparameters_over_them() -> None:
    data = event_file(
        text("hyperparameters/text_summary", b"|param|value|\n|-|-|\n|lr|0.001|\n|seed|1|"),
        text("notes/text_summary", b"lr: 5"),
        text("config", b'{"optimizer": {"name": "adam"}}'),
        text("args", b"free words"),
    )
    log = read_events(data, "f")
    assert log.settings == {"lr": 0.001, "seed": 1, "optimizer": {"name": "adam"}}
    assert log.damages == ()


def histogram_proto(edges: list[float], counts: list[float], low: float, high: float) -> bytes:
    def packed(found: list[float]) -> bytes:
        return struct.pack(f"<{len(found)}d", *found)

    single = [low, high, sum(counts), 12.5, 99.0]
    return b"".join(field(k + 1, float(one)) for k, one in enumerate(single)) + field(6, packed(edges)) + field(7, packed(counts))


def test_histograms_of_both_forms() -> None:
    proto = histogram_proto([0.0, 1.0, 2.0, 1.8e308], [0.0, 50.0, 50.0, 0.0], 0.2, 1.6)
    buckets = np.array([[-1.0, 0.0, 10.0], [0.0, 1.0, 30.0]])
    shape = field(2, field(2, field(1, 2)) + field(2, field(1, 3)))
    matrix = field(1, 2) + shape + field(4, buckets.tobytes())
    old = field(1, field(1, b"weights") + field(5, proto))
    log = read_events(
        event_file(
            event(3, old, wall=5.0), event(4, tensor("grads", matrix, metadata("histograms"))), event(5, tensor("grads", matrix))
        ),
        "f",
    )
    weights, grads = log.histograms
    assert (weights.tag, weights.step.tolist(), weights.wall_time.tolist(), weights.source) == ("weights", [3], [5.0], "f")
    assert (weights.count[0], weights.total[0], weights.sum_squares[0]) == (100.0, 12.5, 99.0)
    middle = QUANTILES.index(0.5)
    assert weights.quantile[0, [0, middle, -1]].tolist() == [0.2, 1.0, 1.6]
    assert weights.quantile.shape == (1, len(QUANTILES))
    assert grads.step.tolist() == [4, 5]
    assert grads.count.tolist() == [40.0, 40.0]
    assert np.isnan(grads.total).all()
    assert np.isnan(grads.sum_squares).all()
    assert grads.quantile[0, [0, QUANTILES.index(0.25), middle, -1]].tolist() == [-1.0, 0.0, pytest.approx(1 / 3), 1.0]
    assert log.series == ()


def test_negative_and_huge_steps_and_tags_that_are_no_text() -> None:
    raw = field(1, field(1, b"\xff\xfe") + fixed32(2, 1.0))
    other = field(1, field(1, b"\xff\xfd") + fixed32(2, 2.0))
    data = event_file(
        event(-5, simple("loss", 1.0)), event(2**62, simple("loss", 1.0)), event(1, raw), event(2, other), event(3, raw)
    )
    for few in (1, 2**30):
        log = read_events(data, "f", few=few)
        assert series(log).step.tolist() == [-5, 2**62]
        assert values(log, "\ufffd\ufffd") == [1.0, 2.0, 1.0], "tags that read alike are one, in file order"


def test_series_come_in_the_order_of_their_first_record() -> None:
    tags = [f"layer{i:03}/grad_norm" for i in range(300)]
    random.Random(0).shuffle(tags)
    data = event_file(*(event(step, simple(tag, step + i)) for step in range(4) for i, tag in enumerate(tags)))
    for chunk in (2000, 2**20):
        log = read_events(data, "f", chunk=chunk, few=1)
        assert [one.tag for one in log.series] == tags
        assert values(log, tags[7]) == [7.0, 8.0, 9.0, 10.0]


# -- damage -----------------------------------------------------------------------------------------------------------


def test_no_bytes_are_a_damage() -> None:
    log = read_events(b"", "f")
    assert [d.kind for d in log.damages] == ["empty-file"]


@pytest.mark.parametrize("few", [1, 2**30])
def test_a_bad_payload_loses_one_record(few: int) -> None:
    data = bytearray(loss_file([1.0, 2.0, 3.0]))
    size = len(record(event(1, simple("loss", 2.0), wall=1.7e9)))
    data[-size - 8] ^= 1
    log = read_events(bytes(data), "f", few=few)
    assert values(log) == [1.0, 3.0]
    assert [(d.kind, d.offset) for d in log.damages] == [("corrupt-record", len(data) - 2 * size)]


def test_many_losses_are_counted() -> None:
    bad = bytearray(record(event(1, simple("loss", 2.0))))
    bad[-1] ^= 1
    log = read_events(VERSION + bytes(bad) * 30, "f")
    assert len(log.damages) == events.NAMED + 1
    assert "22 further" in log.damages[-1].detail
    assert log.damages[-1].offset == len(VERSION) + 8 * len(bad)


@pytest.mark.parametrize("few", [1, 2**30])
def test_behind_a_bad_length_the_next_record_is_found(few: int) -> None:
    data = bytearray(loss_file([float(i) for i in range(100)]))
    size = len(record(event(200, simple("loss", 2.0))))
    place = data.index(record(event(50, simple("loss", 50.0), wall=1.7e9 + 50)))
    data[place] ^= 1
    log = read_events(bytes(data), "f", few=few)
    assert values(log) == [float(i) for i in range(100) if i != 50]
    [damage] = log.damages
    assert (damage.kind, damage.offset) == ("corrupt-record", place)
    assert f"{size - 1} bytes are lost" in damage.detail


@pytest.mark.parametrize("few", [1, 2**30])
def test_bytes_that_were_left_out_or_put_in_cost_the_records_they_touch(few: int) -> None:
    whole = loss_file([float(i) for i in range(100)])
    place = whole.index(record(event(50, simple("loss", 50.0), wall=1.7e9 + 50)))
    log = read_events(whole[: place + 20] + whole[place + 25 :], "f", few=few)
    assert values(log) == [float(i) for i in range(100) if i != 50]
    log = read_events(whole[: place + 20] + b"noise" * 1000 + whole[place + 20 :], "f", few=few)
    assert values(log) == [float(i) for i in range(100) if i != 50]
    assert [d.kind for d in log.damages] == ["corrupt-record"]
    log = read_events(whole[:place] + bytes(4096) + whole[place:], "f", few=few)
    assert values(log) == [float(i) for i in range(100)]
    assert "4,096 bytes are lost" in log.damages[0].detail


def test_a_bad_length_at_the_end_loses_the_rest_and_says_so() -> None:
    good = loss_file([1.0, 2.0])
    data = bytearray(good + record(event(2, simple("loss", 3.0))))
    data[len(good)] ^= 1
    log = read_events(bytes(data), "f")
    assert values(log) == [1.0, 2.0]
    assert [(d.kind, d.offset) for d in log.damages] == [("corrupt-record", len(good))]
    assert "the last" in log.damages[0].detail


@pytest.mark.parametrize("length", [2**62, 2**31, 10_000])
def test_a_length_beyond_the_file_does_not_swallow_what_follows(length: int) -> None:
    header = struct.pack("<Q", length)
    hostile = header + struct.pack("<I", masked_crc(header))
    good = loss_file([1.0, 2.0])
    log = read_events(good + hostile + record(event(2, simple("loss", 3.0))), "f")
    assert values(log) == [1.0, 2.0, 3.0]
    assert [(d.kind, d.offset) for d in log.damages] == [("corrupt-record", len(good))]
    if length > 10_000:
        assert f"claims {length:,} bytes" in log.damages[0].detail
    log = read_events(good + hostile, "f")
    assert values(log) == [1.0, 2.0]
    assert len(log.damages) == 1


def test_a_record_that_is_no_protocol_buffer_is_lost_alone() -> None:
    log = read_events(VERSION + record(b"\x0f\xff\xff") + record(event(1, simple("loss", 1.0))), "f")
    assert values(log) == [1.0]
    assert [d.kind for d in log.damages] == ["corrupt-record"]


def test_a_file_of_headers_alone_is_read_in_linear_time() -> None:
    """Each header claims what stands behind it, and none of it fits."""
    header = struct.pack("<Q", 50_000)
    claim = header + struct.pack("<I", masked_crc(header))
    log = read_events(VERSION + b"\x01" + claim * 20_000 + record(event(1, simple("loss", 1.0))), "f")
    assert values(log) == [1.0]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"step,loss\n1,2\n3,4\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
        (bytes(range(200)), "does not begin"),
        (record(b"\x0f\xff") * 3, "another kind"),
        (record(field(1, field(1, b"features of an example"))) * 200, "another kind"),
        (b"step,loss\n1,2\n3,4\n" * 100_000, "text"),
        (b"x" * (2**20 + 100) + VERSION, "text"),
    ],
)
def test_what_is_no_event_file(data: bytes, what: str) -> None:
    for few in (1, 2**30):
        with pytest.raises(UnreadableInputError, match="is not an event file") as error:
            read_events(data, "events.out.tfevents", few=few)
        assert what in error.value.what
        assert error.value.ways_out


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInputError, match="cannot be read"):
        read_event_file(tmp_path, "here")


def test_what_looks_like_an_event_file() -> None:
    assert looks_like_events(loss_file([1.0]), "a")
    assert looks_like_events(loss_file([1.0])[:20], "a"), "a first record that is cut"
    assert not looks_like_events(record(field(1, field(1, b"features of an example"))), "data.tfrecord")
    assert not looks_like_events(b"step,loss\n1,2\n", "a.csv")
    assert not looks_like_events(b"", "a")


def test_a_cut_at_every_byte_gives_a_prefix_and_one_damage() -> None:
    losses = [float(i) for i in range(25)]
    whole = loss_file(losses)
    ends = [0, *np.cumsum([len(VERSION)] + [len(record(event(i, simple("loss", 1.0)))) for i in range(25)]).tolist()]
    assert ends[-1] == len(whole)
    for cut in range(1, len(whole)):
        for few in (1, 2**30):
            log = read_events(whole[:cut], "f", few=few)
            n = max(sum(end <= cut for end in ends) - 2, 0)
            assert (values(log) if n else []) == losses[:n]
            expected = [] if cut in ends else [("truncated", max(end for end in ends if end <= cut))]
            assert [(d.kind, d.offset) for d in log.damages] == expected


@pytest.mark.parametrize("few", [1, 2**30])
def test_a_flipped_bit_anywhere_is_noticed(few: int) -> None:
    whole = loss_file([float(i) for i in range(12)])
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        try:
            log = read_events(bytes(data), "f", few=few)
        except UnreadableInputError:
            continue
        assert log.damages, bit
        found = values(log)
        assert found == sorted(found)
        assert len(found) >= 11


def test_compressed_files_are_read_and_a_cut_one_names_one_damage(tmp_path: Path) -> None:
    whole = loss_file([float(i) for i in range(30_000)])
    path = tmp_path / "events.out.tfevents.1.gz"
    path.write_bytes(gzip.compress(whole, 1))
    assert_same(read_event_file(path, "f"), read_events(whole, "f"))
    path.write_bytes(gzip.compress(whole, 1)[:-500])
    log = read_event_file(path, "f")
    assert values(log) == [float(i) for i in range(len(values(log)))]
    assert 20_000 < len(values(log)) < 30_000
    [damage] = log.damages
    assert damage.kind == "truncated"
    assert "compressed" in damage.detail


# -- against TensorBoard ----------------------------------------------------------------------------------------------


def assert_as_tensorboard_reads(path: Path, **options: int) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    reference = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
    reference.Reload()
    [log] = read_event_files([(path, "f")], **options)
    assert not isinstance(log, UnreadableInputError)
    expected: dict[str, list[tuple[int, float, float]]] = {}
    for tag in reference.Tags()["scalars"]:
        expected[tag] = [(e.step, e.wall_time, e.value) for e in reference.Scalars(tag)]
    for tag in reference.Tags()["tensors"]:
        if reference.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            expected[tag] = [(e.step, e.wall_time, float(make_ndarray(e.tensor_proto))) for e in reference.Tensors(tag)]
    assert {one.tag for one in log.series} == set(expected)
    for one in log.series:
        steps, walls, logged = (np.array(column) for column in zip(*expected[one.tag], strict=True))
        np.testing.assert_array_equal(one.step, steps)
        np.testing.assert_array_equal(one.wall_time, walls)
        np.testing.assert_array_equal(one.value.view(np.int64), logged.astype(np.float64).view(np.int64))
    for found in log.histograms:
        if found.tag in reference.Tags()["histograms"]:
            protos = [e.histogram_value for e in reference.Histograms(found.tag)]
            assert found.sum_squares.tolist() == [proto.sum_squares for proto in protos]
            assert found.quantile[:, 0].tolist() == [proto.min for proto in protos]
            assert found.quantile[:, -1].tolist() == [proto.max for proto in protos]


@pytest.mark.parametrize("few", [1, 2**30])
@pytest.mark.parametrize("name", ["torch", "tensorboardx", "tensorflow1", "tensorflow2"])
def test_values_are_those_of_event_accumulator(name: str, few: int) -> None:
    assert_as_tensorboard_reads(FIXTURES / f"{name}.tfevents", few=few)


def test_what_the_writer_of_torch_writes(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for step in range(200):
            writer.add_scalar("loss", 1.0 / (step + 1), step)
            writer.add_scalar("lr", 1e-3, step, new_style=True)
        writer.add_histogram("weights", np.arange(9.0), 3)
    assert_as_tensorboard_reads(next(tmp_path.iterdir()), few=1)


def test_settings_and_histograms_of_real_files() -> None:
    torch, tensorboardx, first, second = (
        read_event_file(FIXTURES / f"{name}.tfevents", name) for name in ("torch", "tensorboardx", "tensorflow1", "tensorflow2")
    )
    texts = {
        "learning_rate": 3e-4,
        "optimizer": "adamw",
        "anneal_lr": True,
        "seed": None,
        "weight_decay": 0.01,
        "betas": [0.9, 0.95],
    }
    assert torch.settings == texts | {"batch_size": 32.0, "scheduler": "cosine"}
    assert tensorboardx.settings == texts
    for log in (torch, tensorboardx):
        [gradient] = log.histograms
        assert gradient.step.tolist() == [0, 50, 100]
        assert gradient.count.tolist() == [500.0] * 3
        assert gradient.total.tolist() == pytest.approx(gradient.total.tolist())
        assert 0.5 < gradient.quantile[0, QUANTILES.index(0.75)] < 0.9, "of a normal distribution"
    assert first.starts == second.starts == (0, 60)
    assert [one.tag for one in second.histograms] == ["dense/kernel"]


def test_a_real_file_that_was_cut() -> None:
    whole, cut = (read_event_file(FIXTURES / f"{name}.tfevents", "f") for name in ("torch", "cut"))
    assert [d.kind for d in cut.damages] == ["truncated"]
    for one in cut.series:
        np.testing.assert_array_equal(one.value, series(whole, one.tag).value[: len(one)])


# -- many files -------------------------------------------------------------------------------------------------------


def test_files_read_together_give_what_each_gives_alone(tmp_path: Path) -> None:
    rng = random.Random(0)
    contents = []
    for k in range(30):
        form = k % 3
        body = [
            event(
                i,
                (simple if form else lambda tag, v: tensor(tag, float_tensor(v), metadata("scalars")))(
                    f"tag{i % 3}", float(i + k)
                ),
            )
            for i in range(rng.randrange(120))
        ]
        if form == 2:
            body.insert(len(body) // 2, event(3, simple("a", 1.0), simple("tag0", 2.0)))
        raw = bytearray(event_file(*body))
        if k % 5 == 1:
            raw = raw[: rng.randrange(len(raw))]
        elif k % 5 == 2:
            raw[rng.randrange(len(VERSION), len(raw) + 1) - 1] ^= 16
        elif k == 23:
            raw = bytearray(b"loss,step\n1,2\n")
        contents.append(bytes(raw))
    files = []
    for k, raw in enumerate(contents):
        path = tmp_path / f"{k:02}"
        path.write_bytes(raw)
        files.append((path, f"file {k}"))
    files.insert(4, (tmp_path / "missing", "missing"))
    contents.insert(4, b"")
    for chunk in (500, 5_000, 2**20):
        found = read_event_files(files, chunk=chunk, few=1)
        assert len(found) == len(files)
        for (_, name), raw, log in zip(files, contents, found, strict=True):
            if isinstance(log, UnreadableInputError):
                assert name in ("missing", "file 23")
                assert log.where == name
            else:
                assert_same(log, read_events(raw, name, fast=False))


def test_bytes_of_one_reader_end_where_it_is_told(tmp_path: Path) -> None:
    """A cut file does not read on into the next one."""
    a, b = tmp_path / "a", tmp_path / "b"
    whole = loss_file([float(i) for i in range(50)])
    a.write_bytes(whole[:-10])
    b.write_bytes(whole)
    cut, good = read_event_files([(a, "a"), (b, "b")], few=1)
    assert not isinstance(cut, UnreadableInputError)
    assert not isinstance(good, UnreadableInputError)
    assert values(cut) == [float(i) for i in range(49)]
    assert values(good) == [float(i) for i in range(50)]
    assert [d.kind for d in cut.damages] == ["truncated"]


# -- a file that grows ------------------------------------------------------------------------------------------------


class Counted:
    """A stream that counts the bytes that were read from it."""

    def __init__(self, stream: object, counts: list[int]) -> None:
        self._stream, self._counts = stream, counts

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)  # type: ignore[attr-defined]
        self._counts[-1] += len(data)
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()  # type: ignore[attr-defined]


class CountingPath:
    """A place that notes how many bytes each opening read."""

    def __init__(self, path: Path) -> None:
        self.path, self.counts = path, list[int]()

    def open(self, mode: str) -> Counted:
        self.counts.append(0)
        return Counted(self.path.open(mode), self.counts)


def joined(logs: list[Log], tag: str) -> list[tuple[float, ...]]:
    return [
        point
        for log in logs
        for one in log.series
        if one.tag == tag
        for point in zip(one.step.tolist(), one.value.tolist(), one.wall_time.tolist(), strict=True)
    ]


@pytest.mark.parametrize("few", [1, 2**30])
def test_a_tail_reads_the_new_bytes_alone_and_in_the_end_the_whole(tmp_path: Path, few: int) -> None:
    first = [
        event(0, tensor(tag, float_tensor(1.0), metadata(plugin))) for tag, plugin in (("loss", "scalars"), ("pr", "pr_curves"))
    ]
    rest = [event(i, tensor(tag, float_tensor(float(i)))) for i in range(1, 150) for tag in ("loss", "pr")]
    raw = bytearray(event_file(*first, *rest, event(3, simple("a", 1.0), simple("loss", 2.0))))
    raw[len(raw) // 2] ^= 1
    whole, path = bytes(raw), tmp_path / "events"
    rng, cuts = random.Random(few), [0]
    while cuts[-1] < len(whole):
        cuts.append(min(len(whole), cuts[-1] + rng.choice((0, 1, 7, 60, 500, 3000))))
    place = CountingPath(path)
    tail = EventTail(place, "f", chunk=700, few=few)  # type: ignore[arg-type]
    path.write_bytes(b"")
    logs = []
    for old, new in itertools.pairwise(cuts):
        with path.open("ab") as stream:
            stream.write(whole[old:new])
        logs.append(tail.read())
        assert place.counts[-1] <= new - old + events.HEAD
    expected = read_events(whole, "f", fast=False)
    assert [one.tag for one in expected.series] == ["loss", "a"]
    for one in expected.series:
        assert joined(logs, one.tag) == list(zip(one.step.tolist(), one.value.tolist(), one.wall_time.tolist(), strict=True))
    assert [damage for log in logs for damage in log.damages] == list(expected.damages)
    assert len(expected.damages) == 1


def test_a_record_that_is_half_written_waits(tmp_path: Path) -> None:
    path, whole = tmp_path / "events", loss_file([1.0, 2.0])
    path.write_bytes(whole[:-1])
    tail = EventTail(path, "f")
    log = tail.read()
    assert values(log) == [1.0]
    assert log.damages == ()
    assert tail.read().series == ()
    path.write_bytes(whole)
    assert values(tail.read()) == [2.0]


def test_a_file_that_was_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(loss_file([1.0, 2.0, 3.0]))
    tail = EventTail(path, "f")
    assert values(tail.read()) == [1.0, 2.0, 3.0]
    path.write_bytes(loss_file([4.0]))
    log = tail.read()
    assert values(log) == [4.0]
    assert [d.kind for d in log.damages] == ["rewritten"]
    path.write_bytes(loss_file([5.0, 6.0, 7.0], wall=1.8e9))
    log = tail.read()
    assert values(log) == [5.0, 6.0, 7.0]
    assert [d.kind for d in log.damages] == ["rewritten"], "longer than before, but with another beginning"
    assert tail.read().damages == ()


def test_a_tail_of_what_cannot_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with pytest.raises(UnreadableInputError, match="cannot be read"):
        EventTail(path, "f").read()
    path.write_bytes(gzip.compress(loss_file([1.0])))
    with pytest.raises(UnreadableInputError, match="compressed"):
        EventTail(path, "f").read()
    path.write_bytes(b"step,loss\n1,2\n3,4\n")
    with pytest.raises(UnreadableInputError, match="is not an event file"):
        EventTail(path, "f").read()


def test_a_tail_at_a_url() -> None:
    upath = pytest.importorskip("upath")
    place = upath.UPath("memory://runs/events.out.tfevents.1")
    whole = loss_file([float(i) for i in range(40)])
    place.write_bytes(whole[:900])
    tail = EventTail(place, "f")
    begun = values(tail.read())
    place.write_bytes(whole)
    assert begun + values(tail.read()) == [float(i) for i in range(40)]
