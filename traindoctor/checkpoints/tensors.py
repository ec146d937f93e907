"""Tensors on disk, a block at a time: formats that NumPy lacks, figures of one tensor, and figures of several together."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.checkpoints.state import FIRST, QUANTILES, SECOND, Change, Moments, Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray

#: Elements that are looked at at a time: they and what is made of them fit in the cache of a processor.
BLOCK = 2**15
#: Elements of a regular sample of a large tensor, of which its quantiles are.
SAMPLE = 2**15
#: Bytes of an element.
WIDTHS = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "int64": 8, "int32": 4,
    "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
#: Smallest positive number of full precision, and the bits of the significand with the leading one.
SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-14}
BITS = {"bfloat16": 8, "float16": 11}
_RAW = {"bfloat16": "<u2", "float8_e4m3fn": "u1", "float8_e5m2": "u1", "bool": "u1"}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor that is still on disk. `raw`: its elements as stored, of an integer type where NumPy lacks the format."""

    dtype: str
    raw: NDArray[np.generic]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.raw.shape

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers that are no integers."""
        return "float" in self.dtype


def tensor_of(buffer: NDArray[np.uint8], dtype: str, shape: Sequence[int], stride: Sequence[int] | None = None) -> Tensor:
    """Return the tensor whose elements begin at the start of a buffer; nothing is copied.

    `stride`: in elements, None for the usual order.

    Raises: ValueError for a shape that does not fit in the buffer, or lays elements over each other.
    """
    width = WIDTHS[dtype]
    stored = np.dtype(_RAW[dtype]) if dtype in _RAW else np.dtype(dtype).newbyteorder("<")
    elements = buffer[: buffer.size // width * width].view(stored)
    size = math.prod(shape)
    if len(shape) > 64 or size > elements.size:
        raise ValueError(f"the shape {tuple(shape)[:8]} does not fit in {buffer.size:,} bytes")
    usual = tuple(itertools.accumulate(reversed([*shape[1:], 1]), lambda a, b: a * b))[::-1] if shape else ()
    if size == 0 or stride is None or all(n == 1 or a == b for n, a, b in zip(shape, stride, usual, strict=True)):
        return Tensor(dtype, elements[:size].reshape(tuple(shape)))
    reach = 1
    for step, n in sorted((s, n) for s, n in zip(stride, shape, strict=True) if n > 1):
        if step < reach:
            raise ValueError(f"the elements of a tensor of the shape {tuple(shape)} lie over each other")
        reach = step * (n - 1) + reach
    if reach > elements.size:
        raise ValueError(f"the shape {tuple(shape)} with the stride {tuple(stride)} does not fit in {buffer.size:,} bytes")
    raw = np.lib.stride_tricks.as_strided(elements, tuple(shape), tuple(s * width for s in stride), writeable=False)
    return Tensor(dtype, raw)


def blocks(*tensors: Tensor) -> Iterator[tuple[NDArray[np.generic], ...]]:
    """Yield the same rows of tensors of one shape, as stored, a block at a time: (rows, elements of a row)."""
    shape = tensors[0].shape
    width = math.prod(shape[1:]) if len(shape) > 1 else 1
    if not math.prod(shape):
        return
    if width > 4 * BLOCK and all(t.raw.flags.c_contiguous for t in tensors):
        shape, width = (math.prod(shape), 1), 1
        tensors = tuple(Tensor(t.dtype, t.raw.reshape(-1)) for t in tensors)
    rows = max(1, BLOCK // width)
    for start in range(0, shape[0] if shape else 1, rows):
        yield tuple((t.raw[start : start + rows] if t.raw.ndim else t.raw).reshape(-1, width) for t in tensors)


def decoded(raw: NDArray[np.generic], dtype: str) -> FloatArray:
    """Return stored elements as float64."""
    if dtype == "bfloat16":
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype.startswith("float8"):
        return np.asarray(_eighths(dtype)[raw.astype(np.uint8)])
    return np.asarray(raw.astype(np.float64))


@functools.cache
def _eighths(dtype: str) -> FloatArray:
    """Return the 256 numbers of a format of 8 bits. Source: OCP 8-bit floating point specification, revision 1.0."""
    exponent_bits, fraction_bits, bias = (4, 3, 7) if dtype == "float8_e4m3fn" else (5, 2, 15)
    code = np.arange(256)
    exponent = (code >> fraction_bits) & (2**exponent_bits - 1)
    fraction = (code & (2**fraction_bits - 1)) / 2.0**fraction_bits
    value = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1.0 + fraction) * 2.0 ** (exponent - bias))
    if dtype == "float8_e5m2":
        value = np.where(exponent == 31, np.where(fraction == 0.0, np.inf, np.nan), value)
    else:
        value = np.where((code & 127) == 127, np.nan, value)
    return np.asarray(np.where(code >= 128, -value, value))


def number(tensor: Tensor) -> float | None:
    """Return the value of a tensor of one element, None for another or one that is not real."""
    if math.prod(tensor.shape) != 1 or "complex" in tensor.dtype:
        return None
    return float(decoded(tensor.raw.reshape(-1), tensor.dtype)[0])


def figures(tensor: Tensor) -> Values:
    """Return the figures of a tensor. Of integers, booleans and complex numbers shape and format alone."""
    size = math.prod(tensor.shape)
    if not tensor.is_float or not size:
        return Values(tensor.shape, tensor.dtype, size)
    nan = infinite = zeros = subnormal = 0
    squares = largest = 0.0
    smallest = SMALLEST.get(tensor.dtype, 0.0)
    kept: list[FloatArray] = []
    every, offset = max(1, size // SAMPLE), 0
    for (raw,) in blocks(tensor):
        value = np.abs(decoded(raw, tensor.dtype)).reshape(-1)
        finite = np.isfinite(value)
        kept.append(value[-offset % every :: every].copy())  # a view would keep the block
        offset += value.size
        if not finite.all():
            nan += int(np.isnan(value).sum())
            infinite += int(np.isinf(value).sum())
            value = value[finite]
        zeros += value.size - int(np.count_nonzero(value))
        subnormal += int(((value > 0.0) & (value < smallest)).sum())
        largest = max(largest, float(value.max(initial=0.0)))
        squares += float(np.dot(value, value))
    sample = np.concatenate(kept)
    sample = sample[np.isfinite(sample)]
    known = nan + infinite < size
    return Values(
        tensor.shape,
        tensor.dtype,
        size,
        nan,
        infinite,
        zeros,
        subnormal,
        math.sqrt(squares) if known else float("nan"),
        largest if known else float("nan"),
        tuple(float(q) for q in np.quantile(sample, QUANTILES)) if sample.size else (),
    )


# -- figures of several tensors ---------------------------------------------------------------------------------------


def moments_of(
    slots: Mapping[str, Tensor], weight: Tensor | None, settings: Mapping[str, object], step: float | None
) -> Moments | None:
    """Return what the moments of a parameter say together; None for an optimizer without a second moment.

    `weight`: the parameter itself where it is known which one it is. `settings`: of its group. `step`: its step count.
    """
    second = next((slots[name] for name in SECOND if name in slots and slots[name].is_float), None)
    if second is None or not math.prod(second.shape):
        return None
    first = slots.get(FIRST)
    first = first if first is not None and first.is_float and first.shape == second.shape else None
    betas = settings.get("betas")
    beta1, beta2 = betas if isinstance(betas, list | tuple) and len(betas) == 2 else (0.0, 0.0)
    bias1, bias2 = (1.0 - beta**step if step and 0.0 < beta < 1.0 else 1.0 for beta in (_plain(beta1), _plain(beta2)))
    eps = settings.get("eps")
    eps = float(eps) if isinstance(eps, int | float) else None
    rates = [settings.get(name) for name in ("lr", "initial_lr")]
    lr = max((float(rate) for rate in rates if isinstance(rate, int | float)), default=0.0)
    rounding = BITS.get(weight.dtype) if weight is not None and weight.shape == second.shape and first is not None else None
    size = math.prod(second.shape)
    below = near = fed = starved = dead = stays = 0
    squares = [0.0, 0.0]
    roots: list[FloatArray] = []
    every, offset = max(1, size // SAMPLE), 0
    chosen = [t for t in (second, first, weight if rounding is not None else None) if t is not None]
    for raws in blocks(*chosen):
        v = decoded(raws[0], second.dtype)
        root = np.sqrt(v / bias2)
        flat = root.reshape(-1)
        roots.append(flat[-offset % every :: every].copy())
        offset += flat.size
        squares[1] += float(np.nansum(v))
        known = root > 0.0
        fed += int(known.sum())
        if eps is not None:
            below += int((known & (root < eps)).sum())
            near += int((known & (root < 10.0 * eps)).sum())
        if first is None:
            continue
        m = decoded(raws[1], first.dtype)
        squares[0] += float(np.nansum(m * m))
        starved += int(((v == 0.0) & (m != 0.0)).sum())
        if len(second.shape) > 1:
            dead += int((np.abs(m) <= SMALLEST.get(first.dtype, 0.0)).all(axis=1).sum())
        if rounding is not None and weight is not None:
            w = np.abs(decoded(raws[2], weight.dtype))
            update = np.abs(lr * (m / bias1) / (root + (eps or 0.0)))
            spacing = np.exp2(np.floor(np.log2(np.maximum(w, SMALLEST[weight.dtype]))) + 1.0 - rounding)
            stays += int((update < 0.5 * spacing).sum())
    sample = np.concatenate(roots)
    sample = sample[np.isfinite(sample) & (sample > 0.0)]
    memory = squares[0] / bias1**2 / (squares[1] / bias2) if first is not None and squares[1] > 0.0 else None
    return Moments(
        root=float(np.median(sample)) if sample.size else float("nan"),
        below_eps=below / fed if eps is not None and fed else None,
        near_eps=near / fed if eps is not None and fed else None,
        memory=memory,
        starved=starved / size,
        dead_rows=dead,
        rows=second.shape[0] if len(second.shape) > 1 else 0,
        rounded_away=stays / size if rounding is not None and lr > 0.0 else None,
    )


def _plain(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def change_of(name: str, before: Tensor, after: Tensor, seconds: tuple[Tensor, Tensor] | None) -> Change | None:
    """Return what became of a weight; None where the two files do not hold the same. `seconds`: its second moments."""
    size = math.prod(after.shape)
    if not size or before.shape != after.shape or before.dtype != after.dtype:
        return None
    same = sum(int((a == b).sum()) for a, b in blocks(before, after)) / size
    if seconds is None or seconds[0].shape != seconds[1].shape or seconds[0].dtype != seconds[1].dtype:
        return Change(name, size, same)
    fell = kept = 0
    for raw_a, raw_b in blocks(*seconds):
        a, b = decoded(raw_a, seconds[0].dtype), decoded(raw_b, seconds[1].dtype)
        fell += int((b < a).sum())
        kept += int((b == a).sum())
    total = math.prod(seconds[0].shape)
    return Change(name, size, same, fell / total, kept / total)
