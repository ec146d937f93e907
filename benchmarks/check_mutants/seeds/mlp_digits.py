import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

X = torch.randn(1000, 64)
Y = torch.randint(0, 10, (1000,))
train_loader = DataLoader(TensorDataset(X, Y), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(X[:100], Y[:100]), batch_size=100)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(20):
    model.train()
    running = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
        running += loss.item()

    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in test_loader:
            correct += (model(x).argmax(1) == y).sum().item()
    print(epoch, running / len(train_loader), correct / 100)
