import random
from collections import deque

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import nn, optim


def net(observations, actions):
    return nn.Sequential(nn.Linear(observations, 128), nn.ReLU(), nn.Linear(128, actions))


env = gym.make("CartPole-v1")
q_network, target_network = net(4, 2), net(4, 2)
target_network.load_state_dict(q_network.state_dict())
optimizer = optim.Adam(q_network.parameters(), lr=2.5e-4)
memory = deque(maxlen=10_000)

obs, _ = env.reset()
for global_step in range(500_000):
    if random.random() < 0.1:
        action = env.action_space.sample()
    else:
        action = q_network(torch.tensor(obs)).argmax().item()
    next_obs, reward, done, _, _ = env.step(action)
    memory.append((obs, action, reward, next_obs, done))
    obs = next_obs if not done else env.reset()[0]
    if global_step > 1000 and global_step % 10 == 0:
        s, a, r, s2, d = map(torch.tensor, zip(*random.sample(memory, 128)))
        with torch.no_grad():
            target = r + 0.99 * target_network(s2).max(dim=1).values * (1 - d.float())
        value = q_network(s).gather(1, a.unsqueeze(1)).squeeze()
        loss = F.mse_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if global_step % 500 == 0:
        target_network.load_state_dict(q_network.state_dict())
