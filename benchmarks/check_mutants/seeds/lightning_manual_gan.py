import pytorch_lightning as pl
import torch
import torch.nn.functional as F


class GAN(pl.LightningModule):
    def __init__(self, generator, discriminator, latent_dim=100):
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim

    def training_step(self, batch, batch_idx):
        images, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(images.shape[0], self.latent_dim, device=self.device)
        valid = torch.ones(images.size(0), 1, device=self.device)

        g_loss = F.binary_cross_entropy_with_logits(self.discriminator(self.generator(z)), valid)
        optimizer_g.zero_grad()
        self.manual_backward(g_loss)
        optimizer_g.step()

        real = F.binary_cross_entropy_with_logits(self.discriminator(images), valid)
        fake = F.binary_cross_entropy_with_logits(self.discriminator(self.generator(z).detach()), torch.zeros_like(valid))
        d_loss = (real + fake) / 2
        optimizer_d.zero_grad()
        self.manual_backward(d_loss)
        optimizer_d.step()

    def configure_optimizers(self):
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        return opt_g, opt_d
