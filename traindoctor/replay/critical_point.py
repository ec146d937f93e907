"""Where a training is stuck: at a minimum, a saddle, in a flat valley, between two walls, or not at a critical point at all.

A small gradient does not tell these apart, and a large one does not mean progress. What tells is the Hessian H, of which only
products with a vector are needed: a handful of its largest and smallest eigenvalues by Lanczos, one truncated
conjugate-gradient solve, and the loss itself along the directions that the quadratic calls flat or falling.

Nothing here has a unit: a gradient is small when what it promises, the Newton decrement 1/2 g'H^-1 g, is below the resolution
of the loss; a curvature is zero when it is below the error of its own Lanczos vector, or changes the loss by less than that
resolution within the reach of the search.

Sources: Saad 2011, Numerical Methods for Large Eigenvalue Problems, ch. 3 (residual bound) and 6 (Lanczos); Nocedal and
Wright 2006, Numerical Optimization, ch. 7 (truncated conjugate gradients); Dauphin et al. 2014, arXiv:1406.2572 (saddles);
Cohen et al. 2021, arXiv:2103.00065 and 2022, arXiv:2207.14484 (the limit at which walls throw back).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.model import FloatArray

    #: The product of the Hessian with a vector, both (n,) float64.
    Product: TypeAlias = Callable[[FloatArray], FloatArray]

PointKind = Literal["minimum", "saddle", "degenerate saddle", "flat valley", "bouncing", "slope"]

#: Up to this many parameters the whole Hessian is built, column by column.
DENSE = 64
#: Residual of a Lanczos pair over the spectral norm that is asked for; where the products are too noisy for the first, the next.
TOLERANCES = (1e-4, 1e-2, 0.3)
#: Restarts of Lanczos, of some 15 products each, before the next tolerance is tried: eigenvalues crowded to one in 10,000 of
#: the norm (geometric from 1e-4 to 1 of it, 400 of them) took 1,040 products.
RESTARTS = 80
#: A decrease of the loss by less than this share of it is not seen in a log of three digits.
RESOLUTION = 1e-3
#: From this share of the stability limit on, training is taken to hover at it: Adam at its limit of 38 was measured
#: between 36.8 and 38.2 (6,000 steps of a perceptron, every 250).
EDGE = 0.95
#: Share of what the gradient promises that lies between the walls, from which they are what keeps the loss up. Only the k
#: steepest directions are looked at, of which there may be many more at the limit: on that perceptron three of 64 held 21 %.
BETWEEN_WALLS = 0.1
#: One step of the optimizer that takes less than this share of a Newton step is told.
SMALL_STEP = 0.01
#: Products of the Hessian that the Newton decrement may cost; each makes the lower bound better.
SOLVE = 60
#: Curvature over the norm of H from which products in float32 cannot tell it from zero.
FLOAT32 = 1e-6
#: Distances at which a direction is probed, shares of the reach, nearest first.
DISTANCES = tuple(4.0**-j for j in range(10, -1, -1))


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Both ends of a symmetric operator's spectrum.

    `top` (k,) float64, largest first, with `top_vectors` (n, k), columns of norm 1; `bottom` (k,), smallest first, likewise.
    `top_error`, `bottom_error` (k,): norm of H u - lambda u, within which an eigenvalue lies for certain. `norm`: largest
    absolute eigenvalue. `n_products`: what it cost. `note`: empty, or why less is known than was asked for.
    """

    top: FloatArray
    top_vectors: FloatArray
    top_error: FloatArray
    bottom: FloatArray
    bottom_vectors: FloatArray
    bottom_error: FloatArray
    n_products: int
    note: str = ""

    @property
    def norm(self) -> float:
        """The largest absolute eigenvalue."""
        return float(max(abs(self.top[0]), abs(self.bottom[0])))


def spectrum(hvp: Product, n: int, k: int = 3, *, seed: int = 0) -> Spectrum:
    """Return the k largest and the k smallest eigenvalues of a symmetric operator on n numbers (fewer when n < k).

    Up to `DENSE` numbers the matrix is built and symmetrised, above that Lanczos runs at both ends. ARPACK asks for a
    residual relative to the eigenvalue itself, which an eigenvalue of zero never meets; so the operator is shifted by its
    own norm first, and the residual is relative to that. A product that is not repeatable is averaged over, and shows in
    the errors; what does not converge is taken as it is and said in `note`. The start is drawn from `seed`.

    Raises: ValueError when a product is not finite.
    """
    count = 0

    def product(vector: FloatArray) -> FloatArray:
        nonlocal count
        count += 1
        result = np.asarray(hvp(np.asarray(vector, dtype=np.float64).ravel()), dtype=np.float64)
        if not np.isfinite(result).all():
            raise ValueError("the product of the Hessian with a vector is not finite")
        return result

    k = min(k, n)
    if n <= max(DENSE, 2 * k):
        full = np.stack([product(column) for column in np.eye(n)], axis=1)
        value, vector = np.linalg.eigh(0.5 * (full + full.T))
        # A product that is not symmetric is as far from the Hessian in its symmetric part as in the other.
        asymmetry = float(np.linalg.norm(0.5 * (full - full.T), 2))
        error = np.maximum(np.linalg.norm(full @ vector - vector * value, axis=0), asymmetry)
        low, high = np.arange(k), np.arange(n - 1, n - 1 - k, -1)
        return Spectrum(value[high], vector[:, high], error[high], value[low], vector[:, low], error[low], count)

    start = np.random.default_rng(seed).standard_normal(n)
    notes: list[str] = []
    if not product(start).any():
        zero, basis = np.zeros(k), np.eye(n, k)
        return Spectrum(zero, basis, zero, zero, basis, zero, count)
    norm = float(abs(_largest(product, start, 1, "LM", notes)[0][0]))
    top = _largest(lambda x: product(x) + norm * x, start, k, "LA", notes)[1]
    bottom = _largest(lambda x: norm * x - product(x), start, k, "LA", notes)[1]
    ends = [_rayleigh(product, vectors) for vectors in (top, bottom)]
    (high_value, high_vector, high_error), (low_value, low_vector, low_error) = ends
    return Spectrum(
        high_value[::-1], high_vector[:, ::-1], high_error[::-1], low_value, low_vector, low_error, count,
        "; ".join(dict.fromkeys(notes)),
    )  # fmt: skip


def _largest(product: Product, start: FloatArray, k: int, which: str, notes: list[str]) -> tuple[FloatArray, FloatArray]:
    """Return Ritz values (k,) and vectors (n, k) at the tightest of `TOLERANCES` that converges, and note a looser one."""
    operator = LinearOperator((start.size, start.size), matvec=product, dtype=np.float64)
    found: tuple[FloatArray, FloatArray] | None = None
    for tolerance in TOLERANCES:
        try:
            value, vector = eigsh(operator, k=k, which=which, v0=start, tol=tolerance, maxiter=RESTARTS)
        except ArpackNoConvergence as partial:
            if partial.eigenvalues.size and found is None:
                found = partial.eigenvalues, partial.eigenvectors
        except ArpackError:  # a start inside an invariant subspace, a product of pure noise
            break
        else:
            if tolerance > TOLERANCES[0]:
                notes.append(f"Lanczos converged to a residual of {tolerance:g} of the largest eigenvalue only")
            return value, vector
    notes.append("Lanczos did not converge" + ("" if found is None else f": {found[0].size} of {k} eigenvalues at one end"))
    if found is not None:
        return found
    unit = start / np.linalg.norm(start)
    return np.array([unit @ product(unit)]), unit[:, None]


def _rayleigh(product: Product, vectors: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return Rayleigh quotients in ascending order, their vectors, and the norms of their residuals, by fresh products."""
    images = np.stack([product(vector) for vector in vectors.T], axis=1)
    value = np.einsum("nk,nk->k", vectors, images)
    order = np.argsort(value)
    error = np.linalg.norm(images - vectors * value, axis=0)
    return value[order], vectors[:, order], error[order]


def preconditioned(hvp: Product, rate: FloatArray | float) -> Product:
    """Return the product with R^1/2 H R^1/2, R = diag(rate): symmetric, with the eigenvalues of R H.

    `rate`: what a gradient is multiplied with in a step, lr / (sqrt(v_hat) + eps) for Adam, (n,) or one number, not negative.
    The largest eigenvalue is then lr * lambda_max(P^-1 H), to compare with `optim.stability.stability_limit`.
    """
    root = np.sqrt(np.asarray(rate, dtype=np.float64))
    return lambda vector: root * hvp(root * vector)


@dataclass(frozen=True, slots=True, eq=False)
class CriticalPoint:
    """Where the parameters are, and the figures that say so.

    `kind`: "minimum"; "saddle", which falls along a direction of negative curvature; "degenerate saddle", which falls along one
    of zero curvature; "flat valley", where zero curvature leads nowhere within reach; "bouncing", held up by the learning
    rate between the walls of the steepest direction; "slope": not critical, the gradient still leads down.
    `text`: the same in one sentence. `loss`, `grad_norm`: at the point. `resolution`: the change of loss that counts.
    `decrease`: what the gradient promises on the quadratic, the Newton decrement or a lower bound of it, in units of the loss;
    `downhill`: what that step, or a part of it, takes off the loss as measured. `lambda_max`, `lambda_min`: of H.
    `curvature_error`: below this a curvature is zero. `margin`: lr * lambda_max(P^-1 H), and the `limit` it is stable below;
    None without a rate. `between_walls`: the loss that lies between the walls of the unstable directions. `per_step`:
    decrease of the quadratic by one step of the rate without momentum; None without a rate. `escape`: (n,) unit vector
    along which the loss falls, None where there is none; `escape_distance` along it lowers the loss by `escape_decrease`, as
    measured, where the quadratic has `escape_predicted`. `spectrum`: of H.
    """

    kind: PointKind
    text: str
    loss: float
    grad_norm: float
    resolution: float
    decrease: float
    downhill: float
    lambda_max: float
    lambda_min: float
    curvature_error: float
    spectrum: Spectrum
    margin: float | None = None
    limit: float | None = None
    between_walls: float = 0.0
    per_step: float | None = None
    escape: FloatArray | None = None
    escape_distance: float = 0.0
    escape_decrease: float = 0.0
    escape_predicted: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Escape:
    direction: FloatArray
    distance: float
    decrease: float
    predicted: float


def where(
    loss: Callable[[FloatArray], float],
    grad: FloatArray,
    hvp: Product,
    *,
    rate: FloatArray | float | None = None,
    limit: float = 2.0,
    reach: float = 1.0,
    resolution: float | None = None,
    k: int = 3,
    seed: int = 0,
) -> CriticalPoint:
    """Return where the parameters are, from the loss around them, the gradient at them and products of the Hessian.

    `loss`: the loss at an offset from the point, (n,) float64. `grad`: (n,). `rate`: see `preconditioned`; without it nothing
    is said of bouncing. `limit`: the largest stable lr * lambda_max(P^-1 H) of the optimizer. `reach`: how far a direction is
    followed, the norm of the parameters for a network. `resolution`: the change of the loss that counts; by default
    `RESOLUTION` of the loss, and never below what rounding makes of the quadratic within reach. `k`: eigenvalues at each end.

    The tests, in this order:

        bouncing   lr * lambda_max(P^-1 H) >= `EDGE` of the limit, and the loss between the walls, the sum of (g.u)^2 / (2 lambda)
                   over the unstable directions u, is above the resolution and `BETWEEN_WALLS` of what the gradient promises
        slope      the Newton decrement is above the resolution, and so is what its step takes off the loss as measured
        saddle     lambda_min < 0 beyond its error, and the loss falls by more than the resolution along its vector
        degenerate a direction without curvature along which the loss falls by more than the resolution
        flat       a direction without curvature, and none that falls
        minimum    else: all curvatures are positive beyond their errors

    Without curvature: |lambda| is below the Lanczos residual, or 1/2 |lambda| reach^2 below the resolution.
    """
    grad = np.asarray(grad, dtype=np.float64)
    here = float(loss(np.zeros_like(grad)))
    ends = spectrum(hvp, grad.size, k, seed=seed)
    rounding = np.finfo(np.float64).eps * (abs(here) + 0.5 * ends.norm * reach**2)
    counts = max(RESOLUTION * abs(here) if resolution is None else resolution, rounding)
    step, decrease = newton_step(grad, hvp, ends.norm)
    # The quadratic ends somewhere: what the loss itself does along the step, or a part of it.
    downhill = max(0.0, *(here - float(loss(2.0**-j * step)) for j in range(11))) if decrease > counts else 0.0
    flat = max(float(ends.bottom_error.max()), float(ends.top_error[0]), 2.0 * counts / reach**2)
    margin: float | None = None
    per_step: float | None = None
    walls = 0.0
    if rate is not None:
        margin, walls = _walls(grad, hvp, rate, limit, k, seed)
        update = rate * grad
        per_step = float(grad @ update - 0.5 * update @ hvp(update))
    kind: PointKind
    escape: _Escape | None = None
    if margin is not None and margin >= EDGE * limit and walls > counts and walls >= BETWEEN_WALLS * decrease:
        kind = "bouncing"
    elif downhill > counts:
        kind = "slope"
    else:
        kind, escape = _critical(loss, grad, here, ends, flat, counts, reach)
    point = CriticalPoint(
        kind=kind,
        text="",
        loss=here,
        grad_norm=float(np.linalg.norm(grad)),
        resolution=counts,
        decrease=decrease,
        downhill=downhill,
        lambda_max=float(ends.top[0]),
        lambda_min=float(ends.bottom[0]),
        curvature_error=flat,
        spectrum=ends,
        margin=margin,
        limit=None if margin is None else limit,
        between_walls=walls,
        per_step=per_step,
        escape=None if escape is None else escape.direction,
        escape_distance=0.0 if escape is None else escape.distance,
        escape_decrease=0.0 if escape is None else escape.decrease,
        escape_predicted=0.0 if escape is None else escape.predicted,
    )
    return replace(point, text=_sentence(point))


def newton_step(grad: FloatArray, hvp: Product, norm: float) -> tuple[FloatArray, float]:
    """Return the step to the bottom of the quadratic, (n,), and how far it falls, 1/2 g'H^-1 g in units of the loss.

    Conjugate gradients on H d = -g: every iterate's fall is a lower bound that grows. They end after `SOLVE` products, at a
    gradient that is used up, or at a direction without positive curvature; the fall is at least ||g||^2 / (2 norm) even
    then, that of a step of 1 / norm, `norm` the largest absolute curvature. Zero curvature throughout: a step of -g and
    infinity, but for a zero gradient.

    Source: Nocedal and Wright 2006, algorithm 7.1; Boyd and Vandenberghe 2004, Convex Optimization, section 9.5.1 (decrement).
    """
    squared = float(grad @ grad)
    if squared == 0.0 or norm == 0.0:
        return -grad, float("inf") if squared else 0.0
    fall = 0.0
    step, residual, direction = np.zeros_like(grad), grad, -grad
    for _ in range(min(SOLVE, grad.size)):
        image = hvp(direction)
        curvature = float(direction @ image)
        old = float(residual @ residual)
        if curvature <= FLOAT32 * norm * float(direction @ direction):
            break
        fall += 0.5 * old**2 / curvature
        step = step + (old / curvature) * direction
        residual = residual + (old / curvature) * image
        new = float(residual @ residual)
        if new <= FLOAT32**2 * squared:
            break
        direction = (new / old) * direction - residual
    least = 0.5 * squared / norm
    return (step, fall) if fall >= least else (-grad / norm, least)


def _walls(grad: FloatArray, hvp: Product, rate: FloatArray | float, limit: float, k: int, seed: int) -> tuple[float, float]:
    """Return lr * lambda_max(P^-1 H), and the loss between the walls of the directions at the limit, among the k steepest."""
    ends = spectrum(preconditioned(hvp, rate), grad.size, k, seed=seed)
    unstable = ends.top >= EDGE * limit
    along = (np.sqrt(rate) * grad) @ ends.top_vectors[:, unstable]
    return float(ends.top[0]), float(np.sum(0.5 * along**2 / ends.top[unstable]))


def _critical(
    loss: Callable[[FloatArray], float], grad: FloatArray, here: float, ends: Spectrum, flat: float, counts: float, reach: float
) -> tuple[PointKind, _Escape | None]:
    """Return what kind of critical point it is, and the way out that lowers the loss most, if one lowers it at all."""
    level = [i for i, value in enumerate(ends.bottom) if value <= flat]
    ways = [(i, _follow(loss, grad, here, ends, i, counts, reach)) for i in level]
    i, best = max(ways, key=lambda way: way[1].decrease, default=(0, None))
    if best is None:
        return "minimum", None
    if best.decrease <= counts:
        return "flat valley", None
    if abs(float(grad @ best.direction)) * best.distance > 0.5 * best.decrease:
        return "slope", best
    return ("saddle" if ends.bottom[i] < -flat else "degenerate saddle"), best


def _follow(
    loss: Callable[[FloatArray], float], grad: FloatArray, here: float, ends: Spectrum, i: int, counts: float, reach: float
) -> _Escape:
    """Return how far the i-th flattest direction lowers the loss, either way, walked until the loss rises or the reach ends."""
    vector = ends.bottom_vectors[:, i]
    best = _Escape(vector, 0.0, 0.0, 0.0)
    for direction in (vector, -vector):
        for share in DISTANCES:
            distance = share * reach
            decrease = here - float(loss(distance * direction))
            if not decrease > -10.0 * counts:
                break
            if decrease > best.decrease:
                predicted = -distance * float(grad @ direction) - 0.5 * float(ends.bottom[i]) * distance**2 + 0.0  # no -0
                best = _Escape(direction, distance, decrease, predicted)
    return best


def _sentence(point: CriticalPoint) -> str:
    """Return what the figures say, in one sentence."""
    curvatures = f"curvatures from {point.lambda_min:.3g} to {point.lambda_max:.3g}"
    margin = "" if point.margin is None else f"lr·λmax(P⁻¹H) = {point.margin:.3g}, stable below {point.limit:.3g}"
    ending = f"; {margin}." if margin else "."
    way = (
        f"a step of {point.escape_distance:.3g} along it lowers the loss by {point.escape_decrease:.3g}, "
        f"from {point.loss:.4g} (the quadratic says {point.escape_predicted:.3g})"
    )
    if point.kind == "bouncing":
        return (
            f"Not a critical point: training bounces between the walls of its steepest directions ({margin}), which keeps "
            f"{point.between_walls:.3g} of the loss of {point.loss:.4g}; a smaller learning rate takes it."
        )
    if point.kind == "slope":
        if point.escape is not None:
            return f"Not a critical point: the gradient leads down a direction without curvature; {way}."
        pace = ""
        if point.per_step is not None and 0.0 < point.per_step < SMALL_STEP * point.downhill:
            pace = f", one step of the optimizer by {point.per_step:.2g}"
        return (
            f"Not a critical point: a Newton step along the gradient (norm {point.grad_norm:.3g}) lowers the loss of "
            f"{point.loss:.4g} by {point.downhill:.3g}{pace}{ending}"
        )
    if point.kind == "saddle":
        return f"A saddle: the curvature is {point.lambda_min:.3g} along one direction; {way}{ending}"
    if point.kind == "degenerate saddle":
        return f"A degenerate saddle: no curvature along a direction that falls all the same; {way}{ending}"
    if point.kind == "flat valley":
        if point.lambda_max <= point.curvature_error:
            return f"A plateau: gradient and curvature are zero within the resolution, {curvatures}{ending}"
        return f"The floor of a flat valley: zero curvature leads nowhere, {curvatures}{ending}"
    return f"A local minimum: all curvatures are positive, {curvatures}{ending}"
