"""The base of what is read from run folders, and the records of costs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Record(BaseModel):
    """A frozen record of a run folder; keys that a later version added are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )


Bytes = Annotated[float, Field(ge=0)]


class Sent(Record):
    """What one client sends and receives under one value encoding, in bytes."""

    upload_encoding: str
    download_encoding: str
    upload_round: Bytes
    """One payload."""
    download_round: Bytes
    """One payload."""
    base: Bytes
    subspace: Bytes
    total: Bytes
    """Whole run, mean over all clients."""

    @model_validator(mode="before")
    @classmethod
    def _one_for_both(cls, table: Any) -> Any:
        """Read what an earlier version wrote: one encoding and one payload for both directions."""
        if not isinstance(table, dict) or "round" not in table:
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

    matmul: int
    elementwise: int
    integer: int


class Computation(Record):
    """Operations of one item vector and of one training step."""

    vector: Operations
    step: Operations


class Capacity(Record):
    """What corrections can express; None where it is not known, or every item has its own."""

    parameters: int
    rank: int | None
    reachable: int | None
    expected_distinct: float | None


class StrategyCost(Record):
    """What one strategy costs."""

    label: str
    communication: Annotated[list[Sent], Field(min_length=1)]
    storage: Sides
    computation: Computation
    capacity: Capacity


class CostScale(Record):
    """The sizes that costs were reckoned with."""

    items: int
    dim: int
    clients: int
    touched: int


class Costs(Record):
    """What the run's strategy and its alternatives cost."""

    strategy: str
    """Label of the run's own among `strategies`."""
    scale: CostScale
    strategies: list[StrategyCost]
