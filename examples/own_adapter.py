"""An adapter of one's own, run by the simulator; `test_own_adapter.py` tests it in four lines."""

import torch
from pydantic import Field
from torch import nn

import fedpeft
from fedpeft.adapters import AdapterConfig, adapters
from fedpeft.seeding import torch_rng


class QuotientConfig(AdapterConfig):
    """Settings of the quotient-remainder adapter."""

    rows: int = Field(32, ge=1)
    """m, rows of the remainder table; the payload is (m + n / m, rounded up) * k values."""
    init_std: float = Field(0.1, gt=0)
    """Standard deviation of the tables at the start; Q starts at zero in `peft` mode."""


class Quotient(fedpeft.ItemEmbedding):
    """Item vector = base + Q[id div m] * R[id mod m] of a shuffled id (Shi et al. 2020)."""

    kind = "quotient"

    def __init__(self, config: QuotientConfig, context: fedpeft.ItemContext) -> None:
        super().__init__(config, context)
        rng = torch_rng(context.seed, "quotient")
        self.register_buffer("order", torch.randperm(self.num_embeddings, generator=rng))
        for name, rows in (("Q", -(-self.num_embeddings // config.rows)), ("R", config.rows)):
            start = torch.zeros(rows, self.embedding_dim)
            if name == "R" or config.mode == "compress":
                start.normal_(std=config.init_std, generator=rng)
            self.register_parameter(name, nn.Parameter(start))

    def lookups(self, ids):
        shuffled = nn.functional.embedding(ids, self.order.unsqueeze(1)).squeeze(-1)
        return {"Q": shuffled // self.config.rows, "R": shuffled % self.config.rows}

    def compose(self, rows, whole, base):
        return (0 if base is None else base) + rows["Q"] * rows["R"]


adapters.register("quotient", config=QuotientConfig, build=Quotient)

if __name__ == "__main__":
    small = ["data.synthetic.users=300", "data.synthetic.items=200"]
    config = fedpeft.configure(adapter="quotient", rounds=200, settings=small)
    data = fedpeft.prepare(config)
    simulation = fedpeft.build(config, data.split, data.items)
    for _ in range(config.training.rounds):
        simulation.step()
    report = fedpeft.evaluate(simulation.scorer(data.split.before("test")), data.split, "test")
    per_client = f"{simulation.traffic.bytes_per_client:,.0f} bytes per client"
    print(f"{config.label}: NDCG@10 {report.sampled['ndcg@10']:.3f}, {per_client}")
