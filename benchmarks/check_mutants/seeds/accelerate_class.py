import torch
from accelerate import Accelerator


class Finetuner:
    def __init__(self, model, dataset):
        self.accelerator = Accelerator(mixed_precision="bf16")
        loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
        opt = torch.optim.Adam(model.parameters(), lr=1e-4)
        self.model, self.opt, self.loader = self.accelerator.prepare(model, opt, loader)

    def run(self, max_steps):
        step = 0
        for epoch in range(100):
            for images, targets in self.loader:
                self.opt.zero_grad()
                predicted = self.model(images)
                loss = torch.nn.functional.mse_loss(predicted, targets)
                self.accelerator.backward(loss)
                self.opt.step()
                step += 1
                if step == max_steps:
                    return
