"""A run that is killed and resumed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import probflow

SCRIPT = textwrap.dedent(
    """
    import functools, os, signal, sys
    import torch
    from torch import nn
    import probflow.models
    from probflow.data import Batches
    from probflow.distributions import Bernoulli, Normal
    from probflow.losses import E, KL, log
    from probflow.models import Model

    checkpoint, result, kill = sys.argv[1], sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.3))
            self.loc, self.scale = nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, x):
            h = self.trunk(x)
            return {"loc": self.loc(h), "scale": nn.functional.softplus(self.scale(h))}

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 20))

        def forward(self, z):
            return {"logits": self.net(z)}

    class Binarised:
        '''Grey values as coins, thrown anew whenever they are read, with torch's global generator.'''

        def __init__(self, batches):
            self.batches = batches

        def __len__(self):
            return len(self.batches)

        def __iter__(self):
            for step, batch in enumerate(self.batches):
                if kill == "step" and model.epoch == 3 and step == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield {"x": torch.bernoulli(batch["x"])}

    def sampling(model, epoch, logs):
        '''Draws, as a callback that shows samples would.'''
        torch.rand(7)
        if kill == "callback" and epoch == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    q, p = Normal("q(z | x)", Encoder()), Bernoulli("p(x | z)", Decoder())
    weight = nn.Parameter(torch.tensor(1.0))
    prior = Normal("p(z)", loc=0.0, scale=1.0, features_shape=3)
    loss = (weight * KL(q, prior) - E(q)[log(p)]).mean()
    model = Model(loss, optimizer_params={"lr": 0.01}, clip_grad_norm=5.0,
                  scheduler=functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.8))
    grey = torch.rand(50, 20, generator=torch.Generator().manual_seed(4))
    data = Binarised(Batches({"x": grey}, batch_size=16, seed=9))
    model.fit(data, 6, validation=Binarised(Batches({"x": grey[:20]}, 16)), callbacks=[sampling], checkpoint=checkpoint,
              resume=True, progress=False)
    history = {name: numbers for name, numbers in model.history.items() if name != "seconds"}
    torch.save({"weights": [t for part in (q, p) for t in part.state_dict().values()] + [weight.detach()],
                "optimizer": model.optimizer.state_dict(), "scheduler": model.scheduler.state_dict(), "history": history,
                "epoch": model.epoch, "next": torch.rand(3)}, result)
    """
)


def run(script, folder, name, kill):
    """Starts the script; its checkpoint and its result are in `folder` under `name`."""
    arguments = [str(folder / f"{name}.pt"), str(folder / f"{name}.result"), kill]
    tested = Path(probflow.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tested), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, str(script), *arguments], stderr=subprocess.PIPE, text=True, env=environment)


def assert_identical(a, b):
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            assert_identical(one, two)
    else:
        assert a == b


@pytest.mark.parametrize("kill", ["step", "callback"])
def test_killed_and_resumed_is_bit_identical_to_uninterrupted(tmp_path, kill):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    straight, killed = run(script, tmp_path, "straight", "never"), run(script, tmp_path, "killed", kill)
    assert straight.wait(120) == 0, straight.stderr.read()
    assert killed.wait(120) == -signal.SIGKILL, killed.stderr.read()
    assert torch.load(tmp_path / "killed.pt", weights_only=True)["epoch"] == 3
    assert not (tmp_path / "killed.result").exists()
    resumed = run(script, tmp_path, "killed", "never")
    assert resumed.wait(120) == 0, resumed.stderr.read()
    a, b = (torch.load(tmp_path / f"{name}.result", weights_only=True) for name in ("straight", "killed"))
    assert a["epoch"] == 6 and len(a["history"]["loss"]) == len(a["history"]["test_loss"]) == 6
    assert len(set(a["history"]["loss"])) == 6
    assert_identical(a, b)
