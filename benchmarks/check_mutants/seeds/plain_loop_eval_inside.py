import torch, torch.nn as nn
from torch.utils.data import DataLoader
from data import TrainSet, ValSet
from net import Model

epochs = 60
train_loader = DataLoader(TrainSet(), batch_size=16, shuffle=True, drop_last=True)
val_loader = DataLoader(ValSet(), batch_size=16)
model = Model()
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=epochs)
criterion = nn.L1Loss()

for epoch in range(epochs):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        output = model(data)
        loss = criterion(output, target)
        optimizer.zero_grad(); loss.backward()
        optimizer.step()
        if batch_idx % 100 == 0:
            print('epoch', epoch, 'loss', loss.item())
    lr_scheduler.step()
    model.eval()
    val = 0
    with torch.no_grad():
        for data, target in val_loader:
            val += criterion(model(data), target).item()
    print('val', val / len(val_loader))
