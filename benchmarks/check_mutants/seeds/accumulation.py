import torch
from torch import nn


def train_epoch(model, loader, optimizer, criterion, accumulation_steps=4):
    model.train()
    optimizer.zero_grad()
    running = 0.0
    for i, (x, y) in enumerate(loader):
        output = model(x)
        loss = criterion(output, y)
        loss = loss / accumulation_steps
        loss.backward()
        running += loss.item() * accumulation_steps
        if (i + 1) % accumulation_steps == 0 or (i + 1) == len(loader):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return running / len(loader)


def main(model, loader, epochs=5):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        print(train_epoch(model, loader, optimizer, criterion))
