import torch
from accelerate import Accelerator
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup


def main(train_set, eval_set, epochs=3, lr=2e-5):
    accelerator = Accelerator(mixed_precision="fp16", gradient_accumulation_steps=2)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=16)
    eval_loader = DataLoader(eval_set, batch_size=32)
    model = AutoModelForSequenceClassification.from_pretrained("bert-base-cased")
    optimizer = AdamW(params=model.parameters(), lr=lr)
    scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=100, num_training_steps=len(train_loader) * epochs)
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(model, optimizer, train_loader, eval_loader, scheduler)

    for epoch in range(epochs):
        model.train()
        for step, batch in enumerate(train_loader):
            with accelerator.accumulate(model):
                outputs = model(**batch)
                loss = outputs.loss
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()

        model.eval()
        hits = 0
        for batch in eval_loader:
            with torch.no_grad():
                outputs = model(**batch)
            hits += (outputs.logits.argmax(dim=-1) == batch["labels"]).sum().item()
        accelerator.print(epoch, hits)
