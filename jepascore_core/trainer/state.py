"""What a training is asked for, what changes in it from step to step, and one step of it.

Every random draw of step n follows from the seed and n alone, so that a training that was stopped
and resumed takes the same steps as one that was not.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from jepascore_core.encoders.small import NETWORKS, build_small
from jepascore_core.errors import RunError
from jepascore_core.files import written_aside
from jepascore_core.trainer.augment import random_view
from jepascore_core.trainer.data import normalise, resize
from jepascore_core.trainer.objectives import OBJECTIVES

WARM_UP_SHARE = 0.05
LOCAL_AREA = 0.1  # least share of the image in a local view
_WHITENED = 2048  # images whose features are whitened before the first step


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides the trained weights.

    Attributes:
        objective: ``sigreg`` or ``vicreg``.
        dataset: Dataset id; ``demo:photos`` means its training crops, never the held-out third.
        steps: Optimiser steps.
        batch_size: Images a step; each is seen in two views of full size, and in the local ones.
        lr: Highest learning rate of AdamW, after warm-up, before the cosine.
        weight: Share of the anti-collapse term in the loss, 0 to 1.
        embedding_dim: D.
        input_size: Side of the encoder's input in px.
        limit: Most images taken from a dataset (all of them are held in memory).
        hold_out_every: n leaves out every n-th class by name, 0 none.
        network: ``convnet`` or ``vit``, see ``encoders.small.NETWORKS``.
        min_area: Least share of the image that a view shows.
        jitter: How far brightness, contrast and saturation of a view move, as a share.
        local_views: How many more views an image gets, of half the side, showing ``LOCAL_AREA`` to ``min_area`` of it.
        weight_decay: Of AdamW.
        whiten_head: End with the head that whitens the features' first D principal components over the training images;
            the trained one is dropped, as a projector is. Only the Vision Transformer has such a head.
        precision: ``float32`` or ``bfloat16``, of the products in the network; the objective is float32.
        seed: Seed of weights, batches, views and slices.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    objective: str = "sigreg"
    dataset: str = "demo:photos"
    steps: int = 1000
    batch_size: int = 128
    lr: float = 4e-3
    weight: float = 0.5
    embedding_dim: int = 16
    input_size: int = 48
    limit: int = 20_000
    hold_out_every: int = 0
    network: str = "convnet"
    min_area: float = 0.6
    jitter: float = 0.15
    local_views: int = 0
    weight_decay: float = 0.01
    whiten_head: bool = False
    precision: str = "float32"
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a training: scalars of the loss, learning rate, and seconds since the start."""

    step: int
    loss: float
    invariance: float
    regulariser: float
    lr: float
    elapsed_s: float


class Schedule(Protocol):
    """A training of known length and highest learning rate."""

    @property
    def lr(self) -> float:
        """Highest learning rate."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""


def learning_rate(config: Schedule, step: int) -> float:
    """Linear warm-up over the first 5 % of the steps, then half a cosine down to zero.

    Args:
        config: Holds the highest rate and the number of steps.
        step: 0-based.

    Returns:
        The rate of this step.
    """
    warm_up = max(1, round(WARM_UP_SHARE * config.steps))
    if step < warm_up:
        return config.lr * (step + 1) / warm_up
    return config.lr * (1 + math.cos(math.pi * (step - warm_up) / max(1, config.steps - warm_up))) / 2


class TrainingState:
    """What changes during a training, and what resuming needs."""

    def __init__(self, config: TrainConfig, data_digest: str, model: nn.Module) -> None:
        self.config = config
        self.data_digest = data_digest
        self.model = model
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.step = 0
        self.elapsed_s = 0.0
        self.history: list[StepRecord] = []

    @classmethod
    def start(cls, config: TrainConfig, images: Tensor, device: torch.device) -> "TrainingState":
        """Draw fresh weights from the seed, without touching the caller's random state.

        Args:
            config: What to train.
            images: (N, 3, S, S) uint8; their digest guards a checkpoint against other images.
            device: Where to train.

        Returns:
            The state before its first step.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = build_small(model_config(config), any_size=True)
        if config.network == "vit":
            whiten_head(model, images[evenly(len(images), _WHITENED)].cpu(), config.input_size)
        digest = hashlib.blake2b(images.cpu().numpy().tobytes(), digest_size=16).hexdigest()
        return cls(config, digest, model.to(device).train())

    def save(self, path: Path) -> None:
        """Write the state aside, then rename."""
        content = {
            "identity": self._identity(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "history": [asdict(record) for record in self.history],
        }
        with written_aside(path) as aside:
            torch.save(content, aside)

    def load(self, path: Path) -> None:
        """Take up a saved state.

        Args:
            path: What ``save`` wrote.

        Raises:
            RunError: It is damaged, or of other settings or images.
        """
        try:
            content = torch.load(path, weights_only=True, map_location=next(self.model.parameters()).device)
            if content["identity"] == self._identity():
                self._take(content)
                return
        except Exception as error:  # a damaged or hostile file fails in any way it likes
            raise RunError(f"{path} is damaged; remove it to begin the training anew.") from error
        raise RunError(f"{path} is of a training with other settings or images; remove it or choose another file.")

    def _take(self, content: dict[str, Any]) -> None:
        """Become what a file holds."""
        self.model.load_state_dict(content["model"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.step, self.elapsed_s = int(content["step"]), float(content["elapsed_s"])
        self.history = [StepRecord(**record) for record in content["history"]]
        if not 0 <= self.step <= self.config.steps:
            raise ValueError("It is not within the training.")

    def _identity(self) -> str:
        """Everything that decides the weights, as text; the device does not."""
        settings = {name: value for name, value in asdict(self.config).items() if name != "device"}
        return json.dumps({**settings, "data": self.data_digest}, sort_keys=True)


def whiten_head(model: Any, images: Tensor, input_size: int) -> None:
    """Make the head of a Vision Transformer the whitening of its features' first principal components.

    A head drawn at random would begin with nearly all images on one point, where SIGReg hardly has a gradient.

    Args:
        model: Changed in place; in training mode afterwards.
        images: (N, 3, S, S) uint8 on the model's device.
        input_size: Side of the encoder's input in px.
    """
    model.eval()
    with torch.no_grad():
        parts = [
            model.forward_head(model.forward_features(normalise(resize(part, input_size))), pre_logits=True)
            for part in images.split(256)
        ]
        features = torch.cat(parts).double()  # (N, d)
        mean = features.mean(dim=0)
        variances, directions = torch.linalg.eigh((features - mean).T.cov())
        count = len(model.head.bias)
        weight = directions[:, -count:].T / variances[-count:].clamp(min=1e-12).sqrt().unsqueeze(1)  # (D, d)
        model.head.weight.copy_(weight)
        model.head.bias.copy_(-weight @ mean)
    model.train()


def evenly(count: int, most: int) -> Tensor:
    """Positions of at most ``most`` of ``count`` images, evenly chosen."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def take_step(state: TrainingState, images: Tensor, elapsed_s: float) -> StepRecord:
    """Take one optimiser step, drawn from the seed and the number of the step alone.

    Args:
        state: Moved on by one step.
        images: (N, 3, S, S) uint8, on the model's device.
        elapsed_s: Seconds spent in the training before this step.

    Returns:
        The record, also appended to the state's history.

    Raises:
        RunError: The loss is no longer finite.
    """
    config, step = state.config, state.step
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    batch = torch.randperm(len(images), generator=generator)[: config.batch_size].to(images.device)
    pixels = images[batch].float() / 255
    size, least = config.input_size, config.min_area
    kinds = [(2, size, (least, 1.0)), (config.local_views, size // 2, (min(LOCAL_AREA, least), least))]
    embeddings = []
    for count, side, areas in kinds[: 2 if config.local_views else 1]:
        drawn = (random_view(pixels, side, generator, areas=areas, jitter=config.jitter) for _ in range(count))
        views = torch.cat([normalise(view) for view in drawn])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            embeddings.append(state.model(views).float().view(count, len(batch), -1))
    terms = OBJECTIVES[config.objective](torch.cat(embeddings), config.weight, generator)
    rate = learning_rate(config, step)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad(set_to_none=True)
    terms.loss.backward()
    state.optimiser.step()
    loss, invariance, regulariser = (float(term.detach()) for term in terms)
    if not math.isfinite(loss):
        raise RunError(f"The loss is no longer finite at step {step}; try a lower learning rate than {config.lr:g}.")
    state.step, state.elapsed_s = step + 1, elapsed_s
    record = StepRecord(step, loss, invariance, regulariser, rate, elapsed_s)
    state.history.append(record)
    return record


def model_config(config: TrainConfig) -> dict[str, Any]:
    """What ``build_small`` takes for a training's encoder."""
    network = NETWORKS[config.network]
    if config.network == "vit":
        network = {**network, "input_size": config.input_size}
    return {**network, "embedding_dim": config.embedding_dim}
