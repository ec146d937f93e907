import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler, autocast


def train(model: nn.Module, loader, epochs: int = 10) -> None:
  criterion = nn.CrossEntropyLoss()
  optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
  scaler = GradScaler()
  for epoch in range(epochs):
    model.train()
    for inputs, targets in loader:
      inputs = inputs.cuda(non_blocking=True)
      targets = targets.cuda(non_blocking=True)
      optimizer.zero_grad()
      with autocast():
        outputs = model(inputs)
        loss = criterion(outputs, targets)
      scaler.scale(loss).backward()
      scaler.unscale_(optimizer)
      torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
      scaler.step(optimizer)
      scaler.update()
