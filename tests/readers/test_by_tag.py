"""Scalars in file order, put together by tag."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.readers import by_tag
from traindoctor.readers.by_tag import join, parts_of

NAMES = [f"tag{k}" for k in range(70_000)]


def rows_of(tags: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n = len(tags)
    step = np.arange(n, dtype=np.int64) * 3
    return np.array(tags, dtype=np.int64), step, 1.7e9 + step, np.arange(n, dtype=np.float32) / 7


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 5), max_size=12), max_size=5), st.booleans(), st.booleans())
def test_parts_in_any_number_give_the_columns_of_a_loop(stretches: list[list[int]], narrow: bool, together: bool) -> None:
    tags = [tag for stretch in stretches for tag in stretch]
    tag, step, wall, value = rows_of(tags)
    edges = np.cumsum([0, *map(len, stretches)]).tolist()
    spans = list(itertools.pairwise(edges))
    if together:
        parts = parts_of(tag, step, wall, value, spans, narrow=narrow)
    else:
        parts = [parts_of(tag[a:b], step[a:b], wall[a:b], value[a:b], [(0, b - a)], narrow=narrow)[0] for a, b in spans]
    found = join([part for part in parts if part is not None], NAMES, "f")
    expected = dict.fromkeys(t for t in tags if t >= 0)
    assert [s.tag for s in found] == [NAMES[t] for t in expected]
    for t, one in zip(expected, found, strict=True):
        rows = [k for k, other in enumerate(tags) if other == t]
        assert one.step.tolist() == step[rows].tolist()
        assert one.wall_time.tolist() == wall[rows].tolist()
        assert one.value.tolist() == value[rows].astype(np.float64).tolist()
        assert (one.step.dtype, one.value.dtype, one.wall_time.dtype, one.source) == (np.int64, np.float64, np.float64, "f")


@pytest.mark.parametrize("apart", [1, 2**30])
def test_more_than_sixteen_bits_of_tags_and_spans(monkeypatch: pytest.MonkeyPatch, apart: int) -> None:
    monkeypatch.setattr(by_tag, "APART", apart)
    tags = [*range(69_000, 0, -1000), *range(0, 69_000, 500)]
    tag, step, wall, value = rows_of(tags)
    step[3] = 2**40
    [part] = parts_of(tag, step, wall, value, [(0, tag.size)], narrow=True)
    assert part is not None
    found = join([part], NAMES, "f")
    assert [s.tag for s in found] == [NAMES[t] for t in dict.fromkeys(tags)]
    assert found[3].step[0] == 2**40
    parts = parts_of(tag, step, wall, value, [(0, 30), (30, tag.size)])
    assert [len(part.tags) for part in parts if part is not None] == [30, len(set(tags[30:]))]


def test_nothing_gives_nothing() -> None:
    empty = rows_of([])
    assert parts_of(*empty, [(0, 0), (0, 0)]) == [None, None]
    assert parts_of(*rows_of([-1, -1]), [(0, 2)]) == [None]
    assert join([], NAMES, "f") == ()
