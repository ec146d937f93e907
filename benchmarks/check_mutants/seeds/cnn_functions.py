"""A small image classifier, one function for training and one for evaluation."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision import datasets, transforms


class Net(nn.Module):
    def __init__(self, n_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc = nn.Linear(64, n_classes)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x)).mean((2, 3))
        return self.fc(x)


def train(net, loader, opt, device):
    net.train()
    losses = []
    for i, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        logits = net(images)
        loss = F.cross_entropy(logits, labels)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        opt.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def evaluate(net, loader, device):
    net.eval()
    hits = total = 0
    for images, labels in loader:
        pred = net(images.to(device)).argmax(dim=1).cpu()
        hits += (pred == labels).sum().item()
        total += labels.numel()
    return hits / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set = datasets.CIFAR10("data", train=True, transform=transforms.ToTensor())
    val_set = datasets.CIFAR10("data", train=False, transform=transforms.ToTensor())
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=128, shuffle=True, num_workers=4)
    val_loader = torch.utils.data.DataLoader(val_set, batch_size=256)

    net = Net().to(device)
    opt = SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    scheduler = CosineAnnealingLR(opt, T_max=args.epochs)
    for epoch in range(args.epochs):
        loss = train(net, train_loader, opt, device)
        accuracy = evaluate(net, val_loader, device)
        scheduler.step()
        print(f"{epoch}: {loss:.4f} {accuracy:.3f}")


if __name__ == "__main__":
    main()
