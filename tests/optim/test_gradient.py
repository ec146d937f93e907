import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from traindoctor.optim.gradient import accumulated, clip_by_norm, clip_by_value

GRAD = np.array([[3.0, 4.0], [0.3, 0.4]])


def test_clip_by_norm_of_both_dialects():
    np.testing.assert_allclose(clip_by_norm(GRAD[0], max_norm=1.0, eps=0.0), [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(clip_by_norm(GRAD[0], max_norm=1.0), np.array([3.0, 4.0]) / 5.000001, rtol=1e-15)
    np.testing.assert_array_equal(clip_by_norm(GRAD[1], max_norm=1.0), GRAD[1])


def test_clip_by_norm_of_candidates():
    clipped = clip_by_norm(GRAD, max_norm=np.array([[1.0], [0.25]]), eps=0.0, n_axes=1)
    np.testing.assert_allclose(np.linalg.norm(clipped, axis=1), [1.0, 0.25])
    np.testing.assert_allclose(np.linalg.norm(clip_by_norm(GRAD, max_norm=1.0, eps=0.0)), 1.0)


def test_clip_by_norm_of_what_is_not_finite():
    assert np.isnan(clip_by_norm(np.array([1.0, np.nan]), max_norm=1.0)).all()
    clipped = clip_by_norm(np.array([1.0, np.inf]), max_norm=1.0)
    assert clipped[0] == 0.0
    assert np.isnan(clipped[1])
    assert clip_by_norm(np.zeros(3), max_norm=1.0, eps=0.0).tolist() == [0.0] * 3


def test_clip_by_value():
    clipped = clip_by_value(np.array([-5.0, 0.5, np.inf, np.nan]), limit=1.0)
    np.testing.assert_array_equal(clipped, [-1.0, 0.5, 1.0, np.nan])


def test_accumulation():
    micro = np.array([[1.0, 2.0], [3.0, 6.0]])
    assert accumulated(micro).tolist() == [2.0, 4.0]
    assert accumulated(micro, mean=False).tolist() == [4.0, 8.0]


@hypothesis_settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.floats(1e-3, 1e3), st.sampled_from([0.0, 1e-6]))
def test_a_clipped_norm_never_exceeds_the_limit_and_keeps_its_direction(grad, limit, eps):
    grad = np.array(grad)
    clipped = clip_by_norm(grad, max_norm=limit, eps=eps)
    assert np.linalg.norm(clipped) <= limit * (1.0 + 1e-12)
    assert (clipped * grad >= 0.0).all()


def test_against_the_installed_torch():
    torch = pytest.importorskip("torch")
    grad = np.random.default_rng(1).standard_normal(50)
    parameter = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    parameter.grad = torch.tensor(grad)
    torch.nn.utils.clip_grad_norm_([parameter], 0.7)
    np.testing.assert_allclose(clip_by_norm(grad, max_norm=0.7), parameter.grad.numpy(), rtol=1e-13)
