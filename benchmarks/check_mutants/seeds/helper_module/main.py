import torch
from engine import evaluate, train_one_epoch
from torch import nn

model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.RAdam(model.parameters(), lr=5e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
data = [(torch.randn(16, 20), torch.randint(0, 3, (16,))) for _ in range(50)]

for epoch in range(40):
    train_one_epoch(model, data, criterion, optimizer)
    scheduler.step()
    print(epoch, evaluate(model, data, criterion))
