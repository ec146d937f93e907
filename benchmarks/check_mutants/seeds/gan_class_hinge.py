import torch
from torch import nn, optim


class HingeGAN:
    def __init__(self, generator, critic, dim, lr_g=1e-4, lr_c=4e-4):
        self.generator, self.critic, self.dim = generator, critic, dim
        self.gen_opt = optim.Adam(self.generator.parameters(), lr=lr_g, betas=(0.0, 0.9))
        self.critic_opt = optim.Adam(self.critic.parameters(), lr=lr_c, betas=(0.0, 0.9))

    def train(self, loader, steps):
        done = 0
        while done < steps:
            for real in loader:
                noise = torch.randn(len(real), self.dim)
                self.critic_opt.zero_grad()
                with torch.no_grad():
                    fake = self.generator(noise)
                critic_loss = nn.functional.relu(1 - self.critic(real)).mean() + nn.functional.relu(1 + self.critic(fake)).mean()
                critic_loss.backward()
                self.critic_opt.step()

                self.gen_opt.zero_grad()
                generator_loss = -self.critic(self.generator(noise)).mean()
                generator_loss.backward()
                self.gen_opt.step()
                done += 1
