import torch
import torch.nn as nn


class Experiment:
    def __init__(self, cfg, model, loader):
        self.cfg = cfg
        self.model = model
        self.loader = loader
        self.loss_fn = nn.SmoothL1Loss()
        self.optim = torch.optim.Adam(self.model.parameters(), lr=cfg.lr)
        self.lr_scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optim, gamma=0.98)

    def forward_loss(self, batch):
        inputs, targets = batch
        return self.loss_fn(self.model(inputs), targets)

    def apply_update(self, loss):
        self.optim.zero_grad()
        loss.backward()
        if self.cfg.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
        self.optim.step()

    def run(self):
        for epoch in range(self.cfg.epochs):
            self.model.train()
            for batch in self.loader:
                loss = self.forward_loss(batch)
                self.apply_update(loss)
            self.lr_scheduler.step()
