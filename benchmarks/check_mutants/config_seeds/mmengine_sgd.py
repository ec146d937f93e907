optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001, nesterov=True))
param_scheduler = dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, eta_min=1e-5)
train_cfg = dict(by_epoch=True, max_epochs=200)
randomness = dict(seed=0)
