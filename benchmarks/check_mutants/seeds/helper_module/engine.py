import torch


def train_one_epoch(model, data, criterion, optimizer):
    model.train()
    for samples, targets in data:
        outputs = model(samples)
        loss = criterion(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def evaluate(model, data, criterion):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for samples, targets in data:
            total += criterion(model(samples), targets).item()
    return total / len(data)
