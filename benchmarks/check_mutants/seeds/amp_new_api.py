import torch
from torch import nn

device = "cuda"


def run(model, data, n_epochs, lr):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
    sched = torch.optim.lr_scheduler.StepLR(opt, step_size=30, gamma=0.1)
    grad_scaler = torch.amp.GradScaler(device)
    loss_fn = nn.MSELoss()
    for ep in range(n_epochs):
        for x, y in data:
            with torch.autocast(device_type=device, dtype=torch.float16):
                pred = model(x.to(device))
                err = loss_fn(pred, y.to(device))
            grad_scaler.scale(err).backward()
            grad_scaler.step(opt)
            grad_scaler.update()
            opt.zero_grad(set_to_none=True)
        sched.step()
