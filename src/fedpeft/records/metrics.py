"""``metrics.jsonl``: evaluations on validation in the course of training."""

from __future__ import annotations

from typing import ClassVar, Literal

from fedpeft.records.base import Bytes
from fedpeft.records.log import Line
from fedpeft.records.scores import Scores


class Evaluation(Line):
    """One evaluation, after so many rounds."""

    FILE: ClassVar[str] = "metrics.jsonl"

    phase: Literal["warmup", "adapt"]
    validation: Scores
    train_loss: float | None
    bytes_per_client: Bytes
    """Cumulative, both directions, mean over all clients."""
    seconds: float

    @property
    def rounds_done(self) -> int:
        """The number of rounds after which the line was written."""
        return self.round
