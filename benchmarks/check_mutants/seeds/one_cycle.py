import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR


def fit(model: nn.Module, train_dl, valid_dl, epochs: int, max_lr: float):
    optimizer = torch.optim.SGD(model.parameters(), lr=max_lr / 25, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr, epochs=epochs, steps_per_epoch=len(train_dl))
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    history = []
    for epoch in range(epochs):
        model.train()
        for images, labels in train_dl:
            predictions = model(images)
            loss = loss_function(predictions, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            history.append(loss.item())
        model.eval()
        with torch.no_grad():
            accuracy = sum((model(x).argmax(1) == y).float().mean() for x, y in valid_dl) / len(valid_dl)
        print(f"epoch {epoch} accuracy {accuracy:.3f}")
    return history
