"""The data and simulations that the benchmarks run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fedpeft import Items, RunOptions, Simulation, Split, build, configure, load, split
from fedpeft.data.config import DataConfig, SplitConfig, SyntheticConfig
from fedpeft.files import fingerprint
from fedpeft.seeding import torch_rng
from fedpeft.simulation.backend import Backend

ML_1M = Path(__file__).resolve().parents[2] / "shared" / "data" / "ml-1m"
SEED = 0
DIM = 32


TOY = SyntheticConfig(users=40, items=200, interactions_per_user=12, seed=SEED)
LIKE_ML_1M = SyntheticConfig(users=6040, items=3706, interactions_per_user=165, seed=SEED)


def data_config(*, toy: bool) -> DataConfig:
    """Return MovieLens-1M if it lies beside the checkout, else synthetic data of its size.

    With `toy` it is synthetic data on which a round takes milliseconds.
    """
    if toy:
        return DataConfig(synthetic=TOY)
    if ML_1M.is_dir():
        return DataConfig(source=str(ML_1M))
    return DataConfig(synthetic=LIKE_ML_1M)


def data_name(*, toy: bool) -> str:
    """Return what the tables call the data."""
    if toy:
        return "synthetic, toy size"
    return "ml-1m" if ML_1M.is_dir() else "synthetic, the size of ml-1m"


def random_items(n_items: int, dim: int = DIM) -> Items:
    """Return a random base embedding: how long a round takes does not depend on its values."""
    base = torch.randn(n_items, dim, generator=torch_rng(SEED, "benchmark base")).mul_(0.1)
    return Items(None, base, fingerprint(base), {"base": "random"})


@dataclass(frozen=True, eq=False)
class Workload:
    """A split and a base embedding, from which any number of simulations are built."""

    split: Split
    items: Items

    @classmethod
    def read(cls, *, toy: bool) -> Workload:
        """Read and split the benchmark data."""
        parts = split(load(data_config(toy=toy)), SplitConfig())
        return cls(parts, random_items(parts.n_items))

    def simulation(
        self,
        loss: str,
        *,
        adapter: str = "full",
        backbone: str = "fedmf",
        preset: str = "fedpeft",
        backend: Backend | None = None,
        settings: tuple[str, ...] = (),
    ) -> Simulation:
        """Return a simulation past its warm-up phase, at round 0.

        Parameters
        ----------
        backend
            None takes the backend the settings choose themselves.
        settings
            Further keys, as ``table.key=value``.
        """
        # the random base has no texts for codes, whatever the preset would take them from
        of_base = ("adapter.source=table",) if adapter == "rq" else ()
        config = configure(
            adapter=adapter,
            backbone=backbone,
            loss=loss,
            preset=preset,
            seed=SEED,
            settings=["training.warmup_rounds=0", *of_base, *settings],
        )
        options = RunOptions(device="cpu", backend=backend or "auto")
        return build(config, self.split, self.items, options)
