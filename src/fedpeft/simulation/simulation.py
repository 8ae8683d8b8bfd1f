"""A federated run on one machine: rounds over a population of simulated clients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedpeft.adapters import AdapterConfig, ItemEmbedding
from fedpeft.backbones import Backbone
from fedpeft.data.dataset import Histories, Split
from fedpeft.errors import ConfigError, RunError
from fedpeft.graph.expansion import expansion_of
from fedpeft.graph.pseudo import mask_of
from fedpeft.losses import Loss
from fedpeft.protocol.encodings import CODECS, Encoding
from fedpeft.protocol.traffic import Entry, Ledger
from fedpeft.seeding import torch_rng
from fedpeft.server.server import Codes, Server
from fedpeft.simulation.backend import Backend, choose, run_round
from fedpeft.simulation.cohort import CohortSampler
from fedpeft.simulation.inference import Inference
from fedpeft.simulation.problem import LocalProblem
from fedpeft.tensors import Tensors
from fedpeft.training.config import TrainingConfig
from fedpeft.transforms import TransformContext, UpdateTransform
from fedpeft.transforms import build as build_transforms


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run executes; nothing here changes what it computes.

    Attributes
    ----------
    device
        `auto` is CUDA when there, the CPU otherwise.
    backend
        `auto` takes the fastest backend the settings allow.
    """

    seed: int = 0
    device: str = "auto"
    backend: Backend | Literal["auto"] = "auto"

    def torch_device(self) -> torch.device:
        """Return the device; raises `ConfigError` when it is unknown or absent."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
            usable = device.type in ("cpu", "cuda")
        except (RuntimeError, AssertionError):
            usable = False
        if not usable:
            raise ConfigError(f"device {self.device!r} is not here; use auto, cpu or cuda")
        return device


@dataclass(frozen=True)
class RoundResult:
    """What one round did."""

    entry: Entry
    loss: float


class Simulation:
    """Simulates a population of clients and their server.

    Parameters
    ----------
    split
        Leave-one-out split; only its train part is used.
    base
        float32 (n, k): the pretrained base embedding.
    make_backbone
        Builds the one-client module around an item embedding.
    loss
        The one-client loss.
    kind, adapter
        The adapter's registered name and settings.
    semantic_codes
        Codes from item text, for adapters that want them.

    Examples
    --------
    >>> simulation = Simulation(...)                                        # doctest: +SKIP
    >>> for _ in range(100): simulation.step()                              # doctest: +SKIP
    """

    def __init__(
        self,
        split: Split,
        base: Tensor,
        make_backbone: Callable[[ItemEmbedding], Backbone],
        loss: Loss,
        kind: str,
        adapter: AdapterConfig,
        training: TrainingConfig,
        options: RunOptions,
        *,
        semantic_codes: Codes | None = None,
        base_bytes: int | None = None,
    ) -> None:
        device = options.torch_device()
        training = training.resolved(split.density, split.n_users)
        self.training, self.options = training, options
        self.ledger = Ledger(split.n_users)
        self.server = Server(
            make_backbone,
            kind,
            adapter,
            base,
            training,
            self.ledger,
            density=split.density,
            seed=options.seed,
            semantic_codes=semantic_codes,
            base_bytes=base_bytes,
        )
        self.server.backbone.to(device)
        self.problem = LocalProblem(self.server.backbone, loss, training)
        codec = CODECS[training.encoding]()
        self.expansion = expansion_of(self.server.backbone, loss, split, options.seed)
        self.mask = mask_of(self.expansion, self.server.item)
        configured = build_transforms(
            training.transforms, TransformContext(split.n_users, options.seed)
        )
        encoding = None if codec.lossless else Encoding(codec, split.n_users, options.seed)
        parts: list[UpdateTransform | None] = [self.mask, *configured, encoding]
        self.transforms = [part for part in parts if part is not None]
        self.backend: Backend = choose(options.backend, training, self.transforms)
        self.local: Tensors = {
            name: tensor.to(device)
            for name, tensor in self.server.backbone.initial_local(
                split.n_users, torch_rng(options.seed, "local")
            ).items()
        }
        self.local |= {  # nobody has any of it yet
            name: torch.zeros(split.n_users, *self.server.backbone.get_buffer(name).shape).to(
                device
            )
            for name in self.server.backbone.kept
        }
        self.sampler = CohortSampler(
            split.train,
            split.n_items,
            share=training.cohort,
            negatives=loss.negatives,
            recency=training.recency,
            seed=options.seed,
        )
        self.sampler.check()
        self.round = 0

    def step(self) -> RoundResult:
        """Run the next round.

        Raises
        ------
        RunError
            If the loss is not finite any more.
        """
        event = self.server.begin(self.round)
        spent = self._expand()
        for transform in self.transforms:
            transform.begin(self.round, self.server.item)
        self.problem.begin(self.round)
        cohort = self.sampler.draw(self.round)
        with self.server.as_received():
            update = run_round(self.backend, self.problem, self.local, cohort, self.transforms)
        if not math.isfinite(update.loss):
            raise RunError(
                f"the training loss became {update.loss} in round {self.round}; lower the learning "
                "rates (training.server_optimizer.lr, training.local_optimizer.lr)"
            )
        self.server.apply(update, self.round)
        entry = self.ledger.charge(
            self.round,
            self.server.phase,
            cohort.users,
            self.server.prices,
            event,
            expansion=spent,
        )
        self.round += 1
        return RoundResult(entry, update.loss)

    def _expand(self) -> int:
        """Renew the clients' neighbours if it is time to; return the bytes it took."""
        if self.expansion is None or self.round == 0 or self.round % self.expansion.config.every:
            return 0
        name = self.server.backbone.user_vector
        assert name is not None  # every backbone that expands has one
        self.local["neighbours"], spent = self.expansion.run(self.local[name], self.round)
        return spent

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """Return the item vectors clients hold, float32 (n, k)."""
        with self.server.as_received(final=True):
            return self.server.item.merge()

    def scorer(self, histories: Histories) -> Inference:
        """Return a function from user indices, int64 (b,), to scores of all items, float (b, n).

        Users score as their own device would: with the payload as received now, and what
        `training.inference` makes of it.

        Parameters
        ----------
        histories
            What each device knows when it scores; see `Split.before`.
        """
        sampler = CohortSampler(
            histories,
            self.server.item.num_embeddings,
            share=1.0,
            negatives=self.problem.loss.negatives,
            recency=self.training.recency,
            seed=self.options.seed,
        )
        with self.server.as_received(final=True), torch.inference_mode(False):
            received = copy.deepcopy(self.server.backbone)
        problem = LocalProblem(received, self.problem.loss, self.training)
        problem.begin(self.round)
        return Inference(problem, self.local, sampler)
