import torch
from torch import nn


def alternate(encoder, decoder, probe, loader, *, epochs=12):
    """Train an autoencoder, and a probe on its frozen codes."""
    ae_optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3)
    probe_optimizer = torch.optim.SGD(probe.parameters(), lr=0.05)
    mse, ce = nn.MSELoss(), nn.CrossEntropyLoss()
    for epoch in range(epochs):
        for x, y in loader:
            with torch.no_grad():
                code = encoder(x)
            restored = decoder(code)
            ae_loss = mse(restored, x)
            ae_optimizer.zero_grad()
            ae_loss.backward()
            ae_optimizer.step()

            guess = probe(code)
            probe_loss = ce(guess, y)
            probe_optimizer.zero_grad()
            probe_loss.backward()
            probe_optimizer.step()
