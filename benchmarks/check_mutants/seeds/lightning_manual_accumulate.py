import lightning.pytorch as pl
import torch
from torch import nn


class Encoder(pl.LightningModule):
    def __init__(self, width=256):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def training_step(self, batch, batch_idx):
        opt = self.optimizers()
        loss = nn.functional.mse_loss(self.net(batch), batch)
        self.manual_backward(loss / 4)
        if (batch_idx + 1) % 4 == 0:
            opt.step()
            opt.zero_grad()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)
