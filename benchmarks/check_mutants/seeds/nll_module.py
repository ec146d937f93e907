import torch
from torch import nn

net = nn.Sequential(
    nn.Flatten(),
    nn.Linear(784, 128),
    nn.ReLU(),
    nn.Linear(128, 10),
    nn.LogSoftmax(dim=1),
)
nll = nn.NLLLoss()
sgd = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9)
decay = torch.optim.lr_scheduler.ExponentialLR(sgd, gamma=0.95)


def one_epoch(batches):
    total = 0
    for pictures, digits in batches:
        sgd.zero_grad()
        log_probs = net(pictures)
        cost = nll(log_probs, digits)
        cost.backward()
        sgd.step()
        total += cost.item()
    return total / len(batches)


def main(batches):
    for epoch in range(15):
        print(one_epoch(batches))
        decay.step()
