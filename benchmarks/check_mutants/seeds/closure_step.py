import torch
from torch import nn, optim


def make_step(model, criterion, lr):
    """Return a function that makes one update."""
    optimizer = optim.Adam(model.parameters(), lr=lr, weight_decay=1e-4)

    def step(x, y):
        optimizer.zero_grad()
        scores = model(x)
        loss = criterion(scores, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(model, loader):
    update = make_step(model, nn.CrossEntropyLoss(), 3e-4)
    for epoch in range(10):
        model.train()
        for x, y in loader:
            value = update(x, y)
        print(epoch, value)
