"""A multi-layer perceptron without biases, with its gradient by hand, for many runs at once."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.demos.training import Gradient
    from traindoctor.model import FloatArray

Activation = Literal["tanh", "relu"]
Loss = Literal["cross-entropy", "squared"]


def first_weights(widths: Sequence[int], random: np.random.Generator) -> FloatArray:
    """Return weights of all layers in one vector, normal with variance 1 / width of the layer's input."""
    return np.concatenate([random.standard_normal(a * b) / np.sqrt(a) for a, b in pairwise(widths)])


def perceptron(
    x: FloatArray, target: FloatArray, widths: Sequence[int], *, activation: Activation, loss: Loss, batch: int, seed: int
) -> Gradient:
    """Return the loss and gradient of a perceptron on random batches: the same batch at the same step, for each run.

    `x`: (n, widths[0]). `target`: (n, widths[-1]), one-hot for "cross-entropy". The loss is the mean over the batch; the
    squared error is summed over outputs.
    """
    edges = np.cumsum([0, *(a * b for a, b in pairwise(widths))])
    shapes = list(pairwise(widths))

    def gradient(weights: FloatArray, step: int) -> tuple[FloatArray, FloatArray]:
        rows = np.random.default_rng((seed, step)).integers(0, len(x), batch)
        layers = [weights[:, a:b].reshape(-1, *shape) for (a, b), shape in zip(pairwise(edges), shapes, strict=True)]
        signals = [np.broadcast_to(x[rows], (len(weights), batch, widths[0]))]
        for layer in layers[:-1]:
            before = signals[-1] @ layer
            signals.append(np.tanh(before) if activation == "tanh" else np.maximum(before, 0.0))
        value, back = _loss(signals[-1] @ layers[-1], target[rows], loss)
        grads = [signals[-1].swapaxes(1, 2) @ back]
        for i in range(len(layers) - 1, 0, -1):
            out = signals[i]
            back = (back @ layers[i].swapaxes(1, 2)) * (1.0 - out * out if activation == "tanh" else out > 0.0)
            grads.append(signals[i - 1].swapaxes(1, 2) @ back)
        return value, np.concatenate([g.reshape(len(weights), -1) for g in reversed(grads)], axis=1)

    return gradient


def saturated(x: FloatArray, weights: FloatArray, widths: Sequence[int]) -> float:
    """Return the share of a tanh perceptron's hidden signals that lie beyond 0.99, where the slope of tanh is below 0.02."""
    edges = np.cumsum([0, *(a * b for a, b in pairwise(widths))])
    signal, shares = x, []
    for (a, b), shape in zip(list(pairwise(edges))[:-1], list(pairwise(widths))[:-1], strict=True):
        signal = np.tanh(signal @ weights[a:b].reshape(shape))
        shares.append(float((np.abs(signal) > 0.99).mean()))
    return float(np.mean(shares))


def _loss(output: FloatArray, target: FloatArray, kind: Loss) -> tuple[FloatArray, FloatArray]:
    """Return the loss of each run (n_runs,) and its derivative by the output (n_runs, batch, n_outputs)."""
    n = output.shape[1]
    if kind == "squared":
        error = output - target
        return np.einsum("rbo,rbo->r", error, error) / n, 2.0 * error / n
    shifted = output - output.max(axis=2, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
    return -np.einsum("rbo,bo->r", log_share, target) / n, (np.exp(log_share) - target) / n
