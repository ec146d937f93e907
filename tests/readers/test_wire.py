"""Records of event files, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.readers.buckets import of_proto, of_tensor
from traindoctor.readers.wire import WireError, parse_event, parse_strings, read_varint, signed

from .wire import event, field, float_tensor, metadata, simple, tensor, varint


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints(number: int) -> None:
    data = varint(number)
    value, end = read_varint(data, 0, len(data))
    assert (signed(value), end) == (number, len(data))
    with pytest.raises(WireError):
        read_varint(data[:-1], 0, len(data) - 1)


def test_a_varint_of_eleven_bytes_is_none() -> None:
    with pytest.raises(WireError):
        read_varint(b"\xff" * 11, 0, 11)


def test_a_value_with_its_place() -> None:
    data = event(7, simple("loss", 2.5), tensor("lr", float_tensor(0.5), metadata("scalars", b"x")), wall=1.5)
    found = parse_event(data)
    loss, lr = found.values
    assert (found.wall_time, found.step, found.fields) == (1.5, 7, [1, 2, 5])
    assert (loss.tag, loss.number, loss.is_tensor, loss.plugin) == (b"loss", 2.5, False, None)
    assert (lr.tag, lr.number, lr.is_tensor, lr.plugin, lr.content) == (b"lr", 0.5, True, b"scalars", b"x")
    for value in (loss, lr):
        assert value.number_at is not None
        assert struct.unpack_from("<f", data, value.number_at[0])[0] == value.number


def test_records_of_tensorboards_own_classes() -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    histogram = HistogramProto(min=-1, max=2, num=3, sum=1.5, sum_squares=5, bucket_limit=[0, 2], bucket=[1, 2])
    summary = Summary(value=[Summary.Value(tag="a", simple_value=-0.5), Summary.Value(tag="h", histo=histogram)])
    found = parse_event(Event(wall_time=3.25, step=-4, summary=summary).SerializeToString())
    assert (found.wall_time, found.step) == (3.25, -4)
    assert found.values[0].number == -0.5
    assert found.values[1].histogram is not None
    assert of_proto(found.values[1].histogram)[:3] == (3.0, 1.5, 5.0)


def test_texts_of_a_tensor() -> None:
    assert parse_strings(field(1, 7) + field(8, b"a") + field(8, b"b")) == [b"a", b"b"]
    assert parse_strings(field(1, 1) + field(8, b"a")) == []


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 60), st.integers(0, 3))
def test_any_bytes_give_an_event_or_a_wire_error(noise: bytes, at: int, kind: int) -> None:
    whole = event(7, simple("loss", 2.5), tensor("lr", float_tensor(0.5), metadata("scalars")), wall=1.5)
    data = [noise, whole[:at] + noise, whole[:at] + noise + whole[at:], whole[at:] + noise][kind]
    try:
        found = parse_event(data)
    except WireError:
        return
    for value in found.values:
        for read in (of_tensor, parse_strings):
            try:
                read(value.tensor)
            except WireError:
                continue
