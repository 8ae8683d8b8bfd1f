"""A backbone of one's own, run by the simulator under two adapters."""

import torch
from pydantic import Field
from torch import Tensor, nn

import fedpeft
from fedpeft.backbones import BackboneConfig, backbones
from fedpeft.streams import FirstDraws


class TasteConfig(BackboneConfig):
    """Settings of the taste backbone."""

    init_std: float = Field(0.1, ge=0)
    """Standard deviation of a new user's vector."""


class Taste(fedpeft.Backbone):
    """Score = (user + taste) . v: a user's vector tells how it differs from everybody's taste."""

    local = ("user",)  # never leaves the client; the taste is shared, so it travels

    def __init__(self, config: TasteConfig, item: fedpeft.ItemEmbedding) -> None:
        super().__init__(item)
        self.config = config
        self.user = nn.Parameter(torch.zeros(item.embedding_dim))
        self.taste = nn.Parameter(torch.zeros(item.embedding_dim))

    def score(self, vectors: Tensor) -> Tensor:
        return vectors @ (self.user + self.taste)

    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        return {"user": draws.normal("user", len(self.user)) * self.config.init_std}


backbones.register("taste", config=TasteConfig, build=Taste)

if __name__ == "__main__":
    for adapter in ("full", "lora"):
        config = fedpeft.configure(
            data="synthetic",
            backbone="taste",
            adapter=adapter,
            rounds=60,
            settings=["data.synthetic.users=300", "data.synthetic.items=200"],
        )
        data = fedpeft.prepare(config)
        simulation = fedpeft.build(config, data.split, data.items)
        for _ in range(config.training.rounds):
            simulation.step()
        report = fedpeft.evaluate(simulation.scorer(data.split.before("test")), data.split, "test")
        baseline = fedpeft.baselines(data.split, tune=False)["popularity"]["test"]["sampled"][
            "ndcg@10"
        ]
        ndcg = report.sampled["ndcg@10"]
        per_client = f"{simulation.traffic.bytes_per_client:,.0f} bytes per client"
        print(f"{config.label}: NDCG@10 {ndcg:.3f} (popularity {baseline:.3f}), {per_client}")
