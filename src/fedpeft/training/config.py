"""Settings of federated training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from fedpeft.config import ConfigModel
from fedpeft.data.recency import RecencyConfig
from fedpeft.errors import ConfigError
from fedpeft.protocol.uploads import UploadForm
from fedpeft.transforms import complete

Phase = Literal["warmup", "adapt"]
Event = Literal["warmup_end", "refresh"]


# Measured at .16 %, where a large eps gains a tenth of NDCG@10 and more with every backbone, and at
# 4.5 %, where it slows training down.
_SPARSE = 0.01

# An item decay of .05 gains .01 of NDCG@10 with 59 interactions an item and one of .5 .008 with 13;
# with 270 one of .002 loses .002.
_OFTEN = 100
_DECAY = 150.0
_MOST_DECAY = 0.5

# Where items have more interactions, a client's network may travel further before it knows its own
# by heart.  With 13, 59 and 270 an item 7, 20 to 30 and 60 to 100 rounds were best; 4 were too few.
# What counts is how often a client takes part: those rounds had a tenth of the clients each.
_HALVING = 3 / 4
_TENTH = 0.1


class OptimizerConfig(ConfigModel):
    """A first-order optimiser."""

    kind: Literal["sgd", "adam"] = "adam"
    """`sgd` (with `momentum`) or `adam` (Kingma and Ba 2015)."""
    lr: float = Field(0.01, gt=0)
    """Learning rate."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Heavy-ball momentum of `sgd`."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of Adam's second moment."""
    eps: float = Field(1e-8, gt=0)
    """Added to Adam's denominator."""

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return a fresh optimiser over `parameters`."""
        if self.kind == "sgd":
            return torch.optim.SGD(list(parameters), lr=self.lr, momentum=self.momentum)
        return torch.optim.Adam(
            list(parameters), lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True
        )


EncodingName = Literal["float32", "float16", "int8", "int4"]


class TrainingConfig(ConfigModel):
    """How a federated run trains."""

    rounds: int = Field(1000, ge=0, le=1_000_000)
    """Rounds in all, warm-up included."""
    cohort: float = Field(0.1, gt=0, le=1)
    """Share of all clients sampled for a round, without replacement (at least one client)."""
    warmup_rounds: int = Field(20, ge=0)
    """First rounds, in which the full table travels."""
    refresh_every: int = Field(50, ge=0)
    """M: every M rounds of the adapt phase the adapter is merged into the base; 0 never does."""
    recency: RecencyConfig = RecencyConfig()
    """How the age of an interaction weighs it in the client's loss."""
    local: Literal["solve", "gradient"] = "solve"
    """How a client fits its local parameters before the payload step: the exact ridge solution
    (least-squares loss and a backbone with a user vector), or gradient steps."""
    local_steps: int = Field(0, ge=0)
    """Full-batch gradient steps on the local parameters before the payload moves."""
    local_optimizer: OptimizerConfig = OptimizerConfig(lr=0.1)
    """Optimiser of the local parameters; starts fresh every round."""
    local_schedule: Literal["constant", "inverse"] = "constant"
    """Learning rate of `local_optimizer` over the rounds; `inverse` divides it by
    1 + round / local_halving.  A local network needs large steps until clients differ, and then
    small ones, or it learns its few items by heart."""
    local_halving: float | None = Field(None, gt=0)
    """Rounds after which `local_schedule = "inverse"` has halved the rate.  None: from the data
    and the cohort, 0.1 c^(3/4) / cohort, with c an item's mean number of train interactions, but at
    least one."""
    local_decay: float = Field(0.1, ge=0)
    """L2 penalty on local parameters: adds local_decay / 2 * ||p||^2 to a client's loss."""
    payload_steps: int = Field(1, ge=1)
    """Full-batch steps on the client's copy of the payload."""
    payload_optimizer: OptimizerConfig = OptimizerConfig(kind="sgd", lr=1.0)
    """Optimiser of the client's copy of the payload; starts fresh every round."""
    joint: bool = False
    """Whether the local parameters move along in the payload steps."""
    server_optimizer: OptimizerConfig = OptimizerConfig(lr=0.01)
    """Optimiser the server feeds the average update to, as a gradient (Reddi et al. 2021)."""
    warmup_optimizer: OptimizerConfig | None = None
    """The same in the warm-up, which has few rounds for a whole table: a table of the same keys as
    `server_optimizer`; none: that one."""
    sparse_eps: float = Field(3e-3, ge=0)
    """Least `eps` of the server's Adam on sparse data: those with a density (share of all user-item
    pairs in the train data) below 1 %.  Most items have few interactions there.  Adam would scale
    their small gradients up to whole steps, in which each item learns its few by heart; with a
    larger eps it moves in proportion to them and stays near the base (Reddi et al. 2021, tau).
    Pure compression has no base; its default is 0."""
    server_schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate of the server over the rounds; `cosine` falls to a tenth."""
    item_decay: float | None = Field(0.0, ge=0)
    """L2 penalty on item vectors, added by the server: item_decay * density / 2 * sum over items
    ||v||^2.  With a loss that sums over a client's items (`ials`) the density is an item's mean
    share in the clients' loss, so the penalty weighs as much as item_decay of its interactions;
    with one that takes their mean, as much as item_decay times the mean length of a history.
    None: from the data, 150 / c^2 but at most .5, with c an item's mean number of train
    interactions; 0 if c is 100 or more."""
    inference: Literal["fit", "stored", "personalise"] = "fit"
    """What a client scores with: local parameters fitted afresh to the payload it holds (a local
    computation), those stored when it last took part, or all it would have after taking part now:
    fitted local parameters and its own copy of the payload."""
    transforms: dict[str, Any] = Field(default_factory=dict)
    """What happens to each client's update before it is encoded, in this order: one table of
    settings per transform, by its registered name (``clip``, or one of another package)."""
    encoding: EncodingName = "float32"
    """How values cross the network.  With int8 and int4 a client rounds at random, so that the mean
    over clients is right in expectation; the server keeps what its broadcast lost for the next."""
    download_encoding: EncodingName | None = None
    """How values cross it from the server to the clients; None: as `encoding` says.  Rounding the
    one broadcast costs a simulation nothing; rounding every client's upload needs all of them."""

    upload: UploadForm = "dense"
    """How a client's change is laid out: `dense`; `rows`, those of touched items and their ids
    (losses with drawn negatives); or `rank_one`, a column and a row for each matrix (one step, a
    dot-product score).  The last two are shorter and tell the server more than a sum of uploads
    would: `rows` which items a client touched, `rank_one` its user vector up to length."""

    @property
    def broadcast_encoding(self) -> EncodingName:
        """The encoding of the download."""
        return self.download_encoding or self.encoding

    def server_optimizer_at(self, phase: Phase, density: float) -> OptimizerConfig:
        """Return the server's optimiser in a phase, for data of a density in [0, 1]."""
        own = (self.warmup_optimizer if phase == "warmup" else None) or self.server_optimizer
        eps = max(own.eps, self.sparse_eps) if density < _SPARSE else own.eps
        return own.model_copy(update={"eps": eps})

    def local_optimizer_at(self, round_number: int) -> OptimizerConfig:
        """Return the optimiser of the local parameters in a round."""
        own = self.local_optimizer
        if self.local_schedule == "constant":
            return own
        if self.local_halving is None:
            raise ConfigError(
                "training.local_halving is not set; give a number, or fit the settings to data"
            )
        return own.model_copy(update={"lr": own.lr / (1 + round_number / self.local_halving)})

    def resolved(self, density: float, clients: int) -> Self:
        """Return the settings with what is left open filled in.

        Parameters
        ----------
        density
            Share of all user-item pairs in the train data, in [0, 1].
        clients
            Number of clients; density times clients is an item's mean number of interactions.
        """
        if self.local_schedule == "constant" or self.local_halving is not None:
            return self
        met = density * clients
        halving = met**_HALVING * _TENTH / self.cohort
        return self.model_copy(update={"local_halving": max(1.0, halving)})

    def decay_at(self, density: float, clients: int) -> float:
        """Return the factor of half the squared item vectors in the server's loss.

        Where `item_decay` is None it grows as items are met less often: the vector of an item with
        few interactions is noise for a larger part.

        Parameters
        ----------
        density
            Share of all user-item pairs in the train data, in [0, 1].
        clients
            Number of clients; density times clients is an item's mean number of interactions.
        """
        if self.item_decay is not None:
            return self.item_decay * density
        met = density * clients
        return density * (min(_MOST_DECAY, _DECAY / met**2) if 0 < met < _OFTEN else 0.0)

    def event_at(self, round_number: int) -> Event | None:
        """Return what happens before a round: the end of the warm-up, a merge, or nothing."""
        since = round_number - self.warmup_rounds
        if self.warmup_rounds and since == 0:
            return "warmup_end"
        if self.refresh_every and since > 0 and since % self.refresh_every == 0:
            return "refresh"
        return None

    @field_validator("transforms")
    @classmethod
    def _known_transforms(cls, tables: dict[str, Any]) -> dict[str, Any]:
        return complete(tables)

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.local == "solve" and self.local_decay <= 0:
            raise ValueError("local = 'solve' needs local_decay > 0, got 0")
        if self.local == "solve" and self.local_steps:
            raise ValueError("local = 'solve' takes no local_steps; set local = 'gradient'")
        if self.warmup_rounds >= self.rounds and self.warmup_rounds:
            raise ValueError(
                f"warmup_rounds ({self.warmup_rounds}) must be below rounds ({self.rounds})"
            )
        return self
