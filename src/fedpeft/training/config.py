"""Settings of federated training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from fedpeft.config import ConfigModel
from fedpeft.data.recency import RecencyConfig
from fedpeft.data.statistics import DataStatistics
from fedpeft.errors import ConfigError
from fedpeft.protocol.layout import UploadForm
from fedpeft.training import derive
from fedpeft.training.acting import ACTING
from fedpeft.training.optimizer import OptimizerConfig, ServerOptimizerConfig
from fedpeft.transforms import complete

Phase = Literal["warmup", "adapt"]
Event = Literal["warmup_end", "refresh"]


EncodingName = Literal["float32", "float16", "int8", "int4"]


class TrainingConfig(ConfigModel):
    """How a federated run trains."""

    acting: ClassVar = ACTING

    rounds: int = Field(1000, ge=0, le=1_000_000)
    """Rounds in all, warm-up included."""
    cohort: float = Field(0.1, gt=0, le=1)
    """Share of all clients sampled for a round, without replacement (at least one client)."""
    warmup_rounds: int = Field(0, ge=0)
    """First rounds, in which the full table travels."""
    refresh_every: int = Field(0, ge=0)
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
    frequency_decay: float | Literal["auto"] = 0.0
    """lambda: L2 penalty on each vector in proportion to the weights of the loss that it takes part
    in (Rendle et al. 2022, with nu = 1): a user's to its interactions, an item's to those it is in,
    and both to `loss.unobserved_weight` times the other side's size.  Nobody has to know a count:
    each client adds what its own items cost.  For losses that sum over items.  `auto`: 1 / (4 l),
    with l the mean number of train interactions of a client."""
    payload_steps: int = Field(1, ge=1)
    """Full-batch steps on the client's copy of the payload."""
    payload_optimizer: OptimizerConfig = OptimizerConfig(kind="sgd", lr=1.0)
    """Optimiser of the client's copy of the payload; starts fresh every round."""
    joint: bool = False
    """Whether the local parameters move along in the payload steps."""
    server_optimizer: ServerOptimizerConfig = ServerOptimizerConfig(lr=0.01)
    """Optimiser the server feeds the average update to, as a gradient (Reddi et al. 2021)."""
    warmup_optimizer: ServerOptimizerConfig | None = None
    """The same in the warm-up, which has few rounds for a whole table: a table of the same keys as
    `server_optimizer`; none: that one."""
    sparse_eps: float = Field(0.0, ge=0)
    """Eps of the server's Adam on sparse data, where an optimiser sets no `eps` itself.  It holds
    up to a density (share of all user-item pairs in the train data) of 0.2 %, falls linearly, and
    is 1e-8 from 1 % on.  Most items have few interactions on sparse data.  Adam would scale their
    small gradients up to whole steps, in which each item learns its few by heart.  With a larger
    eps it moves in proportion to them and stays near the base (Reddi et al. 2021, tau)."""
    server_schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate of the server over the rounds; `cosine` falls to a tenth."""
    item_decay: float | None = Field(None, ge=0)
    """L2 penalty on item vectors, added by the server: item_decay / 2 * sum over items ||v||^2.
    None: `relative_item_decay` times the density of the train data."""
    relative_item_decay: float | Literal["auto"] = 0.0
    """Item decay as a multiple of the density.  With a loss that sums over a client's items
    (`ials`) the density is an item's mean share in the clients' loss, so the penalty weighs as much
    as relative_item_decay of its interactions.  With a loss that takes their mean, it weighs as
    much as relative_item_decay times the mean length of a history.  `auto`: 150 / c^2, at most 0.5,
    with c the mean number of train interactions of an item; from c = 60 on it falls to 0 at
    c = 100."""
    inference: Literal["fit", "stored", "personalise"] = "fit"
    """What a client scores with: local parameters fitted afresh to the payload it holds (a local
    computation), those stored when it last took part, or all it would have after taking part now:
    fitted local parameters and its own copy of the payload.  `fit` needs local steps or a solve."""
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
    (losses with drawn negatives); `rank_one`, a column and a row for each matrix (one step, a
    dot-product score); or `actions`, a few rows and which of them each item gets, which loses
    something.  All but `dense` are shorter and tell the server more than a sum of uploads would:
    `rows` and `actions` which items a client touched, `rank_one` its user vector up to length and,
    with `server_optimizer.kind = "newton"`, its history."""
    actions: int = Field(16, ge=2, le=1024)
    """K: the actions of `upload = "actions"`, that which leaves an item as it is among them."""

    @property
    def broadcast_encoding(self) -> EncodingName:
        """The encoding of the download."""
        return self.download_encoding or self.encoding

    @property
    def fits_local(self) -> bool:
        """Whether a client fits its local parameters before the payload moves."""
        return self.local == "solve" or self.local_steps > 0

    def server_optimizer_at(self, phase: Phase) -> ServerOptimizerConfig:
        """Return the server's optimiser in a phase.

        Raises
        ------
        ConfigError
            If the settings were not resolved with data.
        """
        own = (self.warmup_optimizer if phase == "warmup" else None) or self.server_optimizer
        if self.item_decay is None or own.open:
            raise ConfigError(
                "training.item_decay or a value of the server's optimiser is not set; give a "
                "number, or resolve the settings with data"
            )
        return own

    def local_optimizer_at(self, round_number: int) -> OptimizerConfig:
        """Return the optimiser of the local parameters in a round.

        Raises
        ------
        ConfigError
            If its rate falls and the settings were not resolved with data.
        """
        own = self.local_optimizer
        if self.local_schedule == "constant":
            return own
        if self.local_halving is None:
            raise ConfigError(
                "training.local_halving is not set; give a number, or resolve the settings with "
                "data"
            )
        return own.model_copy(update={"lr": own.lr / (1 + round_number / self.local_halving)})

    def resolved(self, statistics: DataStatistics) -> Self:
        """Return the settings with every value that depends on the data as a number.

        What the numbers came from has its default afterwards, so resolving again changes nothing.
        Weights by age come from elsewhere, since they depend on more than sizes.
        """
        update: dict[str, Any] = {"sparse_eps": 0.0, "relative_item_decay": 0.0}
        if self.frequency_decay == "auto":
            update["frequency_decay"] = statistics.frequency_decay
        if self.item_decay is None:
            relative = self.relative_item_decay
            if relative == "auto":
                relative = derive.relative_item_decay(statistics.per_item)
            update["item_decay"] = relative * statistics.density
        eps = derive.server_eps(self.sparse_eps, statistics.density)
        newton = self.server_optimizer.kind == "newton"  # others need no such weight
        weight = statistics.density * self._mean_weight(statistics) if newton else 0.0
        for key in ("server_optimizer", "warmup_optimizer"):
            optimizer = getattr(self, key)
            if optimizer is not None:
                update[key] = optimizer.resolved(eps, weight, statistics.users)
        if self.local_schedule == "inverse" and self.local_halving is None:
            update["local_halving"] = derive.local_halving(statistics.per_item, self.cohort)
        return self.model_copy(update=update)

    def _mean_weight(self, statistics: DataStatistics) -> float:
        """Return what an interaction counts on average, by its age in a history of mean length."""
        length = max(1, round(statistics.per_user))
        return float(self.recency.weights(np.arange(length)).mean())

    def event_at(self, round_number: int) -> Event | None:
        """Return what happens before a round: the end of the warm-up, a merge, or nothing."""
        since = round_number - self.warmup_rounds
        if self.warmup_rounds and since == 0:
            return "warmup_end"
        if self.refresh_every and since > 0 and since % self.refresh_every == 0:
            return "refresh"
        return None

    @field_validator("relative_item_decay", "frequency_decay", mode="before")
    @classmethod
    def _known_decay(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if number or value == "auto":
            return value
        raise ValueError(f"{value!r} must be a number, 0 or more, or 'auto'")

    @field_validator("transforms")
    @classmethod
    def _known_transforms(cls, tables: dict[str, Any]) -> dict[str, Any]:
        return complete(tables)

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.local == "solve" and not (self.local_decay or self.frequency_decay):
            raise ValueError("local = 'solve' needs local_decay or frequency_decay above 0, got 0")
        if self.warmup_rounds >= self.rounds and self.warmup_rounds:
            raise ValueError(
                f"warmup_rounds ({self.warmup_rounds}) must be below rounds ({self.rounds})"
            )
        return self
