import torch
from torch import nn
from torch.optim import AdamW


class Trainer:
    """Owns the model, the optimizer and the loop."""

    def __init__(self, model, train_loader, val_loader, epochs=30, lr=3e-4, max_norm=1.0):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.epochs = epochs
        self.max_norm = max_norm
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = AdamW(self.model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=epochs)

    def fit(self):
        for epoch in range(self.epochs):
            self.model.train()
            total = 0.0
            for batch, target in self.train_loader:
                self.optimizer.zero_grad()
                prediction = self.model(batch)
                loss = self.criterion(prediction, target)
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
                self.optimizer.step()
                total += loss.item()
            self.scheduler.step()
            print(epoch, total, self.validate())

    def validate(self):
        self.model.eval()
        total = 0.0
        with torch.inference_mode():
            for batch, target in self.val_loader:
                total += self.criterion(self.model(batch), target).item()
        return total / len(self.val_loader)
