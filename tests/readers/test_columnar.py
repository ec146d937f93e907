"""The fast reader of event files and its exact twin say the same, whatever they are given."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers import columnar
from traindoctor.readers.columnar import MARGIN, Decoder
from traindoctor.readers.events import read_event_files, read_events

from .test_events import assert_same, values
from .wire import VERSION, event, event_file, field, fixed32, float_tensor, loss_file, metadata, record, simple, tensor

if TYPE_CHECKING:
    from pathlib import Path

    from traindoctor.readers.columnar import Found
    from traindoctor.readers.log import Log

TAGS = st.sampled_from(["loss", "train/loss", "lr", "l\u00f6ss", "", "x" * 25, "y" * 60, "x" * 130, "z" * 250])
STEPS = st.one_of(
    st.integers(0, 400), st.sampled_from([-1, -(2**63), 127, 128, 2**14, 2**21 - 1, 2**28, 2**35, 2**42, 2**49 - 1, 2**49, 2**62])
)
WALLS = st.sampled_from([0.0, 1.5, 1.7e9, 1.7e9 + 0.1, -1.0, float("inf"), 5e-324])
FLOATS = st.floats(width=32)


def raw_value(tag: bytes, value: float) -> bytes:
    return field(1, field(1, tag) + fixed32(2, value))


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    tag, step, wall, value = draw(TAGS), draw(STEPS), draw(WALLS), draw(FLOATS)
    declared = metadata("scalars")
    forms = [
        lambda: event(step, simple(tag, value), wall=wall),
        lambda: event(step, simple(tag, value), wall=wall),
        lambda: event(step, simple(tag, value), wall=wall),
        lambda: event(step, tensor(tag, float_tensor(value)), wall=wall),
        lambda: event(step, tensor(tag, float_tensor(value), declared), wall=wall),
        lambda: event(step, field(1, field(1, tag.encode()) + field(8, float_tensor(value)) + declared), wall=wall),
        lambda: event(step, tensor(tag, field(1, 1) + field(5, struct.pack("<f", value)), declared), wall=wall),
        lambda: event(step, tensor(tag, field(1, 2) + field(2, b"") + field(4, struct.pack("<d", value))), wall=wall),
        lambda: event(step, simple(tag, value, declared), wall=wall) + field(2, 3),
        lambda: field(1, wall) + field(5, simple(tag, value)) + field(2, abs(step)),
        lambda: field(2, abs(step)) + field(5, simple(tag, value)),
        lambda: event(step, simple(tag, value), simple("loss", 1.0), wall=wall),
        lambda: event(step, raw_value(b"\xff\xfe" + tag.encode(), value), wall=wall),
        lambda: event(step, raw_value(b"\xff\xfd" + tag.encode(), value), wall=wall),
        lambda: event(step, field(1, field(1, tag.encode()) + fixed32(2, 1.0) + fixed32(2, value)), wall=wall),
        lambda: event(step, field(1, field(1, b"other") + field(1, tag.encode()) + fixed32(2, value)), wall=wall),
        lambda: event(step, tensor(tag, float_tensor(value), metadata("pr_curves")), wall=wall),
        lambda: event(step, field(1, field(1, tag.encode()) + field(5, field(1, value) + field(3, 1.0))), wall=wall),
        lambda: event(step, field(1, field(1, tag.encode()) + field(8, record(event(1, simple("loss", 2.0))))), wall=wall),
        lambda: field(1, wall) + b"\x10\x80\x80\x00" + field(5, simple(tag, value)),
        lambda: field(1, wall) + field(2, abs(step)) + field(7, field(1, 1)),
        lambda: field(1, field(1, b"features")),
        lambda: b"",
        lambda: b"\x0f",
    ]
    return draw(st.sampled_from(forms))()


def outcome(read: object, *arguments: object, **options: object) -> Log | str:
    try:
        return read(*arguments, **options)  # type: ignore[operator, no-any-return]
    except UnreadableInputError as error:
        return str(error)


def assert_agree(a: Log | str, b: Log | str) -> None:
    if isinstance(a, str) or isinstance(b, str):
        assert a == b
    else:
        assert_same(a, b)


def damaged(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 2, 8, 12, 50, 300))
        change = rng.randrange(6)
        if change == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[at:]
        elif change == 2:
            del data[at : at + size]
        elif change == 3:
            data[at:at] = data[at // 2 : at // 2 + size]
        elif change == 4:
            data[at:at] = bytes(size)
        else:
            data[at : at + size] = rng.randbytes(size)
    return bytes(data)


def check_twins(found: list[bytes], seed: int, chunk: int) -> None:
    rng = random.Random(seed)
    whole = [payload for _ in range(rng.randrange(1, 6)) for payload in found]
    if rng.random() < 0.5:
        rng.shuffle(whole)
    raw = damaged((b"" if rng.random() < 0.1 else VERSION) + b"".join(map(record, whole)), rng)
    exact = outcome(read_events, raw, "f", fast=False)
    assert_agree(outcome(read_events, raw, "f", few=1), exact)
    assert_agree(outcome(read_events, raw, "f", few=1, chunk=chunk), exact)
    assert_agree(outcome(read_events, raw, "f", few=100, chunk=chunk), exact)
    assert_agree(outcome(read_events, raw, "f", fast=False, chunk=chunk), exact)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(payloads(), max_size=14), st.integers(0, 2**32), st.sampled_from([64, 257, 1000, 4096]))
def test_fast_and_exact_reading_agree_on_whatever_comes(found: list[bytes], seed: int, chunk: int) -> None:
    check_twins(found, seed, chunk)


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None)
@given(st.lists(payloads(), max_size=30), st.integers(0, 2**32), st.integers(30, 5000))
def test_fast_and_exact_reading_agree_on_ten_thousand_files(found: list[bytes], seed: int, chunk: int) -> None:
    check_twins(found, seed, chunk)


@settings(derandomize=True, max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(payloads(), max_size=8), min_size=1, max_size=5), st.integers(0, 2**32), st.sampled_from([200, 3000, 2**20])
)
def test_files_of_any_content_do_not_touch_each_other(tmp_path: Path, contents: list[list[bytes]], seed: int, chunk: int) -> None:
    rng = random.Random(seed)
    files = []
    for k, content in enumerate(contents):
        path = tmp_path / str(k)
        path.write_bytes(damaged(event_file(*content * rng.randrange(1, 4)), rng))
        files.append((path, str(k)))
    for (path, name), log in zip(files, read_event_files(files, chunk=chunk, few=1), strict=True):
        exact = outcome(read_events, path.read_bytes(), name, fast=False)
        assert_agree(str(log) if isinstance(log, UnreadableInputError) else log, exact)


# -- its parts --------------------------------------------------------------------------------------------------------


def decode(*files: bytes) -> tuple[Decoder, Found]:
    decoder, place = Decoder(), MARGIN
    spans = []
    for data in files:
        spans.append((place, place + len(data)))
        place += len(data)
    return decoder, decoder.decode(bytes(MARGIN) + b"".join(files) + bytes(MARGIN), spans)


def test_plain_scalars_need_no_exact_parser() -> None:
    """All but the first record, which holds the version of the format."""
    rng = np.random.default_rng(0)
    tags = ["a", "train/loss", "layer.10.attention/grad_norm", "t" * 90]
    once = metadata("scalars")
    forms = [
        (simple, b"", b""),
        (lambda tag, v, more: tensor(tag, float_tensor(v), more), once, b""),
        (lambda tag, v, more: field(1, field(1, tag.encode()) + field(8, float_tensor(v)) + more), once, once),
        (lambda tag, v, more: field(1, field(1, tag.encode()) + field(8, field(1, 1) + fixed32(5, v)) + more), b"", b""),
    ]
    for form, first, later in forms:
        body = [
            event(step, form(tag, float(rng.standard_normal()), later if step else first), wall=1.7e9 + step)
            for step in [*range(300), 2**14, 2**21, 2**35, 2**48]
            for tag in tags
        ]
        _, found = decode(event_file(*body))
        assert found.kind.size == len(body) + 1
        assert (found.kind[1:] >= 0).all()


def test_a_thousand_tags_alike_are_all_told_apart() -> None:
    """Names whose bytes differ where a hash of whole words sees least."""
    tags = [f"block_{a}/attn__{b}/norm___{c}" for a in range(10) for b in range(10) for c in range(10)]
    for filler in range(8):
        decoder, found = decode(event_file(*(event(1, simple(tag + "x" * filler, 1.0)) for tag in tags * 2)))
        assert (found.kind[1:] >= 0).all()
        assert sorted(decoder.tags) == sorted(tag + "x" * filler for tag in tags)


def test_bodies_of_one_hash_are_compared_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_multipliers", lambda: np.zeros(32, dtype=np.uint64))
    tags = [f"tag{k}" for k in range(30)]
    data = event_file(*(event(step, simple(tag, float(k))) for step in range(20) for k, tag in enumerate(tags)))
    log = read_events(data, "f", few=1)
    assert_same(log, read_events(data, "f", fast=False))
    assert values(log, "tag29") == [29.0] * 20


def test_frames_inside_of_data_are_no_records() -> None:
    """A text may hold an event file."""
    inner = loss_file([7.0] * 5)
    data = event_file(event(1, simple("loss", 1.0)), event(2, tensor("text", field(8, inner))), event(3, simple("loss", 3.0)))
    log = read_events(data, "f", few=1)
    assert values(log) == [1.0, 3.0]
    _, found = decode(data)
    assert len(found.others[0]) == 1
    assert found.ends == [MARGIN + len(data)]


def test_a_chain_ends_before_what_is_not_whole() -> None:
    whole = loss_file([1.0, 2.0, 3.0])
    size = len(record(event(2, simple("loss", 3.0), wall=1.0)))
    _, found = decode(whole[:-1], whole, whole[:-1])
    begin = MARGIN
    for span, data in enumerate((whole[:-1], whole, whole[:-1])):
        cut = data is not whole
        assert found.ends[span] == begin + len(data) - (size - 1 if cut else 0)
        first, last = found.rows[span]
        assert last - first == (3 if cut else 4)
        begin += len(data)


def test_a_file_of_broken_records_is_read_in_linear_time() -> None:
    """Each second record has a bad length: the fast path gives up on such a chunk."""
    good = record(event(1, simple("loss", 1.0)))
    bad = bytes([good[0] ^ 1]) + good[1:]
    log = read_events(VERSION + (good + bad) * 5000, "f")
    assert values(log) == [1.0] * 5000
    assert "further" in log.damages[8].detail


def test_wall_times_far_apart_and_steps_of_all_lengths_in_one_chunk() -> None:
    steps = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21, 2**28, 2**35, 2**42, 2**49 - 1, 2**49, 2**56, 2**63 - 1, -1]
    walls = [0.0, -1.7e300, 1.7e9, float("nan"), 5e-324]
    data = event_file(
        *(event(s, simple(tag, float(k)), wall=w) for k, s in enumerate(steps) for w in walls for tag in ("a", "b" * 40))
    )
    log = read_events(data, "f", few=1)
    assert_same(log, read_events(data, "f", fast=False))
    assert log.series[0].step.tolist() == [s for s in steps for _ in walls]
