"""What a logger did to values: told where the pattern is exact, never on a curve that is merely odd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Series
from traindoctor.readers.csvlog import read_csv
from traindoctor.readers.events import read_event_file
from traindoctor.readers.integrity import check_series, is_averaged
from traindoctor.readers.tags import with_quantities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

FIXTURES = Path(__file__).parents[2] / "fixtures"
RNG = np.random.default_rng(7)
NOISY = np.exp(-np.linspace(0, 2, 300)) * RNG.lognormal(0.0, 0.1, 300)


def series(tag: str, value: ArrayLike) -> Series:
    values = np.asarray(value, dtype=np.float64)
    return Series("", tag, np.arange(values.size), values, np.full(values.size, np.nan), "f")


def kinds(*found: Series) -> list[str]:
    return [damage.kind for damage in check_series(found, "f", {})]


def cut(value: ArrayLike, start: int, fill: float) -> Series:
    values = np.array(value, dtype=np.float64)
    values[start:] = fill
    return series("loss", values)


OTHER = series("grad_norm", NOISY + 1.0)


def test_a_loss_that_becomes_zero_for_good_may_be_nan() -> None:
    [damage] = check_series([cut(NOISY, 200, 0.0), OTHER], "f", {})
    assert damage.kind == "zero-for-nan"
    assert "from step 200 to the end (100 values)" in damage.detail
    assert kinds(cut(NOISY, 200, 0.0), series("grad_norm", np.where(np.arange(300) < 200, NOISY, np.nan))) == ["zero-for-nan"]


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(NOISY, id="sound"),
        pytest.param(np.maximum(NOISY * np.linspace(1, 0, 300) ** 3 - 1e-3, 0.0), id="on its way to zero"),
        pytest.param(np.where(RNG.random(300) < 0.5, NOISY, 0.0), id="zero now and then"),
        pytest.param(np.concatenate([NOISY[:290], np.zeros(10)]), id="a few zeros"),
        pytest.param(np.zeros(300), id="nothing but zeros"),
        pytest.param(np.concatenate([NOISY[:5], np.zeros(295)]), id="from the start"),
    ],
)
def test_other_zeros_are_none(loss: ArrayLike) -> None:
    assert kinds(series("loss", loss), OTHER) == []


def test_zeros_with_which_everything_ends_are_none() -> None:
    assert kinds(cut(NOISY, 200, 0.0), series("lr", np.full(300, 0.1))) == []
    assert kinds(cut(NOISY, 200, 0.0)) == []


def test_a_loss_that_stands_still_at_once() -> None:
    [damage] = check_series([cut(NOISY, 250, 0.6931471805599453)], "f", {})
    assert damage.kind == "constant-tail"
    assert "0.6931471805599453 to the last digit from step 250" in damage.detail


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(cut(NOISY, 290, 0.5).value, id="a few values"),
        pytest.param(np.float32(0.3 + 0.9 ** np.arange(400)), id="comes to rest"),
        pytest.param(np.concatenate([np.repeat(NOISY[:100], 2), np.full(50, 0.5)]), id="equal neighbours before"),
        pytest.param(np.full(300, 0.5), id="constant throughout"),
    ],
)
def test_other_rest_is_none(loss: ArrayLike) -> None:
    assert kinds(series("loss", loss)) == []


def test_rates_and_accuracies_may_stand_still() -> None:
    assert kinds(series("lr", cut(NOISY, 200, 0.1).value), series("val_accuracy", cut(NOISY, 200, 1.0).value)) == []


@pytest.mark.parametrize(("decimals", "level"), [(1, 1.5), (2, 0.3), (3, 0.02), (4, 0.004)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_rounded_to_a_grid(decimals: int, level: float, dtype: type[np.floating]) -> None:
    value = np.round(level * RNG.lognormal(0.0, 0.2, 500), decimals).astype(dtype)
    [damage] = check_series([series("loss", value)], "f", {})
    assert (damage.kind, f"to {decimals} decimal" in damage.detail) == ("quantised", True)


def test_a_loss_that_was_rounded_to_nothing() -> None:
    [damage] = check_series([series("loss", np.round(0.5 * 0.9 ** np.arange(300), 4))], "f", {})
    assert "it is zero at the end" in damage.detail


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(np.round(2.0 + RNG.random(300), 4), id="fine for its level"),
        pytest.param(NOISY, id="not rounded"),
        pytest.param(np.float32(NOISY), id="float32"),
        pytest.param(np.round(0.3 * RNG.lognormal(0, 0.2, 40), 2), id="too few"),
        pytest.param(RNG.integers(0, 9, 300), id="whole numbers"),
        pytest.param(np.full(300, 0.01), id="constant"),
    ],
)
def test_other_values_are_not_called_rounded(loss: ArrayLike) -> None:
    assert "quantised" not in kinds(series("loss", loss))


def test_averages_by_name() -> None:
    assert kinds(series("loss (avg)", NOISY)) == ["averaged"]
    assert kinds(series("train/loss_smoothed", NOISY)) == ["averaged"]
    assert kinds(series("loss", NOISY), series("loss_smoothed", NOISY)) == []
    assert kinds(series("val_loss_ema", NOISY)) == []
    assert not is_averaged("loss_metrics/global_avg_loss")


def _logged() -> Iterator[tuple[Series, ...]]:
    for path in sorted(FIXTURES.rglob("*")):
        try:
            if path.suffix == ".csv":
                yield from (log.series for log in read_csv(path.read_bytes(), path.name))
            elif "tfevents" in path.name:
                yield read_event_file(path, path.name).series
        except UnreadableInputError:
            continue


def test_no_alarm_on_any_fixture() -> None:
    all_logs = [with_quantities(found) for found in _logged()]
    assert sum(map(len, all_logs)) > 300
    assert [damage for found in all_logs for damage in check_series(found, "f", {})] == []


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(0, 400), st.floats(-12, 6), st.floats(0.001, 1), st.sampled_from([np.float32, np.float64])
)
def test_no_alarm_on_noise_of_any_size(seed: int, n: int, log_level: float, spread: float, dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(seed)
    value = 10.0**log_level * np.exp(-3 * rng.random() * np.arange(n) / 400) * rng.lognormal(0.0, spread, n)
    with np.errstate(all="ignore"):
        value = value.astype(dtype)
    value[rng.random(n) < 0.02 * rng.integers(0, 2)] = np.nan
    assert kinds(series("loss", value), OTHER) == []
