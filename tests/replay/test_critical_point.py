import numpy as np
import pytest

from traindoctor.replay.critical_point import DENSE, newton_step, preconditioned, spectrum, where


def quadratic(values, seed=0):
    """A symmetric matrix with these eigenvalues, its axes turned at random."""
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return turn @ np.diag(values) @ turn.T


def at_minimum_of(matrix, **options):
    return where(lambda d: 1.0 + 0.5 * d @ matrix @ d, np.zeros(len(matrix)), lambda v: matrix @ v, **options)


@pytest.mark.parametrize("n", [3, DENSE, DENSE + 1, 400])
@pytest.mark.parametrize("shift", [-9.0, -0.5, 0.0, 3.0])
def test_both_ends_of_a_known_spectrum(n, shift):
    values = np.sort(np.geomspace(1e-3, 10.0, n)) + shift
    matrix = quadratic(values)
    ends = spectrum(lambda v: matrix @ v, n)
    scale = np.abs(values).max()
    assert ends.top[0] == pytest.approx(values[-1], abs=2e-4 * scale)
    assert ends.bottom[0] == pytest.approx(values[0], abs=2e-4 * scale)
    assert ends.note == ""
    for values_found, vectors, errors in (
        (ends.top, ends.top_vectors, ends.top_error),
        (ends.bottom, ends.bottom_vectors, ends.bottom_error),
    ):
        for value, vector, error in zip(values_found, vectors.T, errors, strict=True):
            assert np.linalg.norm(vector) == pytest.approx(1.0)
            assert np.abs(values - value).min() <= error + 1e-12 * scale


def test_eigenvalues_apart_come_in_order():
    values = np.concatenate(([-3.0, -2.0, -1.0], np.linspace(0.0, 1.0, 200), [4.0, 6.0, 9.0]))
    matrix = quadratic(values)
    ends = spectrum(lambda v: matrix @ v, values.size)
    assert ends.top == pytest.approx([9.0, 6.0, 4.0], rel=1e-5)
    assert ends.bottom == pytest.approx([-3.0, -2.0, -1.0], rel=1e-5)


def test_a_null_space_is_found_as_zero_and_not_as_small():
    values = np.concatenate((np.zeros(300), np.linspace(1.0, 5.0, 100)))
    matrix = quadratic(values)
    ends = spectrum(lambda v: matrix @ v, 400)
    assert np.abs(ends.bottom[0]) < 1e-6
    assert at_minimum_of(matrix).kind == "flat valley"


def test_no_curvature_at_all():
    ends = spectrum(np.zeros_like, 1000)
    assert ends.norm == 0.0
    assert ends.n_products == 1


def test_one_number():
    ends = spectrum(lambda v: -2.0 * v, 1)
    assert (ends.top[0], ends.bottom[0]) == (-2.0, -2.0)


@pytest.mark.parametrize("noise", [1e-4, 1e-2, 0.1])
@pytest.mark.parametrize("n", [50, 200])
def test_noisy_products_widen_the_error_and_nothing_raises(noise, n):
    values = np.linspace(1.0, 5.0, n)
    matrix, rng = quadratic(values), np.random.default_rng(1)
    ends = spectrum(lambda v: matrix @ v + noise * rng.standard_normal(n), n)
    assert abs(ends.top[0] - 5.0) <= 1.5 * ends.top_error[0]
    assert abs(ends.bottom[0] - 1.0) <= 1.5 * ends.bottom_error[0]
    assert ends.top_error[0] > 2.0 * noise


def test_pure_noise_is_reported_not_raised():
    rng = np.random.default_rng(0)
    ends = spectrum(lambda v: rng.standard_normal(v.size), 300)
    assert ends.top_error[0] > 10.0


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        spectrum(lambda v: v * np.nan, 10)


def test_preconditioned_has_the_eigenvalues_of_the_product():
    matrix = quadratic(np.linspace(0.5, 3.0, 30))
    rate = np.random.default_rng(3).uniform(0.1, 2.0, 30)
    ends = spectrum(preconditioned(lambda v: matrix @ v, rate), 30)
    assert ends.top[0] == pytest.approx(np.linalg.eigvals(np.diag(rate) @ matrix).real.max(), rel=1e-9)


def test_the_decrement_of_a_quadratic_is_its_height():
    matrix, offset = quadratic(np.geomspace(0.1, 10.0, 40)), np.ones(40)
    grad = matrix @ offset
    step, fall = newton_step(grad, lambda v: matrix @ v, 10.0)
    assert fall == pytest.approx(0.5 * offset @ matrix @ offset, rel=1e-2)
    assert step == pytest.approx(-offset, abs=0.05)
    assert newton_step(np.zeros(40), lambda v: matrix @ v, 10.0)[1] == 0.0
    assert newton_step(grad, np.zeros_like, 0.0)[1] == np.inf


def test_on_top_of_a_hill_the_step_is_a_short_one_down():
    step, fall = newton_step(np.array([1.0, 0.0]), lambda v: -4.0 * v, 4.0)
    assert step == pytest.approx([-0.25, 0.0])
    assert fall == pytest.approx(0.125)


def test_minimum():
    point = at_minimum_of(quadratic(np.linspace(0.5, 3.0, 200)))
    assert point.kind == "minimum"
    assert point.lambda_min == pytest.approx(0.5, rel=1e-3)
    assert point.text.startswith("A local minimum")


def test_saddle_gives_the_way_out():
    point = where(lambda d: d[0] ** 2 - d[1] ** 2, np.zeros(2), lambda v: np.array([2.0, -2.0]) * v)
    assert point.kind == "saddle"
    assert np.abs(point.escape) == pytest.approx([0.0, 1.0])
    assert point.escape_decrease == pytest.approx(point.escape_predicted)
    assert point.escape_decrease == pytest.approx(point.escape_distance**2)


def test_monkey_saddle_is_degenerate_but_falls():
    point = where(lambda d: d[0] ** 3 - 3.0 * d[0] * d[1] ** 2, np.zeros(2), np.zeros_like)
    assert point.kind == "degenerate saddle"
    assert point.escape_decrease > 0.0


def test_the_origin_of_a_deep_linear_net_is_a_saddle_of_its_depth():
    """L = 1/2 (a b - 1)^2: at 0 the Hessian is [[0, -1], [-1, 0]]; with three layers the Hessian vanishes, and it falls still."""
    two = where(lambda d: 0.5 * (d[0] * d[1] - 1.0) ** 2, np.zeros(2), lambda v: -v[::-1])
    assert (two.kind, two.lambda_min) == ("saddle", pytest.approx(-1.0))
    assert np.abs(two.escape) == pytest.approx([np.sqrt(0.5)] * 2)
    three = where(lambda d: 0.5 * (d.sum() ** 3 - 1.0) ** 2, np.zeros(3), np.zeros_like)
    assert three.kind == "degenerate saddle"


def rosenbrock(x, y, **options):
    grad = np.array([-2.0 * (1.0 - x) - 400.0 * x * (y - x * x), 200.0 * (y - x * x)])
    matrix = np.array([[2.0 - 400.0 * (y - 3.0 * x * x), -400.0 * x], [-400.0 * x, 200.0]])
    return where(
        lambda d: (1.0 - x - d[0]) ** 2 + 100.0 * (y + d[1] - (x + d[0]) ** 2) ** 2, grad, lambda v: matrix @ v, **options
    )


def test_rosenbrock():
    assert rosenbrock(1.0, 1.0).kind == "minimum"
    floor = rosenbrock(0.5, 0.25)
    assert floor.kind == "slope"
    assert floor.decrease == pytest.approx(0.25, rel=1e-6)  # the Newton step along the valley; g^2 / (2 lambda_max) says 0.002
    assert 0.0 < floor.downhill < floor.decrease  # the valley is bent
    slow = rosenbrock(0.5, 0.25, rate=1e-6)
    assert "one step of the optimizer by 1e-06" in slow.text
    assert slow.margin == pytest.approx(1e-6 * slow.lambda_max)


def test_minimum_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((200, 5)), np.array([1.0, -1.0, 0.5, 0.0, 2.0])
    y = np.where(rng.uniform(size=200) < 1.0 / (1.0 + np.exp(-x @ truth)), 1.0, 0.0)

    def loss(w):
        return float(np.mean(np.logaddexp(0.0, x @ w) - y * (x @ w)))

    def grad(w):
        return x.T @ (1.0 / (1.0 + np.exp(-x @ w)) - y) / 200

    def hessian(w):
        p = 1.0 / (1.0 + np.exp(-x @ w))
        return (x.T * (p * (1.0 - p))) @ x / 200

    w = np.zeros(5)
    for k in range(20):
        point = where(lambda d: loss(w + d), grad(w), lambda v: hessian(w) @ v, reach=1.0)  # noqa: B023
        assert point.kind == ("slope" if k < 2 else "minimum" if k > 4 else point.kind)
        w = w - np.linalg.solve(hessian(w), grad(w))


def test_gradient_descent_between_the_walls():
    """Steepest curvature 10, rate 0.2: the limit exactly, and the iterate jumps from wall to wall."""
    matrix = np.diag([10.0, 0.1])
    here = np.array([0.3, 0.0])
    point = where(lambda d: 0.5 * (here + d) @ matrix @ (here + d), matrix @ here, lambda v: matrix @ v, rate=0.2, limit=2.0)
    assert point.kind == "bouncing"
    assert point.margin == pytest.approx(2.0)
    assert point.between_walls == pytest.approx(0.45)
    smaller = where(lambda d: 0.5 * (here + d) @ matrix @ (here + d), matrix @ here, lambda v: matrix @ v, rate=0.02, limit=2.0)
    assert smaller.kind == "slope"


def test_at_the_limit_yet_descending_elsewhere_is_a_slope():
    matrix, here = np.diag([10.0, 0.1]), np.array([1e-3, 10.0])
    point = where(lambda d: 0.5 * (here + d) @ matrix @ (here + d), matrix @ here, lambda v: matrix @ v, rate=0.2, limit=2.0)
    assert point.kind == "slope"


def test_plateau_of_dead_units():
    point = where(lambda _: 0.7, np.zeros(100), np.zeros_like)
    assert point.kind == "flat valley"
    assert point.text.startswith("A plateau")


def test_a_slope_without_curvature():
    point = where(lambda d: 1.0 + d[0], np.array([1.0, 0.0]), np.zeros_like)
    assert point.kind == "slope"


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_the_answer_has_no_unit(scale):
    matrix = quadratic(np.linspace(-0.5, 3.0, 100))
    reach = 3.0
    plain = at_minimum_of(matrix, reach=reach)
    scaled = where(lambda d: scale * (1.0 + 0.5 * d @ matrix @ d), np.zeros(100), lambda v: scale * (matrix @ v), reach=reach)
    assert plain.kind == scaled.kind == "saddle"
    assert scaled.escape_distance == pytest.approx(plain.escape_distance)
