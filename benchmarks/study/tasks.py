"""Small training problems that run in seconds: each builder returns a model, its data and its loss."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from later_tasks import LATER_TASKS
from problem import Problem, cross_entropy, dense, digits, mean_squares, split, sum_squares
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

# -- problems for setting thresholds ------------------------------------------------------------------------------------


def mlp_digits(
    hidden: int = 64, layers: int = 2, batch: int | None = 64, target: str = "digit", rows: int | None = None
) -> Problem:
    x, y, xv, yv = split(*digits())
    classes = 10
    if target == "rare":
        y, yv, classes = (y == 3).long(), (yv == 3).long(), 2
    if rows:
        x, y = x[:rows], y[:rows]
    return Problem(dense([64] + [hidden] * layers + [classes]), x, y, cross_entropy, xv, yv, batch, classes)


class Convolutions(nn.Module):
    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        n1, n2 = (nn.BatchNorm2d(width), nn.BatchNorm2d(2 * width)) if norm else (nn.Identity(), nn.Identity())
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            n1,
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            n2,
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * width, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.view(-1, 1, 8, 8))


def cnn_digits(width: int = 8, norm: bool = True, batch: int = 64) -> Problem:
    x, y, xv, yv = split(*digits())
    return Problem(Convolutions(width, norm), x, y, cross_entropy, xv, yv, batch, 10)


class Recurrent(nn.Module):
    def __init__(self, hidden: int, cell: type[nn.Module] = nn.GRU) -> None:
        super().__init__()
        self.rnn = cell(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def gru_sines(hidden: int = 20, length: int = 14, batch: int = 16, noise: float = 0.05, cell: str = "GRU") -> Problem:
    n = 1600
    t = torch.arange(length + 1).float()
    f1, f2 = torch.rand(n, 1) * 0.3 + 0.1, torch.rand(n, 1) * 0.6 + 0.4
    s = torch.sin(f1 * t + torch.rand(n, 1) * 6.28) + 0.5 * torch.sin(f2 * t) + noise * torch.randn(n, length + 1)
    x, y, xv, yv = split(s[:, :-1, None], s[:, 1:, None], 0.9)
    return Problem(Recurrent(hidden, getattr(nn, cell)), x, y, mean_squares, xv, yv, batch)


def linreg_exact(n: int = 64, d: int = 600, noise: float = 1.0, reduction: str = "sum", scale: float = 1.0) -> Problem:
    x = torch.randn(n, d) * scale
    y = (x @ torch.randn(d, 1)) / d**0.5 * (1 - noise) + noise * torch.randn(n, 1)
    return Problem(nn.Linear(d, 1), x, y, sum_squares if reduction == "sum" else mean_squares, batch=None)


def linreg_noisy(n: int = 1024, d: int = 20, noise: float = 0.5, batch: int | None = 32) -> Problem:
    x = torch.randn(n, d)
    y = x @ torch.randn(d, 1) + noise * torch.randn(n, 1)
    x, y, xv, yv = split(x, y)
    return Problem(nn.Linear(d, 1), x, y, mean_squares, xv, yv, batch)


def mlp_exact(n: int = 24, d: int = 6, hidden: int = 64, act: str = "Tanh") -> Problem:
    x = torch.randn(n, d)
    y = torch.sin(x.sum(1, keepdim=True)) + 0.3 * torch.randn(n, 1)
    return Problem(dense([d, hidden, 1], getattr(nn, act)), x, y, mean_squares, batch=None)


class Heads(nn.Module):
    def __init__(self, d: int, hidden: int, heads: int, linear: bool = False) -> None:
        super().__init__()
        self.body = nn.Identity() if linear else nn.Sequential(nn.Linear(d, hidden), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(d if linear else hidden, 1) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return torch.cat([head(h) for head in self.heads], 1)


def summed_heads(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((model(x) - y) ** 2).mean(0).sum()


def multitask(n: int = 64, d: int = 16, hidden: int = 96, heads: int = 4, batch: int | None = None) -> Problem:
    x = torch.randn(n, d)
    y = torch.tanh(x @ torch.randn(d, heads)) * torch.logspace(-0.5, 0.5, heads)
    return Problem(Heads(d, hidden, heads), x, y, summed_heads, batch=batch)


def autoencoder(code: int = 16, hidden: int = 48, batch: int = 64) -> Problem:
    x, _ = digits()
    x, y, xv, yv = split(x, x)
    return Problem(dense([64, hidden, code, hidden, 64]), x, y, mean_squares, xv, yv, batch)


class Attention(nn.Module):
    """Pre-norm transformer with one or two small layers."""

    def __init__(self, tokens: int, width: int, length: int, layers: int, causal: bool) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "n1": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "n2": nn.LayerNorm(width),
                    "mlp": dense([width, 2 * width, width], nn.GELU),
                }
            )
            for _ in range(layers)
        )
        self.norm, self.head, self.causal = nn.LayerNorm(width), nn.Linear(width, tokens), causal

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place[: x.shape[1]]
        for layer in self.layers:
            q, k, v = layer["qkv"](layer["n1"](h)).view(*h.shape[:2], 2, -1).transpose(1, 2).chunk(3, -1)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            h = h + layer["out"](a.transpose(1, 2).flatten(2))
            h = h + layer["mlp"](layer["n2"](h))
        return self.head(self.norm(h)).transpose(1, 2)


@cache
def text() -> str:
    found = Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py"
    return found.read_text(encoding="utf-8")[:60000]


def char_lm(width: int = 32, length: int = 24, batch: int = 16, layers: int = 1) -> Problem:
    letters = sorted(set(text()))
    ids = torch.tensor([letters.index(c) for c in text()])
    rows = ids[: len(ids) // (length + 1) * (length + 1)].view(-1, length + 1)
    x, y, xv, yv = split(rows[:, :-1], rows[:, 1:], 0.9)
    return Problem(
        Attention(len(letters), width, length, layers, True), x, y, cross_entropy, xv[:100], yv[:100], batch, len(letters)
    )


def logreg(batch: int | None = None) -> Problem:
    x, y, xv, yv = split(*digits())
    return Problem(nn.Linear(64, 10), x, y, cross_entropy, xv, yv, batch, 10)


def deep_linear(n: int = 40, d: int = 12, depth: int = 3, width: int = 24) -> Problem:
    x = torch.randn(n, d)
    y = x @ torch.randn(d, 3) / d**0.5
    model = nn.Sequential(
        *[nn.Linear(a, b, bias=False) for a, b in zip([d] + [width] * (depth - 1), [width] * (depth - 1) + [3], strict=True)]
    )
    return Problem(model, x, y, mean_squares, batch=None)


class Factors(nn.Module):
    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(0.3 * torch.randn(rows, rank)), nn.Parameter(0.3 * torch.randn(columns, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.u @ self.v.T


def factorisation(rows: int = 30, columns: int = 20, true: int = 3, rank: int = 6) -> Problem:
    y = torch.randn(rows, true) @ torch.randn(true, columns)
    return Problem(Factors(rows, columns, rank), y, y, mean_squares, batch=None)


def gan(dims: int = 1, lr: float = 1e-3, batch: int = 64) -> Problem:
    """Generator against its own discriminator; one mode in one dimension, eight on a circle in two."""
    angle = torch.randint(8, (4096, 1)) * (2 * torch.pi / 8)
    x = torch.cat([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(4096, 2) if dims == 2 else 2 + 0.5 * torch.randn(4096, 1)
    maker, judge = dense([4, 32, 32, dims]), dense([dims, 32, 32, 1])
    optimizer = torch.optim.Adam(judge.parameters(), lr=lr, betas=(0.5, 0.999))

    def judge_step(real: Tensor) -> float:
        fake = maker(torch.randn(len(real), 4)).detach()
        loss = F.softplus(-judge(real)).mean() + F.softplus(judge(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-judge(model(torch.randn(len(x), 4)))).mean()

    return Problem(maker, x, x, loss, batch=batch, extra=judge_step, extra_tag="d_loss")


def bandit(arms: int = 10, batch: int = 32) -> Problem:
    """REINFORCE on a noisy contextual bandit: a signed loss that does not measure progress."""
    x = torch.randn(2048, 6)
    worth = torch.randn(6, arms)
    seen = [0.0]

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = model(x)
        arm = torch.distributions.Categorical(logits=logits).sample()
        reward = (x @ worth).gather(1, arm[:, None])[:, 0] + torch.randn(len(x))
        seen[0] = reward.mean().item()
        return -(F.log_softmax(logits, 1).gather(1, arm[:, None])[:, 0] * (reward - reward.mean())).mean()

    return Problem(dense([6, 32, arms]), x, x, loss, batch=batch, extra=lambda _: seen[0], extra_tag="reward")


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.a, self.act, self.b = nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.act(self.a(self.norm(x))))


def deep_mlp(hidden: int = 40, layers: int = 6, batch: int = 64, act: str = "ReLU") -> Problem:
    x, y, xv, yv = split(*digits())
    model = dense([64] + [hidden] * layers + [10], getattr(nn, act))
    for layer in model:  # variance kept over depth, He et al. 2015
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return Problem(model, x, y, cross_entropy, xv, yv, batch, 10)


def residual_mlp(width: int = 48, blocks: int = 4, batch: int = 50, classes: int = 6) -> Problem:
    n, d = 2000, 16
    centre = torch.randn(classes * 3, d)
    kind = torch.randint(classes * 3, (n,))
    x = centre[kind] * 1.2 + torch.randn(n, d)
    x, y, xv, yv = split(x, kind % classes)
    model = nn.Sequential(
        nn.Linear(d, width), *[ResidualBlock(width) for _ in range(blocks)], nn.LayerNorm(width), nn.Linear(width, classes)
    )
    return Problem(model, x, y, cross_entropy, xv, yv, batch, classes)


class PostNorm(nn.Module):
    """Transformer with the norm after each residual sum, as in Vaswani et al. 2017."""

    def __init__(self, tokens: int, width: int, length: int, layers: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.head = nn.Linear(width, tokens)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place[: x.shape[1]]
        for layer in self.layers:
            h = layer(h, src_mask=self.mask[: x.shape[1], : x.shape[1]])
        return self.head(h).transpose(1, 2)


def post_norm_lm(width: int = 32, length: int = 20, batch: int = 16, layers: int = 3) -> Problem:
    letters = sorted(set(text()))
    ids = torch.tensor([letters.index(c) for c in text()])[:40000]
    rows = ids[: len(ids) // (length + 1) * (length + 1)].view(-1, length + 1)
    x, y, xv, yv = split(rows[:, :-1], rows[:, 1:], 0.9)
    model = PostNorm(len(letters), width, length, layers)
    return Problem(model, x, y, cross_entropy, xv[:100], yv[:100], batch, len(letters))


class Last(nn.Module):
    """Class scores from the last state of a recurrent net."""

    def __init__(self, inputs: int, hidden: int, classes: int, cell: str) -> None:
        super().__init__()
        self.rnn, self.out = getattr(nn, cell)(inputs, hidden, batch_first=True), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def rnn_parity(length: int = 10, hidden: int = 32, batch: int = 32, cell: str = "RNN") -> Problem:
    """Which of four quarters of a sequence holds the largest step: needs the memory of a plain recurrent net."""
    n = 1600
    x = 0.5 * torch.randn(n, length, 1)
    y = torch.randint(4, (n,))
    place = (y * length) // 4 + torch.randint(max(1, length // 4), (n,))
    x[torch.arange(n), place, 0] += 3.0
    x, y, xv, yv = split(x, y)
    return Problem(Last(1, hidden, 4, cell), x, y, cross_entropy, xv, yv, batch, 4)


def imbalanced(share: float = 0.06, batch: int = 64, n: int = 2400) -> Problem:
    x = torch.randn(n, 12)
    score = x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * torch.randn(n)
    y = (score > score.quantile(1 - share)).long()
    x, y, xv, yv = split(x, y)
    return Problem(dense([12, 32, 16, 2]), x, y, cross_entropy, xv, yv, batch, 2)


def house_prices(batch: int = 40, n: int = 1200) -> Problem:
    """Prices from ten standardised columns, two of them categories, with interactions and uneven noise."""
    x = torch.randn(n, 10)
    x[:, 8:] = torch.randint(3, (n, 2)).float() - 1
    price = 2 * x[:, 0] + x[:, 1] * x[:, 8] + torch.relu(x[:, 2]) + 0.5 * x[:, 9] + 0.3 * torch.randn(n) * (1 + x[:, 3].abs())
    x, y, xv, yv = split(x, ((price - price.mean()) / price.std())[:, None])
    return Problem(dense([10, 48, 24, 1]), x, y, mean_squares, xv, yv, batch)


# -- problems never looked at while thresholds are set -------------------------------------------------------------------


class Bag(nn.Module):
    def __init__(self, words: int, width: int, classes: int) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(words, width), dense([width, 32, classes])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bag(x))


def bag_of_words(words: int = 300, classes: int = 5, length: int = 20, batch: int = 50) -> Problem:
    n = 2000
    y = torch.randint(classes, (n,))
    topic = torch.distributions.Dirichlet(torch.full((words,), 0.3)).sample((classes,))
    common = torch.full((words,), 1.0 / words)
    x = torch.multinomial((0.35 * topic + 0.65 * common)[y], length, replacement=True)
    x, y, xv, yv = split(x, y)
    return Problem(Bag(words, 24, classes), x, y, cross_entropy, xv, yv, batch, classes)


def conv_signals(batch: int = 32, length: int = 48) -> Problem:
    n = 1200
    t = torch.arange(length) / length
    y = torch.randint(4, (n,))
    phase, rate = torch.rand(n, 1) * 6.28, 3 + torch.rand(n, 1) * 3
    wave = 6.28 * rate * t + phase
    kinds = torch.stack([wave.sin(), wave.sin().sign(), (wave % 6.28) / 3.14 - 1, (wave.sin().asin())], 1)
    x = kinds[torch.arange(n), y] + 0.3 * torch.randn(n, length)
    x, y, xv, yv = split(x[:, None], y)
    body = nn.Sequential(
        nn.Conv1d(1, 12, 5, stride=2), nn.ReLU(), nn.Conv1d(12, 16, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, 4)
    )
    return Problem(body, x, y, cross_entropy, xv, yv, batch, 4)


def tabular(name: str = "wine", batch: int | None = 16, hidden: int = 32) -> Problem:
    data = getattr(datasets, f"load_{name}")()
    x = torch.tensor(data.data, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    if name == "diabetes":
        y = torch.tensor(data.target, dtype=torch.float32)[:, None]
        x, y, xv, yv = split(x, (y - y.mean()) / y.std())
        return Problem(dense([x.shape[1], hidden, 1]), x, y, mean_squares, xv, yv, batch)
    classes = int(data.target.max()) + 1
    x, y, xv, yv = split(x, torch.tensor(data.target))
    return Problem(dense([x.shape[1], hidden, classes]), x, y, cross_entropy, xv, yv, batch, classes)


def attention_copy(length: int = 10, tokens: int = 12, batch: int = 32, width: int = 24) -> Problem:
    x = torch.randint(tokens, (1500, length))
    x, y, xv, yv = split(x, x.flip(1), 0.9)
    return Problem(Attention(tokens, width, length, 1, False), x, y, cross_entropy, xv, yv, batch, tokens)


def contrastive(batch: int = 64) -> Problem:
    x, _ = digits()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        z = [F.normalize(model(x + 0.15 * torch.randn_like(x)), dim=1) for _ in range(2)]
        return F.cross_entropy(z[0] @ z[1].T / 0.2, torch.arange(len(x)))

    return Problem(dense([64, 64, 16]), x, x, loss, batch=batch)


def tanh_exact(n: int = 32, d: int = 3, hidden: int = 128) -> Problem:
    x = torch.rand(n, d) * 4 - 2
    y = (x**2).sum(1, keepdim=True).sqrt() - x[:, :1] * x[:, 1:2]
    return Problem(dense([d, hidden, 1], nn.Tanh), x, y, mean_squares, batch=None)


def three_lines(n: int = 40, d: int = 200) -> Problem:
    x = torch.randn(n, d)
    y = torch.randn(n, 3) * torch.tensor([0.5, 1.0, 3.0])
    return Problem(Heads(d, 0, 3, linear=True), x, y, summed_heads, batch=None)


class Topics(nn.Module):
    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(words, 16), nn.LSTM(16, 24, batch_first=True)
        self.out = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(x))[0].mean(1))


def lstm_topics(words: int = 200, classes: int = 6, length: int = 16, batch: int = 40) -> Problem:
    n = 1600
    y = torch.randint(classes, (n,))
    topic = torch.distributions.Dirichlet(torch.full((words,), 0.2)).sample((classes,))
    x = torch.multinomial((0.5 * topic + 0.5 / words)[y], length, replacement=True)
    x, y, xv, yv = split(x, y)
    return Problem(Topics(words, classes), x, y, cross_entropy, xv, yv, batch, classes)


class ConvBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(x + self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))


def resnet_digits(width: int = 8, blocks: int = 2, batch: int = 64) -> Problem:
    x, y, xv, yv = split(*digits())
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, width, 3, padding=1),
        *[ConvBlock(width) for _ in range(blocks)],
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )
    return Problem(model, x, y, cross_entropy, xv, yv, batch, 10)


def friedman(batch: int = 32, n: int = 1100) -> Problem:
    """Friedman's first function (Friedman 1991), standardised."""
    x, y = datasets.make_friedman1(n, 10, noise=1.0, random_state=int(torch.randint(10**6, (1,))))
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    x, y, xv, yv = split((x - 0.5) * 3.46, ((y - y.mean()) / y.std())[:, None])
    return Problem(dense([10, 40, 40, 1]), x, y, mean_squares, xv, yv, batch)


class Variational(nn.Module):
    def __init__(self, code: int = 6) -> None:
        super().__init__()
        self.encode, self.decode = dense([64, 48, 2 * code]), dense([code, 48, 64])

    def forward(self, x: Tensor) -> Tensor:
        mean, log_var = self.encode(x).chunk(2, 1)
        self.divergence = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(1).mean()
        return self.decode(mean + torch.randn_like(mean) * (0.5 * log_var).exp())


def variational(batch: int = 64) -> Problem:
    x, _ = digits()
    x, y, xv, yv = split(x, x)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return ((model(x) - y) ** 2).sum(1).mean() + 0.3 * model.divergence

    return Problem(Variational(), x, y, loss, xv, yv, batch)


def wide_tabular(batch: int = 32, n: int = 1600) -> Problem:
    x, y = datasets.make_classification(
        n, 30, n_informative=8, n_classes=3, weights=[0.6, 0.3, 0.1], random_state=int(torch.randint(10**6, (1,)))
    )
    x, y, xv, yv = split(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    return Problem(dense([30, 64, 32, 3]), x, y, cross_entropy, xv, yv, batch, 3)


TASKS: dict[str, Callable[..., Problem]] = {
    f.__name__.replace("_", "-"): f
    for f in (
        mlp_digits,
        cnn_digits,
        gru_sines,
        linreg_exact,
        linreg_noisy,
        mlp_exact,
        multitask,
        autoencoder,
        char_lm,
        logreg,
        deep_linear,
        factorisation,
        gan,
        bandit,
        bag_of_words,
        conv_signals,
        tabular,
        attention_copy,
        contrastive,
        tanh_exact,
        three_lines,
        deep_mlp,
        residual_mlp,
        post_norm_lm,
        rnn_parity,
        imbalanced,
        house_prices,
        lstm_topics,
        resnet_digits,
        friedman,
        variational,
        wide_tabular,
        *LATER_TASKS,
    )
}
