import numpy as np
import pytest

from traindoctor.model import Run, Series
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.terms import dominance

TIME = np.arange(60)


def of(**terms):
    made = tuple(
        Series("loss_term", name, np.arange(len(v)), np.asarray(v, dtype=np.float64), np.full(len(v), np.nan), "log.csv")
        for name, v in terms.items()
    )
    return dominance(Measurements(Run(name="r", path="r", root="", series=made, primary={})))


def test_the_largest_term_and_the_others():
    found = of(box_loss=2000.0 * 0.9**TIME, cls_loss=np.full(60, 1.5), reg_loss=np.full(60, 0.01))
    assert found is not None
    assert found.largest.tag == "box_loss"
    assert found.largest.share > 0.98
    assert found.largest.left < 0.01
    assert [term.tag for term in found.others] == ["cls_loss"]
    assert found.others[0].left == pytest.approx(1.0)


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"a_loss": [1.0] * 20},
        {"a_loss": [1.0] * 20, "b_loss": [1.0] * 3},
        {"a_loss": [1.0] * 20, "b_loss": [1.0] * 30},
        {"a_loss": [np.nan] * 20, "b_loss": [1.0] * 20},
        {"a_loss": [-1.0] * 20, "b_loss": [1.0] * 20},
        {"a_loss": [0.0] * 20, "b_loss": [0.0] * 20},
    ],
    ids=str,
)
def test_nothing_to_compare(terms):
    assert of(**terms) is None


def test_a_term_that_begins_at_zero():
    found = of(rec_loss=[500.0] * 20, spread_loss=[0.0] * 5 + [1.0] * 15)
    assert found is not None
    assert found.others[0].left == float("inf")
