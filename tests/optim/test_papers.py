"""Recurrences that torch.optim lacks, or runs in another form, against the formulas of the papers written out plainly."""

import math

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adafactor, asgd, muon
from traindoctor.optim.optimizer import optimizer_of

N_STEPS = 200
RNG = np.random.default_rng(11)
GRADS = RNG.standard_normal((N_STEPS, 4, 3)) * 10.0 ** RNG.uniform(-2, 1, (N_STEPS, 1, 1))
START = RNG.standard_normal((4, 3))
DECAY = 0.1


def trajectory(spec, grads=GRADS, start=START):
    """Return the weights after each step, updates added up."""
    optimizer = optimizer_of(spec)
    weight, state, passed = start.copy(), optimizer.start(start.shape), []
    for grad in grads:
        update, state = optimizer.step(grad, weight, state, spec.lr)
        weight = weight + update
        passed.append(weight)
    return np.array(passed)


def lion(w, g, s):
    c = [0.9 * m + 0.1 * x for m, x in zip(s["m"], g, strict=True)]
    s["m"] = [0.99 * m + 0.01 * x for m, x in zip(s["m"], g, strict=True)]
    return [x - 0.01 * (math.copysign(1.0, d) * (d != 0.0) + DECAY * x) for x, d in zip(w, c, strict=True)]


def moments(g, s, beta1, beta2):
    s["t"] += 1
    s["m"] = [beta1 * m + (1 - beta1) * x for m, x in zip(s["m"], g, strict=True)]
    s["v"] = [beta2 * v + (1 - beta2) * x * x for v, x in zip(s["v"], g, strict=True)]
    return [m / (1 - beta1 ** s["t"]) for m in s["m"]], [v / (1 - beta2 ** s["t"]) for v in s["v"]]


def lamb(w, g, s):
    m, v = moments(g, s, 0.9, 0.999)
    r = [a / (math.sqrt(b) + 1e-6) + DECAY * x for a, b, x in zip(m, v, w, strict=True)]
    ratio = math.sqrt(math.fsum(x * x for x in w)) / math.sqrt(math.fsum(x * x for x in r))
    return [x - 0.01 * ratio * d for x, d in zip(w, r, strict=True)]


def stable_adamw(w, g, s):
    s["t"] += 1
    b1, b2 = (b * (1 - b ** (s["t"] - 1)) / (1 - b ** s["t"]) for b in (0.9, 0.99))
    s["m"] = [b1 * m + (1 - b1) * x for m, x in zip(s["m"], g, strict=True)]
    s["v"] = [b2 * v + (1 - b2) * x * x for v, x in zip(s["v"], g, strict=True)]
    rms = math.sqrt(math.fsum(x * x / max(v, 1e-12) for x, v in zip(g, s["v"], strict=True)) / len(g))
    rate = 0.01 / max(1.0, rms)
    return [x - rate * DECAY * x - rate * m / (math.sqrt(v) + 1e-6) for x, m, v in zip(w, s["m"], s["v"], strict=True)]


def amsgrad(w, g, s):
    moments(g, s, 0.9, 0.99)
    s["top"] = [max(a, v) for a, v in zip(s["top"], s["v"], strict=True)]
    return [x - 0.01 * m / (math.sqrt(a) + 1e-8) for x, m, a in zip(w, s["m"], s["top"], strict=True)]


def radam(w, g, s):
    m, v = moments(g, s, 0.9, 0.999)
    t, inf = s["t"], 2 / (1 - 0.999) - 1
    rho = inf - 2 * t * 0.999**t / (1 - 0.999**t)
    if rho <= 4:
        return [x - 0.01 * a for x, a in zip(w, m, strict=True)]
    r = math.sqrt((rho - 4) * (rho - 2) * inf / ((inf - 4) * (inf - 2) * rho))
    return [x - 0.01 * r * a / (math.sqrt(b) + 1e-8) for x, a, b in zip(w, m, v, strict=True)]


def sutskever(w, g, s):
    ahead = [0.9 * m - 0.01 * x for m, x in zip(s["m"], g, strict=True)]  # the paper's velocity, lr within
    s["m"] = ahead
    return [x + a for x, a in zip(w, ahead, strict=True)]


PAPERS = [
    (OptimizerSpec("lion", lr=0.01, weight_decay=DECAY), lion),
    (OptimizerSpec("lamb", lr=0.01, weight_decay=DECAY), lamb),
    (OptimizerSpec("stableadamw", lr=0.01, weight_decay=DECAY), stable_adamw),
    (OptimizerSpec("amsgrad", lr=0.01, beta2=0.99, dialect="paper"), amsgrad),
    (OptimizerSpec("radam", lr=0.01, dialect="paper"), radam),
    (OptimizerSpec("sgd", lr=0.01, momentum=0.9, dialect="paper"), sutskever),
]


@pytest.mark.parametrize(("spec", "formula"), PAPERS, ids=[f"{spec.name}-{spec.dialect}" for spec, _ in PAPERS])
def test_formula_of_the_paper(spec, formula):
    weight, state = START.ravel().tolist(), {"t": 0, **{name: [0.0] * START.size for name in ("m", "v", "top")}}
    expected = []
    for grad in GRADS:
        weight = formula(weight, grad.ravel().tolist(), state)
        expected.append(weight)
    ours = trajectory(spec).reshape(N_STEPS, -1)
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)
    assert np.ptp(ours, axis=0).min() > 0.01


def test_adafactor_of_the_paper():
    """Algorithms 4 and 5 with row and column sums R and C, and V = R C / sum(R)."""
    rows, columns, weight = np.zeros(4), np.zeros(3), START.copy()
    ours = trajectory(OptimizerSpec("adafactor", lr=0.01, eps=1e-30, dialect="paper"))
    for t, (grad, got) in enumerate(zip(GRADS, ours, strict=True), 1):
        beta2 = 1.0 - t**-0.8
        rows = beta2 * rows + (1.0 - beta2) * (grad**2 + 1e-30).sum(1)
        columns = beta2 * columns + (1.0 - beta2) * (grad**2 + 1e-30).sum(0)
        u = grad / np.sqrt(np.outer(rows, columns) / rows.sum())
        u = u / max(1.0, np.sqrt((u**2).mean()))
        weight = weight - max(1e-3, np.sqrt((weight**2).mean())) * min(0.01, 1.0 / math.sqrt(t)) * u
        np.testing.assert_allclose(got, weight, rtol=1e-11)


def test_adafactor_of_one_axis_is_not_factored():
    assert adafactor.start((5,)).row.shape == (5,)
    assert adafactor.start((2, 5), n_axes=1).row.shape == (2, 5)
    assert (adafactor.start((4, 3)).row.shape, adafactor.start((4, 3)).column.shape) == ((4, 1), (1, 3))


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (5, 5), (1, 6)])
def test_newton_schulz_acts_on_the_singular_values(shape):
    """The iteration is a polynomial of the singular values, so that the SVD gives it without one matrix product."""
    matrix = np.random.default_rng(sum(shape)).standard_normal(shape)
    left, size, right = np.linalg.svd(matrix, full_matrices=False)
    size = size / np.sqrt((size**2).sum())
    for _ in range(5):
        size = 3.4445 * size - 4.7750 * size**3 + 2.0315 * size**5
    np.testing.assert_allclose(muon.orthogonalized(matrix), left @ np.diag(size) @ right, rtol=0.0, atol=1e-12)


def test_muon_brings_singular_values_near_one():
    matrix = np.random.default_rng(7).standard_normal((10, 6, 8))
    sizes = np.linalg.svd(muon.orthogonalized(matrix), compute_uv=False)
    assert 0.6 < sizes.min() < sizes.max() < 1.25
    assert not muon.orthogonalized(np.zeros((3, 4))).any()


def test_muon_scales_by_the_shape():
    grad, state = np.random.default_rng(8).standard_normal((8, 2)), muon.start((8, 2))
    plain, _ = muon.step(grad, state, lr=1.0)
    matched, _ = muon.step(grad, state, lr=1.0, adjust_lr="match_rms_adamw")
    np.testing.assert_allclose(matched / plain, 0.2 * math.sqrt(8) / math.sqrt(4))


def test_the_average_of_asgd():
    weight, state, passed = np.array([1.0]), asgd.start((1,)), []
    for t in range(1, 9):
        update, state = asgd.step(2.0 * weight, state, weight=weight, lr=0.1, t0=3.0)
        weight = weight + update
        passed.append(weight)
        recent = passed[-1:] if t < 5 else passed[4:]  # the share of a step is made in the one before, as the rate is
        np.testing.assert_allclose(state.average, np.mean(recent, axis=0))
