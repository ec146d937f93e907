import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nets import UNet


def dice(logits, masks):
    probabilities = torch.sigmoid(logits)
    return 2 * (probabilities * masks).sum() / (probabilities + masks).sum()


def train_model(train_loader, val_loader, epochs=50, device="cuda"):
    model = UNet(3, 1).to(device)
    optimizer = optim.RMSprop(model.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.9)
    scheduler = ReduceLROnPlateau(optimizer, "max", patience=5)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(1, epochs + 1):
        model.train()
        epoch_loss = 0
        for images, masks in train_loader:
            images, masks = images.to(device), masks.to(device)
            logits = model(images)
            loss = criterion(logits, masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch_loss += loss.item()
        model.eval()
        score = 0
        with torch.no_grad():
            for images, masks in val_loader:
                score += dice(model(images.to(device)), masks.to(device)).item()
        scheduler.step(score / len(val_loader))
        print(epoch, epoch_loss, score)
