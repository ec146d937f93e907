import torch
import torch.nn as nn
from torch.optim import Adam


class Siamese(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(2 * width, 1)

    def forward(self, a, b):
        both = torch.cat([self.trunk(a), self.trunk(b)], dim=1)
        return torch.sigmoid(self.head(both))


def learn(pairs, n_epochs=14):
    network = Siamese()
    adam = Adam(network.parameters(), 1e-3)
    bce = nn.BCELoss()
    for epoch in range(n_epochs):
        network.train()
        for a, b, same in pairs:
            adam.zero_grad()
            closeness = network(a, b).squeeze()
            objective = bce(closeness, same)
            objective.backward()
            adam.step()
