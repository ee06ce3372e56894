"""Figure 2 of the paper, bottom: draw samples of a mixture with nothing but the gradient of JEPA-SCORE.

Run it with ``python -m examples.langevin [seed]``: it trains a small encoder in seconds and prints how far the samples
lie from held-out data (energy distance), beside a uniform box, the exact gradient, and the spread of pure chance.
"""

import sys

import torch

from jepascore_core.langevin import energy_test, langevin, uniform_in_box
from jepascore_core.score_gradient import score_and_gradient
from jepascore_core.theory.encoder import LabConfig
from jepascore_core.theory.training import LabTraining

training = LabTraining(LabConfig(seed=int(sys.argv[1]) if len(sys.argv) > 1 else 0))
for step in training.run():
    if step.eigenvalues:
        print(f"step {step.step:4d}  loss {step.loss:.3f}", file=sys.stderr)

data = training.held_out[:500]  # (N, 2)
box = data.amin(0) - 0.5, data.amax(0) + 0.5
start = uniform_in_box(500, box, torch.Generator().manual_seed(1))
gradients = {
    "the score's gradient": lambda x: score_and_gradient(training.encoder, x.float(), null_dim=1)[1],  # rank 2, D = 3
    "the exact gradient": training.mixture.gradient,
}
print(f"{'uniform box':22} {energy_test(start, data).distance:.4f}")
for name, gradient in gradients.items():
    path = langevin(gradient, start, box=box, keep_every=300, generator=torch.Generator().manual_seed(2))
    found = energy_test(path[-1], data)
    print(f"{name:22} {found.distance:.4f}")
print(f"{'chance, 95 %':22} {found.null_95:.4f}")
