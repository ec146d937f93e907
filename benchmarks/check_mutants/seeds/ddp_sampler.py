import os

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def main(dataset, build_model, epochs=90):
    dist.init_process_group("nccl")
    rank = int(os.environ["LOCAL_RANK"])
    model = DDP(build_model().cuda(rank), device_ids=[rank])
    train_sampler = DistributedSampler(dataset)
    train_loader = DataLoader(dataset, batch_size=32, sampler=train_sampler, num_workers=4)
    criterion = nn.CrossEntropyLoss().cuda(rank)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[30, 60, 80])
    for epoch in range(epochs):
        train_sampler.set_epoch(epoch)
        model.train()
        for images, target in train_loader:
            output = model(images.cuda(rank))
            loss = criterion(output, target.cuda(rank))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    dist.destroy_process_group()
