"""How well plain statistics of the logged series tell one fault from sound runs (AUC), to choose what a rule looks at.

python benchmarks/study/separation.py /tmp/study/tuning [--names]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np

from traindoctor.readers.discover import ReadOptions, read_runs

Series = tuple[np.ndarray, np.ndarray]


#: Our names -> quantities of the readers.
QUANTITIES = {
    "loss": "loss",
    "lr": "learning_rate",
    "g": "grad_norm",
    "w": "weight_norm",
    "val": "val_loss",
    "acc": "val_accuracy",
}


def series_of(folder: Path) -> dict[str, Series]:
    """Loss, norms and validation loss as logged, by our own names."""
    primary = next(iter(read_runs(folder, ReadOptions()))).primary
    return {ours: (primary[q].step, primary[q].value) for ours, q in QUANTITIES.items() if q in primary}


def ac1(x: np.ndarray) -> float:
    x = x - x.mean()
    return float((x[1:] * x[:-1]).sum() / max((x * x).sum(), 1e-300))


def smooth(x: np.ndarray, parts: int = 40) -> np.ndarray:
    width = max(1, len(x) // parts)
    return np.convolve(x, np.ones(width) / width, "valid")


def statistics(s: dict[str, Series]) -> dict[str, float]:
    out: dict[str, float] = {}
    loss = s["loss"][1]
    out["loss not finite"] = float(not np.isfinite(loss).all())
    loss = loss[np.isfinite(loss)]
    if len(loss) < 12 or (loss <= 0).any():
        return out
    n, ll = len(loss), np.log10(np.maximum(loss, 1e-30))
    level, end = smooth(loss), loss[-max(3, n // 10) :]
    best = int(np.argmin(level))
    out["end over start (log10)"] = float(np.log10(np.mean(end) / np.mean(loss[: max(1, n // 50)])))
    out["end over best (log10)"] = float(np.log10(np.max(end) / level[best]))
    out["median end over best (log10)"] = float(np.log10(np.median(end) / level[best]))
    out["max over start (log10)"] = float(np.log10(loss.max() / loss[0]))
    out["when best (share)"] = best / len(level)
    out["tail cv"] = float(np.std(end) / np.mean(end))
    half = loss[n // 2 :]
    out["second half falls (log10)"] = float(
        np.log10(np.mean(half[: max(1, len(half) // 5)]) / np.mean(half[-max(1, len(half) // 5) :]))
    )
    out["ac1 of log loss, detrended"] = ac1(
        ll[n // 5 :] - np.polyval(np.polyfit(np.arange(n - n // 5), ll[n // 5 :], 2), np.arange(n - n // 5))
    )
    out["rises among smoothed steps"] = float((np.diff(smooth(loss, 100)) > 0).mean())
    if "g" in s:
        g = s["g"][1][np.isfinite(s["g"][1])]
        out["g is 0"] = float((g == 0).mean())
        m = min(len(g), n)
        g, gl = g[:m], loss[:m]
        if m >= 12 and (g > 0).all():
            lg = np.log10(g)
            out["ac1 of g"] = ac1(g)
            out["ac1 of log g, late"] = ac1(lg[m // 2 :])
            out["corr log g, log loss"] = float(np.corrcoef(lg, np.log10(gl))[0, 1])
            out["corr of differences"] = float(np.corrcoef(np.diff(lg), np.diff(np.log10(gl)))[0, 1])
            out["g end over start (log10)"] = float(np.log10(np.median(g[-max(3, m // 10) :]) / np.median(g[: max(2, m // 50)])))
            out["g max over first (log10)"] = float(np.log10(g.max() / g[0]))
            out["roughness of log g"] = float(np.median(np.abs(np.diff(lg))))
            out["smooth and apart from loss"] = out["ac1 of log g, late"] - out["corr of differences"]
            k = max(3, m // 10)
            out["g over sqrt loss, end over start"] = float(
                np.log10(np.median(g[-k:] / np.sqrt(gl[-k:])) / np.median(g[:3] / np.sqrt(gl[:3])))
            )
    if "w" in s:
        w = s["w"][1][np.isfinite(s["w"][1])]
        if len(w) > 5:
            out["w end over start (log10)"] = float(np.log10(w[-1] / w[0]))
            out["w max over start (log10)"] = float(np.log10(w.max() / w[0]))
            out["w constant"] = float(np.ptp(w) == 0)
            out["w path over start (log10)"] = float(np.log10(max(np.abs(np.diff(w)).sum() / w[0], 1e-12)))
    if "val" in s:
        v = s["val"][1][np.isfinite(s["val"][1])]
        if len(v) > 3 and (v > 0).all():
            out["val end over best (log10)"] = float(np.log10(v[-1] / v.min()))
    return out


def auc(a: np.ndarray, b: np.ndarray) -> float:
    """Chance that a draw of `a` is above one of `b`."""
    return float(((a[:, None] > b).mean() + (a[:, None] >= b).mean()) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--names", action="store_true", help="list the overlapping runs too")
    parser.add_argument("--against", default="sound", help="the group to separate from")
    parser.add_argument("--fault", help="only this one")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    table: dict[str, dict[str, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for folder in options.folders:
        for file in sorted(folder.glob("*/label.json")):
            label = json.loads(file.read_text())
            for name, value in statistics(series_of(file.parent)).items():
                if np.isfinite(value):
                    table[name][label["fault"] or "sound"].append((value, file.parent.name))
    faults = [options.fault] if options.fault else sorted({f for t in table.values() for f in t} - {options.against})
    for fault in faults:
        print(f"\n{fault}")
        scores = []
        for name, by in table.items():
            if len(by[fault]) >= 3 and len(by[options.against]) >= 3:
                a, b = np.array([v for v, _ in by[fault]]), np.array([v for v, _ in by[options.against]])
                scores.append((abs(auc(a, b) - 0.5), auc(a, b), name, a, b))
        for _, score, name, a, b in sorted(scores, key=lambda s: -s[0])[:7]:
            qa, qb = np.percentile(a, (0, 10, 50, 90, 100)), np.percentile(b, (0, 10, 50, 90, 100))
            print(
                f"  AUC {score:.2f}  {name:34} "
                f"{np.array2string(qa, precision=2, suppress_small=True)}  {options.against} "
                f"{np.array2string(qb, precision=2, suppress_small=True)}  n {len(a)}/{len(b)}"
            )
            if options.names:
                edge = sorted(table[name][options.against], reverse=score > 0.5)[:5]
                print("           nearest:", ", ".join(f"{r} {v:.2f}" for v, r in edge))


if __name__ == "__main__":
    main()
