import pytorch_lightning as pl
import torch


class Regressor(pl.LightningModule):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.mse = torch.nn.MSELoss()

    def training_step(self, batch, batch_idx):
        inputs, values = batch
        predicted = self.backbone(inputs).squeeze(-1)
        error = self.mse(predicted, values)
        return error

    def validation_step(self, batch, batch_idx):
        inputs, values = batch
        self.log("val_loss", self.mse(self.backbone(inputs).squeeze(-1), values))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-4)
