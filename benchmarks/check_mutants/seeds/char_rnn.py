from __future__ import annotations

import torch
from torch import Tensor, nn, optim
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm


class CharRNN(nn.Module):
    def __init__(self, vocab: int, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out, h = self.gru(self.embedding(x), h)
        return self.head(out), h


def train(net: CharRNN, chunks: list[tuple[Tensor, Tensor]], epochs: int = 20, lr: float = 2e-3) -> list[float]:
    opt = optim.Adam(net.parameters(), lr=lr)
    criterion = nn.CrossEntropyLoss()
    curve: list[float] = []
    for _ in tqdm(range(epochs)):
        h = None
        for x, y in chunks:
            logits, h = net(x, h)
            h = h.detach()
            loss = criterion(logits.flatten(0, 1), y.flatten())
            opt.zero_grad()
            loss.backward()
            clip_grad_norm_(net.parameters(), 0.25)
            opt.step()
            curve.append(loss.item())
    return curve
