"""Scalars of event files, in each of their forms, whole and damaged."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers import events
from traindoctor.readers.events import EventLog, read_event_file, read_events

from .wire import (
    VERSION,
    event,
    event_file,
    field,
    fixed32,
    float_tensor,
    loss_file,
    metadata,
    record,
    simple,
    tensor,
    varint,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read small inputs by layout as well."""
    monkeypatch.setattr(events, "FEW", 2)
    monkeypatch.setattr(events, "BLOCK", 7)


def values(log: EventLog, tag: str) -> list[float]:
    return [float(value) for value in log.scalars[tag][1]]


def same(a: EventLog, b: EventLog) -> bool:
    return (
        list(a.scalars) == list(b.scalars)
        and all(
            np.array_equal(x, y, equal_nan=True) and x.dtype == y.dtype
            for tag in a.scalars
            for x, y in zip(a.scalars[tag], b.scalars[tag], strict=True)
        )
        and (a.hparams, a.starts, a.damages, a.records) == (b.hparams, b.starts, b.damages, b.records)
        and np.array_equal(a.first_wall_time, b.first_wall_time, equal_nan=True)
    )


def test_simple_values() -> None:
    log = read_events(loss_file([1.0, float("nan"), float("inf"), 0.1], stride=300), "f")
    step, value, wall = log.scalars["loss"]
    assert step.tolist() == [0, 300, 600, 900]
    np.testing.assert_array_equal(value, np.array([1.0, np.nan, np.inf, np.float32(0.1)], dtype=np.float64))
    assert wall.tolist() == [1.7e9 + i for i in range(4)]
    assert log.damages == ()
    assert log.first_wall_time == 1.7e9


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
def test_tensors_of_one_number(body: bytes, expected: float) -> None:
    first = event(1, tensor("loss", body, metadata("scalars")))
    log = read_events(event_file(first, *(event(i, tensor("loss", body)) for i in range(2, 6))), "f")
    assert values(log, "loss") == [expected] * 5


def test_metadata_of_the_first_event_tell_what_the_others_are() -> None:
    text = [event(i, tensor("note", float_tensor(1.0), metadata("pr_curves") if i == 0 else b"")) for i in range(5)]
    matrix = event(0, tensor("histogram", field(1, 2) + field(2, field(2, field(1, 3))) + field(4, bytes(24))))
    log = read_events(event_file(*text, matrix, event(0, simple("loss", 1.0))), "f")
    assert list(log.scalars) == ["loss"]


def test_several_values_in_one_event_and_other_orders_of_fields() -> None:
    turned = field(5, simple("loss", 3.0)) + field(2, 7) + field(1, 9.0)
    log = read_events(event_file(event(1, simple("a", 1.0), simple("loss", 2.0), wall=8.0), turned), "f")
    assert log.scalars["loss"][0].tolist() == [1, 7]
    assert log.scalars["loss"][2].tolist() == [8.0, 9.0]
    assert values(log, "a") == [1.0]


def test_hparams_and_session_starts() -> None:
    def entry(name: str, value: bytes) -> bytes:
        return field(1, field(1, name.encode()) + field(2, value))

    info = entry("lr", field(2, 0.001)) + entry("optimizer", field(3, b"adam")) + entry("nesterov", field(4, 1))
    start = event(0, field(1, field(1, b"_hparams_/session_start_info") + metadata("hparams", field(2, b"") + field(3, info))))
    log = read_events(event_file(start, field(1, 1.0) + field(2, 40) + field(7, field(1, 1))), "f")
    assert log.hparams == {"lr": 0.001, "optimizer": "adam", "nesterov": True}
    assert log.starts == (40,)
    assert log.scalars == {}


def test_negative_steps_and_tags_that_are_no_text() -> None:
    raw = field(1, field(1, b"\xff\xfe") + fixed32(2, 1.0))
    log = read_events(event_file(event(-5, simple("loss", 1.0)), event(1, raw), event(2, raw)), "f")
    assert log.scalars["loss"][0].tolist() == [-5]
    assert "\ufffd\ufffd" in log.scalars


def test_no_bytes_are_a_damage() -> None:
    log = read_events(b"", "f")
    assert [d.kind for d in log.damages] == ["empty-file"]


def test_a_bad_payload_loses_one_record() -> None:
    data = bytearray(loss_file([1.0, 2.0, 3.0]))
    size = len(record(event(1, simple("loss", 2.0), wall=1.7e9)))
    data[-size - 8] ^= 1
    log = read_events(bytes(data), "f")
    assert values(log, "loss") == [1.0, 3.0]
    assert [(d.kind, d.offset) for d in log.damages] == [("corrupt-record", len(data) - 2 * size)]


def test_many_bad_payloads_are_counted() -> None:
    bad = bytearray(record(event(1, simple("loss", 2.0))))
    bad[-1] ^= 1
    log = read_events(VERSION + bytes(bad) * 30, "f")
    assert len(log.damages) == events.NAMED + 1
    assert "22 further" in log.damages[-1].detail


def test_a_bad_length_loses_the_rest_and_says_so() -> None:
    good = loss_file([1.0, 2.0])
    data = bytearray(good + record(event(2, simple("loss", 3.0))) + record(event(3, simple("loss", 4.0))))
    data[len(good)] ^= 1
    log = read_events(bytes(data), "f")
    assert values(log, "loss") == [1.0, 2.0]
    assert [(d.kind, d.offset) for d in log.damages] == [("corrupt-record", len(good))]
    assert "the rest" in log.damages[0].detail or "last" in log.damages[0].detail


def test_a_record_that_is_no_protocol_buffer_is_lost_alone() -> None:
    log = read_events(VERSION + record(b"\x0f\xff\xff") + record(event(1, simple("loss", 1.0))), "f")
    assert values(log, "loss") == [1.0]
    assert [d.kind for d in log.damages] == ["corrupt-record"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"step,loss\n1,2\n3,4\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
        (bytes(range(200)), "does not begin"),
        (record(b"\x0f\xff") * 3, "another kind"),
    ],
)
def test_what_is_no_event_file(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableInputError, match="is not an event file") as error:
        read_events(data, "events.out.tfevents")
    assert what in error.value.what
    assert error.value.ways_out


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInputError, match="cannot be read"):
        read_event_file(tmp_path, "here")


TAGS = st.sampled_from(["loss", "train/loss", "lr", "l\u00f6ss", "", "x" * 130])
STEPS = st.one_of(st.integers(0, 400), st.sampled_from([-1, 2**14, 2**21, 2**35, 2**62]))
FLOATS = st.floats(width=32)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    tag, step, wall, value = draw(TAGS), draw(STEPS), draw(st.sampled_from([0.0, 1.5, 1.7e9])), draw(FLOATS)
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return event(step, simple(tag, value), wall=wall)
    if kind < 6:
        return event(step, tensor(tag, float_tensor(value), metadata("scalars") if kind == 4 else b""), wall=wall)
    more = {
        6: field(1, wall) + field(5, simple(tag, value)) + field(2, abs(step)),
        7: event(step, simple(tag, value), simple("loss", 1.0), wall=wall),
        8: event(step, tensor(tag, float_tensor(value), metadata("pr_curves")), wall=wall),
        9: event(step, simple(tag, value, metadata("scalars")), wall=wall) + field(2, 3),
    }
    return more[kind]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(payloads(), max_size=12), st.integers(1, 4), st.data())
def test_by_layout_and_one_by_one_agree_on_whatever_comes(found: list[bytes], times: int, data: st.DataObject) -> None:
    raw = bytearray(event_file(*found * times))
    damage = data.draw(st.integers(0, 2))
    if damage == 1:
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    elif damage == 2:
        raw[data.draw(st.integers(len(VERSION) - 1, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    fast, slow = (read_events(bytes(raw), "f", fast=how) for how in (True, False))
    assert same(fast, slow)
    if damage == 2:
        assert fast.damages, "a flipped bit is always noticed"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 2000))
def test_a_file_cut_anywhere_gives_a_prefix_and_at_most_one_damage(cut: int) -> None:
    whole = loss_file([float(i) for i in range(30)])
    log = read_events(whole[:cut], "f")
    found = values(log, "loss") if log.scalars else []
    assert found == [float(i) for i in range(len(found))]
    assert len(log.damages) <= 1
    assert {d.kind for d in log.damages} <= {"truncated", "empty-file"}


def test_many_tags_of_one_length() -> None:
    tags = [f"layer{i:03}/grad_norm" for i in range(300)]
    data = event_file(*(event(step, simple(tag, step + i)) for step in range(4) for i, tag in enumerate(tags)))
    log = read_events(data, "f")
    assert list(log.scalars) == tags
    assert values(log, "layer007/grad_norm") == [7.0, 8.0, 9.0, 10.0]


def test_what_the_writer_of_torch_writes(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for step in range(200):
            writer.add_scalar("loss", 1.0 / (step + 1), step)
            writer.add_scalar("lr", 1e-3, step, new_style=True)
        writer.add_text("note", "hello")
        writer.add_histogram("weights", np.arange(9.0), 3)
    log = read_event_file(next(tmp_path.iterdir()), "f")
    assert set(log.scalars) == {"loss", "lr"}
    assert values(log, "loss") == [float(np.float32(1.0 / (step + 1))) for step in range(200)]
    assert log.scalars["lr"][0].tolist() == list(range(200))
    assert log.damages == ()
