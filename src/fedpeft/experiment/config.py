"""The whole configuration of a run: one table per part, every value settled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from fedpeft.adapters import AdapterConfig
from fedpeft.config import ActsIf, ConfigModel
from fedpeft.data import DataConfig, Dataset, Split, SplitConfig
from fedpeft.experiment import presets
from fedpeft.experiment.recency import resolve_recency
from fedpeft.items import ItemsConfig
from fedpeft.losses import LossConfig
from fedpeft.training import TrainingConfig

TABLES = ("data", "evaluation", "items", "adapter", "backbone", "loss", "training")


POINTS = 20
"""A learning curve has at least so many points where nobody sets `every`, and fewer than twice."""


def usual_interval(rounds: int) -> int:
    """Return the rounds between evaluations of a run that leaves them open.

    It is a twentieth of the rounds, at least 1.  So a curve can be read however short the run is,
    and a long run spends no more on evaluations than a short one.
    """
    return max(1, rounds // POINTS)


class EvaluationConfig(SplitConfig):
    """How a run is evaluated."""

    acting: ClassVar = {"centralised_baseline": ActsIf("test = true", lambda table: table.test)}

    every: int = Field(50, ge=1)
    """Rounds between evaluations on validation.  Not set: a twentieth of `training.rounds`, at
    least 1, which is 50 of 1,000."""
    test: bool = True
    """Whether the test part is read, once, at the end; false for runs among which one is chosen."""
    centralised_baseline: bool = True
    """Whether to fit iALS and EASE to all data in one place as baselines; popularity always is one.
    EASE is for catalogues of up to 20,000 items."""


@dataclass(frozen=True)
class Choice:
    """A registered part and its settings."""

    kind: str
    config: ConfigModel

    def to_dict(self, *, sparse: bool = False) -> dict[str, Any]:
        """Return the table as it stands in a config file; `sparse` as in `RunConfig.to_dict`."""
        return {"kind": self.kind, **self.config.model_dump(mode="json", exclude_defaults=sparse)}


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines what a run computes."""

    seed: int
    data: DataConfig
    evaluation: EvaluationConfig
    items: ItemsConfig
    adapter: Choice
    backbone: Choice
    loss: Choice
    training: TrainingConfig
    preset: str = field(default=presets.NONE, compare=False)
    """Where settings came from.  It is a note: all that it has set stands in the tables."""
    dataset: Dataset | None = field(default=None, compare=False, repr=False)
    """The data themselves, where they were given in Python (``data.source = "memory"``)."""

    def to_dict(self, *, sparse: bool = False) -> dict[str, Any]:
        """Return all tables, every key settled; `resolve` of the result gives `self`.

        With `sparse`, keys are left out that have their default.
        """

        def table(config: ConfigModel) -> dict[str, Any]:
            return config.model_dump(mode="json", exclude_defaults=sparse)

        return {
            "seed": self.seed,
            "preset": presets.NONE,
            "data": table(self.data),
            "evaluation": table(self.evaluation),
            "items": table(self.items),
            "adapter": self.adapter.to_dict(sparse=sparse),
            "backbone": self.backbone.to_dict(sparse=sparse),
            "loss": self.loss.to_dict(sparse=sparse),
            "training": table(self.training),
        }

    def to_file(self) -> dict[str, Any]:
        """Return what a file holds: all tables, and the note which preset they came from."""
        tables = self.to_dict()
        return {"seed": tables.pop("seed"), "from_preset": self.preset, **tables}

    def resolved(self, split: Split) -> RunConfig:
        """Return the configuration with every value that depends on the data as a number.

        Raises
        ------
        ConfigError
            If interactions are to be weighted by their age, and the data are in no order.
        """
        assert isinstance(self.loss.config, LossConfig)
        loss = replace(self.loss, config=self.loss.config.resolved(split.statistics))
        recency = resolve_recency(self.training.recency, split)  # other values depend on it
        training = self.training.model_copy(update={"recency": recency})
        return replace(self, loss=loss, training=training.resolved(split.statistics))

    @property
    def label(self) -> str:
        """Return what tables and plots call the run, such as ``P-LoRA r=4``."""
        config = self.adapter.config
        assert isinstance(config, AdapterConfig)
        mode = "P" if config.mode == "peft" else "C"
        name = config.label()
        return name if config.is_table and mode == "P" else f"{mode}-{name}"
