"""The costs in a result: what the run's strategy and its alternatives cost."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from fedpeft.records.base import Bytes, Record, Whole


class Sent(Record):
    """What one client sends and receives under one value encoding, in bytes."""

    encoding: str | None = None
    """What was asked for."""
    upload_encoding: str
    download_encoding: str
    upload_layout: str = "dense"
    """How a change is laid out; earlier versions counted all as dense."""
    upload_round: Bytes
    """One payload."""
    download_round: Bytes
    """One payload."""
    statistics_round: Bytes = 0
    """What of the upload is statistics for a second-order server; earlier versions had none."""
    merge_round: Bytes | None = None
    """What a merge sends, where there are any."""
    mean_download_round: Bytes | None = None
    """What comes down in a round on average, merges included; earlier versions did not tell."""
    warmup_upload_round: Bytes | None = None
    """One payload of the warm-up, where there is one."""
    warmup_download_round: Bytes | None = None
    """One payload of the warm-up, where there is one."""
    base: Bytes
    subspace: Bytes
    participations: float | None = Field(None, ge=0)
    """Rounds that a client takes part in; earlier versions did not tell."""
    upload: Bytes | None = None
    """All payloads of the run, mean over all clients, as are those that follow."""
    download: Bytes | None = None
    """All payloads of the run."""
    warmup: Bytes | None = None
    """What of both was the warm-up's."""
    initial_download: Bytes | None = None
    """Base and subspace, fetched once."""
    resync: Bytes | None = None
    """What clients fetched that were away at a merge."""
    total: Bytes
    """Whole run."""

    @model_validator(mode="before")
    @classmethod
    def _translated(cls, table: Any) -> Any:
        """Read what earlier versions wrote: other names, one payload for both directions."""
        if not isinstance(table, dict):
            return table
        names = {"one_off": "initial_download", "catch_up": "resync"}
        table = {names.get(key, key): value for key, value in table.items()}
        if "round" not in table:
            return table
        return {
            "upload_encoding": table.get("encoding"),
            "download_encoding": table.get("encoding"),
            "upload_round": table["round"],
            "download_round": table["round"],
            **table,
        }


class Kept(Record):
    """What one side keeps, in bytes."""

    base: Bytes
    subspace: Bytes
    adapter: Bytes
    shared: Bytes
    local: Bytes
    optimizer: Bytes
    feedback: Bytes

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(value for _, value in self))


class Sides(Record):
    """What both sides keep."""

    client: Kept
    server: Kept


class Operations(Record):
    """Counted operations."""

    matmul: Whole
    elementwise: Whole
    integer: Whole


class Computation(Record):
    """Operations of one item vector and of one training step."""

    vector: Operations
    step: Operations


class Capacity(Record):
    """What corrections can express; None where it is not known, or every item has its own."""

    parameters: Whole
    rank: Whole | None
    reachable: int | None
    expected_distinct: float | None


class StrategyCost(Record):
    """What one strategy costs."""

    label: str
    kind: str | None = None
    communication: Annotated[list[Sent], Field(min_length=1)]
    storage: Sides
    computation: Computation
    capacity: Capacity
    measured: dict[str, Any] | None = None
    """Times and memory, where they were measured."""


class CostScale(Record):
    """The sizes that costs were reckoned with."""

    items: Whole
    dim: Whole
    clients: Whole
    touched: Whole
    seed: int | None = None


class Costs(Record):
    """What the run's strategy and its alternatives cost."""

    strategy: str
    """Label of the run's own among `strategies`."""
    scale: CostScale
    strategies: list[StrategyCost]
