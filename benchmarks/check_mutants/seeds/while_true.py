import itertools

import torch
import torch.nn.functional as F

from model import LanguageModel
from data import get_batch

max_steps = 5000
eval_interval = 250

model = LanguageModel(vocab=65)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8)

step = 0
while True:
    if step % eval_interval == 0:
        model.eval()
        with torch.no_grad():
            losses = []
            for _ in range(50):
                xb, yb = get_batch("val")
                losses.append(F.cross_entropy(model(xb), yb).item())
        print(step, sum(losses) / len(losses))
        model.train()
    xb, yb = get_batch("train")
    logits = model(xb)
    loss = F.cross_entropy(logits, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    step += 1
    if step >= max_steps:
        break
