# pretraining of a small GPT
out_dir = 'out-gpt2'
dataset = 'openwebtext'
gradient_accumulation_steps = 40
batch_size = 12
block_size = 1024
learning_rate = 6e-4
weight_decay = 1e-1
beta1 = 0.9
beta2 = 0.95
grad_clip = 1.0
warmup_iters = 2000
max_iters = 60000
lr_decay_iters = 60000
min_lr = 6e-5
dtype = 'bfloat16'
