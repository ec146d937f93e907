import torch

grad_accum = 8
model = torch.nn.Linear(512, 512)
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)


def micro_batch():
    x = torch.randn(4, 512)
    return x, x.roll(1, dims=0)


for step in range(10_000):
    optimizer.zero_grad()
    for micro in range(grad_accum):
        x, y = micro_batch()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss = loss / grad_accum
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
