"""A training script in pure Python: Adam on a quadratic, from a YAML-like or flag-given learning rate, logged to CSV."""

SCRIPT = """
import argparse, csv, math, os, pathlib, subprocess, sys, time
parser = argparse.ArgumentParser()
for name in ("config", "logdir", "lr", "eps", "checkpoint", "mode", "seed"):
    parser.add_argument("--" + name, default="")
args = parser.parse_args()
config = {}
if args.config:
    for line in pathlib.Path(args.config).read_text().splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon and value.strip():
            config[key.strip()] = value.strip()
lr, eps = float(args.lr or config.get("lr", 0.5)), float(args.eps or config.get("eps", 1e-8))
beta1, beta2 = float(config.get("beta1", 0.9)), float(config.get("beta2", 0.999))
weight, first = 3.0, 0
if args.checkpoint:
    words = pathlib.Path(args.checkpoint).read_text().split()
    if words[0] != "quadratic":
        sys.exit("RuntimeError: checkpoint is of another model")
    weight, first = float(words[1]), int(words[2])
    pathlib.Path(args.checkpoint).write_text("overwritten")
mode = config.get("mode", args.mode)
if mode == "hang" or (mode == "hang-small" and lr < 0.1):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path(args.logdir, "child").write_text(str(child.pid))
    time.sleep(60)
if mode == "fail" or (mode == "fail-small" and lr < 0.1):
    print("first line", file=sys.stderr)
    sys.exit("ValueError: no such data")
m = v = 0.0
rows = []
for t in range(1, 121):
    loss = 0.5 * weight * weight
    rows.append((first + t - 1, loss))
    g = weight
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    update = lr * m / (1 - beta1 ** t) / (math.sqrt(v / (1 - beta2 ** t)) + eps)
    weight -= update if mode != "sgd" else lr * g
if mode == "silent":
    sys.exit()
if mode == "text":
    pathlib.Path(args.logdir, "out.bin").write_bytes(bytes(range(256)))
    sys.exit()
with open(os.path.join(args.logdir, "metrics.csv"), "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["step", "other" if mode == "renamed" else "loss"])
    writer.writerows(rows)
"""
CONFIG = "# how it was trained\noptimizer:\n  name: adam   # the usual one\n  lr: 2.1\n  beta1: 0.9\n  beta2: 0.999\nseed: 7\n"
SGD = "optimizer:\n  name: sgd\n  lr: 2.01  # above the limit of 2\nmode: sgd\n"


def record(folder, config=SGD):
    """Write the script and a config, and train once; return the folder of the run."""
    import subprocess
    import sys

    run = folder / "run"
    (run / "logs").mkdir(parents=True)
    (run / "train.py").write_text(SCRIPT)
    (run / "config.yaml").write_text(config)
    subprocess.run(
        [sys.executable, str(run / "train.py"), "--config", str(run / "config.yaml"), "--logdir", str(run / "logs")],
        check=True,
    )
    return run
