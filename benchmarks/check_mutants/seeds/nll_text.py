import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class LSTMTagger(nn.Module):

	def __init__(self, vocab, tags, dim=32):
		super(LSTMTagger, self).__init__()
		self.embed = nn.Embedding(vocab, dim)
		self.lstm = nn.LSTM(dim, dim)
		self.out = nn.Linear(dim, tags)

	def forward(self, sentence):
		hidden, _ = self.lstm(self.embed(sentence).view(len(sentence), 1, -1))
		scores = self.out(hidden.view(len(sentence), -1))
		return F.log_softmax(scores, dim=1)


def train(training_data, vocab, tags):
	model = LSTMTagger(vocab, tags)
	loss_function = nn.NLLLoss()
	optimizer = optim.SGD(model.parameters(), lr=0.1)
	for epoch in range(300):
		for sentence, labels in training_data:
			model.zero_grad()
			scores = model(sentence)
			loss = loss_function(scores, labels)
			loss.backward()
			optimizer.step()
	return model
