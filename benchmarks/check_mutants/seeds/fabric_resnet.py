import torch
import torchvision
from lightning.fabric import Fabric
from torch.nn import functional as F


def main(epochs: int = 14, gamma: float = 0.7) -> None:
    fabric = Fabric(accelerator="auto", devices=1, precision="16-mixed")
    fabric.launch()
    fabric.seed_everything(1)
    train_set = torchvision.datasets.MNIST("data", train=True, transform=torchvision.transforms.ToTensor())
    train_loader = fabric.setup_dataloaders(torch.utils.data.DataLoader(train_set, batch_size=64, shuffle=True))
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    model, optimizer = fabric.setup(model, optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=gamma)
    for epoch in range(epochs):
        model.train()
        for data, target in train_loader:
            optimizer.zero_grad()
            output = model(data)
            loss = F.cross_entropy(output, target)
            fabric.backward(loss)
            optimizer.step()
        scheduler.step()


if __name__ == "__main__":
    main()
