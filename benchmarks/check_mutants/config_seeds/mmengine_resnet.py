model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=50))
train_dataloader = dict(batch_size=64, sampler=dict(type='DefaultSampler', shuffle=True))
optim_wrapper = dict(
    optimizer=dict(
        type='AdamW',
        lr=5e-4,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5),
    dict(type='MultiStepLR', by_epoch=True, begin=5, end=100, milestones=[60, 90], gamma=0.1),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
randomness = dict(seed=0)
