"""Small training problems of the second held-back part: written when the rules stood, and met by none before the scoring."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from problem import Problem, cross_entropy, dense, digits, split
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches(nn.Module):
    """A vision transformer on 16 patches of 2 x 2 pixels (Dosovitskiy et al. 2021), with its mean in place of a class token."""

    def __init__(self, width: int, layers: int, classes: int) -> None:
        super().__init__()
        self.patch, self.place = nn.Linear(4, width), nn.Parameter(0.02 * torch.randn(16, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tiles = x.view(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 16, 4)
        h = self.patch(tiles) + self.place
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h).mean(1))


def patches(width: int = 24, layers: int = 2, batch: int = 48) -> Problem:
    x, y, xv, yv = split(*digits())
    return Problem(Patches(width, layers, 10), x, y, cross_entropy, xv, yv, batch, 10)


def separable(width: int = 12, batch: int = 40) -> Problem:
    """Which of five textures a noisy 10 x 10 image has; depthwise separable convolutions (Howard et al. 2017)."""
    n, size = 1500, 10
    y = torch.randint(5, (n,))
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = torch.stack([rows, columns, rows + columns, rows - columns, 2 * rows]).float()[y]
    x = torch.sin(1.3 * waves + 6.28 * torch.rand(n, 1, 1)) + 0.8 * torch.randn(n, size, size)
    x, y, xv, yv = split(x.unsqueeze(1), y)
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
    for _ in range(2):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.Conv2d(width, width, 1),
            nn.GroupNorm(2, width),
            nn.ReLU(),
        ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 5))
    return Problem(model, x, y, cross_entropy, xv, yv, batch, 5)


class Spelling(nn.Module):
    """Next letter of a name."""

    def __init__(self, letters: int, width: int) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(letters, 16), nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


def names(width: int = 40, batch: int = 32, length: int = 10) -> Problem:
    """The names of Python's standard modules and of what they define, letter by letter."""
    modules = sorted(sys.stdlib_module_names)
    words = sorted({*modules, *(w for m in ("os", "typing", "ast", "socket", "errno", "signal") for w in dir(__import__(m)))})
    text = "|".join(w.lower().strip("_") for w in words)
    alphabet = sorted(set(text))
    letters = torch.tensor([alphabet.index(c) for c in text])
    rows = letters.unfold(0, length + 1, 4)
    x, y, xv, yv = split(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), 0.9)
    return Problem(Spelling(len(alphabet), width), x, y, cross_entropy, xv, yv, batch, len(alphabet))


def picture(hidden: int = 64, batch: int = 128) -> Problem:
    """The brightness of a drawn picture from its coordinates, through Fourier features (Tancik et al. 2020)."""
    side = 40
    a, b = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    at = torch.stack([a.flatten(), b.flatten()], 1)
    light = torch.sin(5 * at[:, 0] + torch.randn(1)) * torch.cos(4 * at[:, 1]) + ((at**2).sum(1) < 0.5).float()
    waves = torch.cat([torch.sin(at @ torch.randn(2, 10) * 3), at], 1)
    x, y, xv, yv = split(waves, ((light - light.mean()) / light.std())[:, None])

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.l1_loss(model(x), y)

    return Problem(dense([12, hidden, hidden, 1]), x, y, loss, xv, yv, batch)


def triplets(batch: int = 32, margin: float = 0.5) -> Problem:
    """Digits so placed that those of one kind lie nearer to each other than to others (Schroff et al. 2015)."""
    images, kinds = digits()
    order = torch.randperm(len(images))
    x, y = images[order], kinds[order]

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        z = F.normalize(model(x), dim=1)
        far = torch.cdist(z, z)
        same = y[:, None] == y[None]
        hardest = torch.where(same, far, far.new_zeros(())).amax(1) - torch.where(same, far.new_full((), 9.0), far).amin(1)
        return F.softplus(4 * (hardest + margin)).mean() / 4

    return Problem(dense([64, 48, 12]), x, y, loss, batch=batch)


def distilled(batch: int = 64, classes: int = 8, heat: float = 2.0) -> Problem:
    """A small network taught by the soft answers of a larger one (Hinton et al. 2015)."""
    x = torch.randn(2000, 20)
    teacher = dense([20, 100, classes], nn.Tanh)
    with torch.no_grad():
        y = (teacher(x) * 12 / heat).softmax(1)
    x, y, xv, yv = split(x, y)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.kl_div((model(x) / heat).log_softmax(1), y, reduction="batchmean") * heat**2

    return Problem(dense([20, 48, 48, classes]), x, y, loss, xv, yv, batch)


class Mixing(nn.Module):
    """One block of an MLP-Mixer (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1, self.across = nn.LayerNorm(width), dense([tokens, 2 * tokens, tokens], nn.GELU)
        self.norm2, self.within = nn.LayerNorm(width), dense([width, 2 * width, width], nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.row, self.blocks = nn.Linear(8, width), nn.Sequential(*[Mixing(8, width) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.row(x.view(-1, 8, 8)))).mean(1))


def mixer(width: int = 24, blocks: int = 3, batch: int = 56) -> Problem:
    x, y, xv, yv = split(*digits())
    return Problem(Mixer(width, blocks), x, y, cross_entropy, xv, yv, batch, 10)


def quantiles(batch: int = 48, share: float = 0.75) -> Problem:
    """The upper quartile of a noisy surface (Koenker and Bassett 1978); the noise grows with the first input."""
    n = 1400
    x = torch.rand(n, 6) * 2 - 1
    y = torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + (0.3 + 0.3 * x[:, 0]) * torch.randn(n)
    x, y, xv, yv = split(x, ((y - y.mean()) / y.std())[:, None])

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        left = y - model(x)
        return torch.maximum(share * left, (share - 1) * left).mean()

    return Problem(dense([6, 56, 56, 1]), x, y, loss, xv, yv, batch)


class Tagger(nn.Module):
    """A label for each token, from both sides."""

    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(tokens, 12), nn.LSTM(12, 20, batch_first=True, bidirectional=True)
        self.head = nn.Linear(40, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


def brackets(batch: int = 36, length: int = 14) -> Problem:
    """How deep each place of a sequence of brackets lies, 0 to 4."""
    x = torch.randint(2, (1500, length))
    depth = (2 * x - 1).cumsum(1).abs().clamp(max=4)
    x, y, xv, yv = split(x, depth)
    return Problem(Tagger(2, 5), x, y, cross_entropy, xv, yv, batch, 5)


def denoiser(width: int = 10, batch: int = 50) -> Problem:
    """Digits from noisy ones, by convolutions alone."""
    clean, _ = digits()
    x, y, xv, yv = split(clean + 0.4 * torch.randn_like(clean), clean)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 1, 3, padding=1),
        nn.Flatten(),
    )

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(model(x), y)

    return Problem(model, x, y, loss, xv, yv, batch)


LATER_TASKS: tuple[Callable[..., Problem], ...] = (
    patches, separable, names, picture, triplets, distilled, mixer, quantiles, brackets, denoiser,
)  # fmt: skip
