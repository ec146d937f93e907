import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler


class Worker:
    def __init__(self, rank: int, world: int, model: torch.nn.Module, dataset):
        self.rank = rank
        self.model = DistributedDataParallel(model.to(rank), device_ids=[rank])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.sampler = DistributedSampler(dataset, num_replicas=world, rank=rank, shuffle=True)
        self.loader = DataLoader(dataset, batch_size=256, sampler=self.sampler, pin_memory=True)

    def train(self, epochs: int) -> None:
        for epoch in range(epochs):
            self.sampler.set_epoch(epoch)
            for source, targets in self.loader:
                source, targets = source.to(self.rank), targets.to(self.rank)
                self.optimizer.zero_grad()
                output = self.model(source)
                loss = F.cross_entropy(output, targets)
                loss.backward()
                self.optimizer.step()
            if self.rank == 0:
                torch.save(self.model.module.state_dict(), f"checkpoint-{epoch}.pt")
