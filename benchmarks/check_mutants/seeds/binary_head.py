import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

frame = pd.read_csv("churn.csv")
features = torch.tensor(frame.drop(columns="churned").values, dtype=torch.float32)
labels = torch.tensor(frame["churned"].values, dtype=torch.float32).unsqueeze(1)
train_dl = DataLoader(TensorDataset(features, labels), batch_size=64, shuffle=True)

model = nn.Sequential(nn.Linear(features.shape[1], 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
opt = torch.optim.NAdam(model.parameters(), lr=2e-3)

best = float("inf")
for epoch in range(100):
    epoch_losses = []
    for xb, yb in train_dl:
        logit = model(xb)
        loss = F.binary_cross_entropy_with_logits(logit, yb)
        loss.backward()
        opt.step()
        opt.zero_grad()
        epoch_losses.append(loss.detach())
    mean = torch.stack(epoch_losses).mean().item()
    if mean < best:
        best = mean
        torch.save(model.state_dict(), "best.pt")
