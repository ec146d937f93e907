"""Short training scripts with one order of calls each, by what is to be found in them."""

# ruff: noqa: E501

HEAD = "import torch\nfrom torch import nn\nmodel = nn.Linear(1, 1)\nopt = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
GAN = (
    "import torch\nG, D = Generator(), Discriminator()\n"
    "opt_g = torch.optim.Adam(G.parameters())\nopt_d = torch.optim.Adam(D.parameters())\n"
)

#: No zero_grad clears what the step has used: name -> (script, line of the backward pass).
MISSING = {
    "one line": ("for x, y in dl: loss(m(x), y).backward(); opt.step()\n", 1),
    "only before the loop": (HEAD + "opt.zero_grad()\nfor x, y in dl:\n    loss(model(x), y).backward()\n    opt.step()\n", 7),
    "only in the loop over epochs": (
        HEAD + "for e in range(9):\n    opt.zero_grad()\n    for x in dl:\n        model(x).backward()\n        opt.step()\n",
        8,
    ),
    "the other optimizer": (
        GAN + "for x in dl:\n    opt_g.zero_grad()\n    d_loss = D(x)\n    d_loss.backward()\n    opt_d.step()\n",
        8,
    ),
    "the model of the other optimizer": (
        GAN + "for x in dl:\n    G.zero_grad()\n    d_loss = D(x)\n    d_loss.backward()\n    opt_d.step()\n",
        8,
    ),
    "self.optimizer": (
        "import torch\nclass T:\n    def __init__(self, m):\n        self.m = m\n        self.optimizer = torch.optim.SGD(m.parameters(), lr=1)\n"
        "    def fit(self):\n        for x in dl:\n            self.step(x)\n    def step(self, x):\n        self.m(x).backward()\n        self.optimizer.step()\n",
        10,
    ),
    "helper with the optimizer as parameter": (
        HEAD
        + "def train(net, optimizer):\n    for x in dl:\n        net(x).backward()\n        optimizer.step()\nfor e in range(3):\n    train(model, opt)\n",
        7,
    ),
    "parameter that nobody gives": (
        "def train(model, loader, optimizer):\n    for x in loader:\n        model(x).backward()\n        optimizer.step()\n",
        3,
    ),
    "GradScaler": (
        HEAD + "scaler = torch.cuda.amp.GradScaler()\nfor x in dl:\n    with torch.autocast('cuda'):\n        loss = model(x)\n"
        "    scaler.scale(loss).backward()\n    scaler.unscale_(opt)\n    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    scaler.step(opt)\n    scaler.update()\n",
        9,
    ),
    "accelerator": (
        "from accelerate import Accelerator\nimport torch\nacc = Accelerator()\nmodel = Net()\nopt = torch.optim.AdamW(model.parameters())\n"
        "model, opt, dl = acc.prepare(model, opt, dl)\nfor x in dl:\n    acc.backward(model(x))\n    opt.step()\n",
        8,
    ),
    "while": (HEAD + "i = 0\nwhile i < 9:\n    model(x).backward()\n    opt.step()\n    i += 1\n", 7),
    "try and finally": (
        HEAD + "for x in dl:\n    try:\n        model(x).backward()\n        opt.step()\n    finally:\n        log()\n",
        7,
    ),
    "accumulation that never clears": (
        HEAD + "for i, x in enumerate(dl):\n    model(x).backward()\n    if (i + 1) % 4 == 0:\n        opt.step()\n",
        6,
    ),
    "closure": (
        HEAD
        + "def main():\n    def one(x):\n        model(x).backward()\n        opt.step()\n    for x in dl:\n        one(x)\nmain()\n",
        7,
    ),
    "aliased": (HEAD + "o = opt\no.zero_grad()\nfor x in dl:\n    model(x).backward()\n    opt.step()\n", 8),
    "scheduler takes the optimizer": (
        HEAD
        + "sched = torch.optim.lr_scheduler.StepLR(opt, 10)\nfor x in dl:\n    model(x).backward()\n    opt.step()\n    sched.step()\n    save_checkpoint(model, opt)\n",
        7,
    ),
    "clears what no optimizer holds": (
        HEAD + "other = nn.Linear(1, 1)\nfor x in dl:\n    model(x).backward()\n    opt.step()\n",
        7,
    ),
}

#: The gradients are cleared before the step sees them: name -> (script, line of the zero_grad).
BETWEEN = {
    "plain": (HEAD + "for x in dl:\n    model(x).backward()\n    opt.zero_grad()\n    opt.step()\n", 7),
    "its model": (HEAD + "for x in dl:\n    model(x).backward()\n    model.zero_grad()\n    opt.step()\n", 7),
    "set_to_none, aliased": (
        HEAD + "o = opt\nfor x in dl:\n    model(x).backward()\n    o.zero_grad(set_to_none=True)\n    opt.step()\n",
        8,
    ),
    "step before backward": (HEAD + "for x in dl:\n    opt.zero_grad()\n    opt.step()\n    model(x).backward()\n", 6),
    "both under the accumulation": (
        HEAD
        + "for i, x in enumerate(dl):\n    model(x).backward()\n    if (i + 1) % 4 == 0:\n        opt.zero_grad()\n        opt.step()\n",
        8,
    ),
    "self.optimizer": (
        "class T:\n    def fit(self):\n        for x in dl:\n            self.loss(x).backward()\n            self.optimizer.zero_grad()\n            self.optimizer.step()\n"
        "    def loss(self, x):\n        return self.m(x)\n",
        5,
    ),
    "helper": (
        HEAD + "def update(o):\n    o.zero_grad()\n    o.step()\nfor x in dl:\n    model(x).backward()\n    update(opt)\n",
        6,
    ),
    "p.grad = None": (
        HEAD + "for x in dl:\n    model(x).backward()\n    for p in model.parameters():\n        p.grad = None\n    opt.step()\n",
        8,
    ),
}

#: Right, and provably so.
CLEARS = {
    "before": HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n",
    "at the end": HEAD + "for x in dl:\n    model(x).backward()\n    opt.step()\n    opt.zero_grad()\n",
    "set_to_none": HEAD + "for x in dl:\n    opt.zero_grad(set_to_none=True)\n    model(x).backward()\n    opt.step()\n",
    "model.zero_grad": HEAD + "for x in dl:\n    model.zero_grad()\n    model(x).backward()\n    opt.step()\n",
    "helper called in the loop": HEAD
    + "def reset():\n    opt.zero_grad()\nfor x in dl:\n    reset()\n    model(x).backward()\n    opt.step()\n",
    "p.grad = None over the parameters": HEAD
    + "for x in dl:\n    for p in model.parameters():\n        p.grad = None\n    model(x).backward()\n    opt.step()\n",
    "p.grad.zero_ where there is one": (
        HEAD
        + "for x in dl:\n    for p in model.parameters():\n        if p.grad is not None:\n            p.grad.zero_()\n    model(x).backward()\n    opt.step()\n"
    ),
    "param_groups": (
        HEAD
        + "for x in dl:\n    for g in opt.param_groups:\n        for p in g['params']:\n            p.grad = None\n    model(x).backward()\n    opt.step()\n"
    ),
    "accumulation": (
        HEAD
        + "opt.zero_grad()\nfor i, x in enumerate(dl):\n    (model(x) / 4).backward()\n    if (i + 1) % 4 == 0:\n        opt.step()\n        opt.zero_grad()\n"
    ),
    "micro-batches": HEAD
    + "for x in dl:\n    opt.zero_grad()\n    for part in x.chunk(4):\n        model(part).backward()\n    opt.step()\n",
    "GAN": (
        GAN + "for x in dl:\n    opt_d.zero_grad()\n    D(x).backward()\n    D(G(x).detach()).backward()\n    opt_d.step()\n"
        "    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n"
    ),
    "GradScaler": (
        HEAD
        + "scaler = torch.amp.GradScaler()\nfor x in dl:\n    opt.zero_grad()\n    scaler.scale(model(x)).backward()\n    scaler.step(opt)\n    scaler.update()\n"
    ),
    "with and without a scaler": (
        HEAD
        + "for x in dl:\n    opt.zero_grad()\n    if scaler is None:\n        model(x).backward()\n        opt.step()\n    else:\n"
        "        scaler.scale(model(x)).backward()\n        scaler.step(opt)\n"
    ),
    "skipped batches": HEAD
    + "for x in dl:\n    loss = model(x)\n    if torch.isnan(loss):\n        continue\n    opt.zero_grad()\n    loss.backward()\n    opt.step()\n",
    "closure given to step": (
        HEAD
        + "for x in dl:\n    def closure():\n        opt.zero_grad()\n        loss = model(x)\n        loss.backward()\n        return loss\n    opt.step(closure)\n"
    ),
    "returned by a helper": (
        "import torch\ndef build():\n    model = Net()\n    return model, torch.optim.SGD(model.parameters(), lr=1)\n"
        "model, optimizer = build()\nfor x in dl:\n    optimizer.zero_grad()\n    model(x).backward()\n    optimizer.step()\n"
    ),
    "list of optimizers": (
        GAN
        + "opts = [opt_g, opt_d]\nfor x in dl:\n    for o in opts:\n        o.zero_grad()\n    loss(x).backward()\n    for o in opts:\n        o.step()\n"
    ),
    "class wrapper that clears in its step": (
        "import torch\nclass Noam:\n    def __init__(self, o):\n        self.o = o\n    def step(self):\n        self.o.step()\n        self.o.zero_grad()\n"
        "model = Net()\nopt = Noam(torch.optim.Adam(model.parameters()))\nfor x in dl:\n    model(x).backward()\n    opt.step()\n"
    ),
    "optimizer chosen by a branch": (
        "import torch\nif adam:\n    opt = torch.optim.Adam(m.parameters())\nelse:\n    opt = torch.optim.SGD(m.parameters(), lr=1)\n"
        "for x in dl:\n    opt.zero_grad()\n    m(x).backward()\n    opt.step()\n"
    ),
    "attribute by a local name": "def f(self):\n  optimizer_G = self.optimizer_G\n  for x in dl:\n    self.optimizer_G.zero_grad()\n    l.backward()\n    optimizer_G.step()\n",
    "p.grad times zero": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        p.grad *= 0\n",
    "p.grad.mul_(0)": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        p.grad.mul_(0)\n",
    "p.grad.data.fill_(0)": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        p.grad.data.fill_(0)\n",
    "del p.grad": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        del p.grad\n",
    "contextmanager of the file": HEAD
    + "from contextlib import contextmanager\n@contextmanager\ndef c():\n    yield\n    opt.zero_grad()\nfor x in dl:\n  with c():\n    model(x).backward()\n    opt.step()\n",
    "training phase only": HEAD
    + "for phase in ['train','val']:\n  for x in dl[phase]:\n    opt.zero_grad()\n    with torch.set_grad_enabled(phase=='train'):\n      l=model(x)\n      if phase=='train':\n        l.backward()\n        opt.step()\n",
    "failed batches left out": HEAD
    + "for x in dl:\n  try:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n  except RuntimeError:\n    continue\n",
    "attribute of a state by a local name": "def train(state):\n  opt = state.optimizer\n  for x in dl:\n    state.optimizer.zero_grad()\n    l.backward()\n    opt.step()\n",
    "GAN, one function clears both": "import torch\ndef reset_grad():\n    optG.zero_grad();optD.zero_grad()\nG=Gen();D=Disc()\noptG=torch.optim.Adam(G.parameters());optD=torch.optim.Adam(D.parameters())\nfor x in dl:\n    reset_grad()\n    a.backward()\n    optD.step()\n    reset_grad()\n    c.backward()\n    optG.step()\n",
    "GAN, cleared by model": "import torch\nG=Gen();D=Disc()\noptG=torch.optim.Adam(G.parameters());optD=torch.optim.Adam(D.parameters())\nfor x in dl:\n    D.zero_grad()\n    a.backward()\n    b.backward()\n    optD.step()\n    G.zero_grad()\n    c.backward()\n    optG.step()\n",
    "apex": "from apex import amp\nimport torch\nopt=torch.optim.SGD(model.parameters(),lr=1)\nmodel,opt=amp.initialize(model,opt)\nfor x in dl:\n    with amp.scale_loss(l,opt) as s:\n        s.backward()\n    opt.step()\n    opt.zero_grad()\n",
}

#: Nothing may be said against these, though not all of them can be proven right.
SILENT = {
    "model of a parameter": "def train(model, optimizer, dl):\n    for x in dl:\n        model.zero_grad()\n        model(x).backward()\n        optimizer.step()\n",
    "p.grad = None over unknown parameters": HEAD
    + "for x in dl:\n    for p in ps:\n        p.grad = None\n    model(x).backward()\n    opt.step()\n",
    "one step, no loop": HEAD + "model(x).backward()\nopt.step()\n",
    "loop of one iteration": HEAD + "for x in dl:\n    model(x).backward()\n    opt.step()\n    break\n",
    "LBFGS": (
        "import torch\nopt = torch.optim.LBFGS(model.parameters())\nfor x in dl:\n    def closure():\n        opt.zero_grad()\n        loss = model(x)\n        loss.backward()\n        return loss\n    opt.step(closure)\n"
    ),
    "fused in backward": (
        HEAD
        + "def hook(p):\n    opts[p].step()\n    opts[p].zero_grad()\nfor p in model.parameters():\n    p.register_post_accumulate_grad_hook(hook)\n"
        "for x in dl:\n    model(x).backward()\n    opt.step()\n"
    ),
    "DeepSpeed": "import deepspeed\nengine, optimizer, _, _ = deepspeed.initialize(model=model)\nfor x in dl:\n    loss = engine(x)\n    engine.backward(loss)\n    engine.step()\n",
    "DeepSpeed engine of a parameter": "def train(model_engine, dl):\n    for x in dl:\n        loss = model_engine(x)\n        model_engine.backward(loss)\n        model_engine.step()\n",
    "Lightning": (
        "import pytorch_lightning as pl\nclass M(pl.LightningModule):\n    def training_step(self, batch, i):\n        for x in batch:\n            self.manual_backward(self(x))\n            self.optimizer.step()\n"
    ),
    "GAN, the other optimizer between": (
        GAN
        + "for x in dl:\n    opt_d.zero_grad()\n    d_loss = D(x)\n    d_loss.backward()\n    opt_g.zero_grad()\n    opt_d.step()\n    D(G(x)).backward()\n    opt_g.step()\n"
    ),
    "GAN, generator pass leaves gradients in D": (
        GAN
        + "for x in dl:\n    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n    opt_d.zero_grad()\n    D(x).backward()\n    opt_d.step()\n"
    ),
    "accumulation with one step after the loop": HEAD + "opt.zero_grad()\nfor x in dl:\n    model(x).backward()\nopt.step()\n",
    "accumulation, cleared at the head of the next window": (
        HEAD
        + "for i, x in enumerate(dl):\n    if i % 4 == 0:\n        opt.zero_grad()\n    model(x).backward()\n    if i % 4 == 3:\n        opt.step()\n"
    ),
    "imported helper with the optimizer": HEAD
    + "from mine import finish\nfor x in dl:\n    model(x).backward()\n    opt.step()\n    finish(opt)\n",
    "imported helper that clears": HEAD
    + "from mine import zero_gradients\nfor x in dl:\n    model(x).backward()\n    opt.step()\n    zero_gradients(model)\n",
    "gradients set by hand": HEAD
    + "for x in dl:\n    model(x).backward()\n    gs = average(model)\n    opt.zero_grad()\n    for p, g in zip(ps, gs):\n        p.grad = g\n    opt.step()\n",
    "optimizer and model of each fold": "import torch\nfor fold in folds:\n    m = Net()\n    opt = torch.optim.SGD(m.parameters(), lr=1)\n    m(fold).backward()\n    opt.step()\n",
    "another optimizer in each iteration": "for model, opt in zip(models, opts):\n    model(x).backward()\n    opt.step()\n",
    "step(zero_grad=True)": HEAD + "for x in dl:\n    model(x).backward()\n    opt.step(zero_grad=True)\n",
    "SAM": "opt = SAM(m.parameters(), torch.optim.SGD)\nfor x in dl:\n    m(x).backward()\n    opt.first_step(zero_grad=True)\n    m(x).backward()\n    opt.second_step(zero_grad=True)\n",
    "unknown wrapper": "opt = NoamOptimizer(model, 512)\nfor x in dl:\n    model(x).backward()\n    opt.step()\n",
    "two losses, two optimizers": "for x in dl:\n    a.backward()\n    opt.step()\n    opt.zero_grad()\n    b.backward()\n    opt2.step()\n    opt2.zero_grad()\n",
    "pipelined": HEAD
    + "for i, x in enumerate(dl):\n    if i > 0:\n        opt.step()\n        opt.zero_grad()\n    model(x).backward()\n",
    "profiler": HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n    prof.step()\n",
    "attack without an optimizer": "for i in range(9):\n    f(x + delta).backward()\n    delta.data += delta.grad.sign()\n    delta.grad.zero_()\n",
    "class of a library": "class T(Base):\n    def fit(self):\n        for x in dl:\n            self.m(x).backward()\n            self.optimizer.step()\n            self.after_step()\n",
    "cleared in a branch": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    if clear:\n        opt.zero_grad()\n",
    "cleared when it fails": HEAD
    + "for x in dl:\n    try:\n        model(x).backward()\n    except RuntimeError:\n        opt.zero_grad()\n        continue\n    opt.step()\n    opt.zero_grad()\n",
    "environment": "while True:\n    obs = env.step(a)\n    loss.backward()\n",
    "list comprehension clears": HEAD
    + "for x in dl:\n    [o.zero_grad() for o in [opt]]\n    model(x).backward()\n    opt.step()\n",
    "submodule": "import torch\nopt = torch.optim.SGD(m.head.parameters(), lr=1)\nfor x in dl:\n    m.zero_grad()\n    m(x).backward()\n    opt.step()\n",
    "alias of an attribute": "class T:\n    def fit(self, dl):\n        o = self.optimizer\n        for x in dl:\n            self.optimizer.zero_grad()\n            self.m(x).backward()\n            o.step()\n",
    "alias of an attribute of each agent": "for agent in agents:\n    opt = agent.optimizer\n    loss.backward()\n    opt.step()\n",
    "optimizer built anew at the end": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    model = Net()\n    opt = torch.optim.SGD(model.parameters(), lr=1)\n",
    "optimizer given anew in each iteration": "for x in dl:\n    opt = optimizer_of(x)\n    m(x).backward()\n    opt.step()\n",
    "zero_grad handed on": HEAD + "reset = opt.zero_grad\nfor x in dl:\n    model(x).backward()\n    opt.step()\n    reset()\n",
    "zero_grad by name": HEAD + "for x in dl:\n    model(x).backward()\n    opt.step()\n    getattr(opt, 'zero_grad')()\n",
    "generator that clears": HEAD
    + "def batches():\n    for x in dl:\n        opt.zero_grad()\n        yield x\nfor x in batches():\n    model(x).backward()\n    opt.step()\n",
    "context manager of the file": HEAD
    + "@contextmanager\ndef updating(o):\n    o.zero_grad()\n    yield\n    o.step()\nfor x in dl:\n    with updating(opt):\n        model(x).backward()\n",
    "context object of the file": HEAD
    + "class Updating:\n    def __init__(self, o):\n        self.o = o\n    def __enter__(self):\n        self.o.zero_grad()\n    def __exit__(self, *a):\n        pass\nup = Updating(opt)\nfor x in dl:\n    with up:\n        model(x).backward()\n    opt.step()\n",
    "object with __call__": HEAD
    + "class Loss:\n    def __init__(self, o):\n        self.o = o\n    def __call__(self, x):\n        x.backward()\n        self.o.step()\n        self.o.zero_grad()\ncompute = Loss(opt)\nfor x in dl:\n    compute(model(x))\n",
    "object with __call__ that only clears": HEAD
    + "class Reset:\n    def __init__(self, o):\n        self.o = o\n    def __call__(self):\n        self.o.zero_grad()\nreset = Reset(opt)\nfor x in dl:\n    model(x).backward()\n    opt.step()\n    reset()\n",
    "del p.grad": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        del p.grad\n",
    "setattr": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        setattr(p, 'grad', None)\n",
    "foreach": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    torch._foreach_zero_([p.grad for p in model.parameters()])\n",
    "times zero": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        p.grad *= 0\n",
    "slices of gradients": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        p.grad[:] = 0\n",
    "names for gradients": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for g in grads:\n        g.zero_()\n",
    "two parts of one optimizer": "import torch\nopt = torch.optim.SGD(list(a.parameters()) + list(b.parameters()), lr=1)\nfor x in dl:\n    a.zero_grad()\n    b.zero_grad()\n    f(x).backward()\n    opt.step()\n",
    "engine of trainer": "class Loop(Trainer):\n    def run(self):\n        for x in self.dl:\n            self.model(x).backward()\n            self.optimizer.step()\n",
    "optimizer by two names that may be one": "def f(self, optimizer):\n  for x in dl:\n    self.opt.zero_grad()\n    l.backward()\n    optimizer.step()\n",
    "optimizer by getattr": "def f(self):\n  o = getattr(self,'opt')\n  opt=o\n  for x in dl:\n    self.opt.zero_grad()\n    l.backward()\n    opt.step()\n",
    "two optimizers of one model": HEAD
    + "opt2 = torch.optim.SGD(model.parameters(), lr=1)\nfor x in dl:\n    opt2.zero_grad()\n    model(x).backward()\n    opt.step()\n",
    "two models that share a part": "import torch\nenc=Enc()\nG=Gen(enc)\nD=Disc(enc)\nog=torch.optim.Adam(G.parameters())\nod=torch.optim.Adam(D.parameters())\nfor x in dl:\n    og.zero_grad()\n    l.backward()\n    od.step()\n",
    "one step at the end of each epoch": HEAD
    + "for e in range(9):\n  opt.zero_grad()\n  for i,x in enumerate(dl):\n    model(x).backward()\n    if i == len(dl)-1:\n        opt.step()\n",
    "one step in the last iteration": HEAD
    + "for i,x in enumerate(dl):\n    model(x).backward()\n    if i == len(dl)-1:\n        opt.step()\n",
    "range(1)": HEAD + "for x in range(1):\n    model(x).backward()\n    opt.step()\n",
    "p.grad = zeros_like": HEAD
    + "for x in dl:\n    for p in model.parameters():\n        p.grad = torch.zeros_like(p)\n    model(x).backward()\n    opt.step()\n",
    "setattr grad": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n        setattr(p,'grad',None)\n",
    "_foreach_zero_": HEAD
    + "for x in dl:\n    model(x).backward()\n    opt.step()\n    torch._foreach_zero_([p.grad for p in model.parameters()])\n",
    "zero_grad by another name": HEAD
    + "zero = opt.zero_grad\nfor x in dl:\n    zero()\n    model(x).backward()\n    opt.step()\n",
    "zero_grad kept by an object": HEAD
    + "class T:\n  def __init__(self):\n    self.clear = opt.zero_grad\n  def fit(self):\n   for x in dl:\n    self.clear()\n    model(x).backward()\n    opt.step()\nT().fit()\n",
    "cleared by a context manager": HEAD
    + "class C:\n    def __enter__(self):\n        opt.zero_grad()\n    def __exit__(self,*a): pass\nfor x in dl:\n  with C():\n    model(x).backward()\n    opt.step()\n",
    "cleared by a decorator": HEAD
    + "def z(f):\n    def w(*a):\n        opt.zero_grad()\n        return f(*a)\n    return w\n@z\ndef tr(x):\n    model(x).backward()\n    opt.step()\nfor x in dl:\n    tr(x)\n",
    "cleared by a subclass": "class B:\n  def before(self): pass\n  def fit(self):\n    for x in self.dl:\n      self.before()\n      self.m(x).backward()\n      self.opt.step()\nclass S(B):\n  def before(self):\n    self.opt.zero_grad()\n",
    "cleared by the iterator": HEAD
    + "def batches():\n    for x in dl:\n        opt.zero_grad()\n        yield x\nfor x in batches():\n    model(x).backward()\n    opt.step()\n",
    "cleared by a callback": "class Z:\n  def before_batch(self, l):\n    l.opt.zero_grad()\nclass L:\n  def fit(self):\n    for x in self.dl:\n      for cb in self.cbs: cb.before_batch(self)\n      self.m(x).backward()\n      self.opt.step()\n",
    "cleared by a callback that is found by name": "class Z:\n  def before_batch(self, l):\n    l.opt.zero_grad()\nclass L:\n  def __call__(self,n):\n    for cb in self.cbs: getattr(cb,n)(self)\n  def fit(self):\n    for x in self.dl:\n      self('before_batch')\n      self.m(x).backward()\n      self.opt.step()\n",
    "dict of optimizers": "import torch\nopts={'g':torch.optim.Adam(G.parameters()),'d':torch.optim.Adam(D.parameters())}\nfor x in dl:\n  for o in opts.values(): o.zero_grad()\n  l.backward()\n  opts['g'].step()\n",
    "cleared through map": HEAD
    + "for x in dl:\n    list(map(lambda o: o.zero_grad(), [opt]))\n    model(x).backward()\n    opt.step()\n",
    "partial": HEAD
    + "from functools import partial\nz = partial(opt.zero_grad, set_to_none=True)\nfor x in dl:\n    z()\n    model(x).backward()\n    opt.step()\n",
    "zero_grad given to a function": HEAD
    + "def go(f):\n    f()\nfor x in dl:\n    go(opt.zero_grad)\n    model(x).backward()\n    opt.step()\n",
    "retried until it works": HEAD
    + "while not done:\n    try:\n        model(x).backward()\n        opt.step()\n        break\n    except RuntimeError:\n        pass\n",
    "hooks of a runner": "for x in dl:\n    runner.outputs['loss'].backward()\n    runner.optimizer.step()\n    runner.call_hook('after_train_iter')\n",
    "cleared as elements of a list": "def train(model, optimizers):\n  opt_g, opt_d = optimizers\n  for x in dl:\n    for o in optimizers: o.zero_grad()\n    l.backward()\n    opt_g.step()\n",
}
