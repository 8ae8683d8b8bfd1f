"""``result.json``: what ran and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from fedpeft.errors import ArtifactError
from fedpeft.files import read_json, write_json
from fedpeft.foreign import all_printable
from fedpeft.records.base import Bytes, Record, Whole, check, check_schema
from fedpeft.records.costs import Costs
from fedpeft.records.scores import Scores

Holdout = Literal["validation", "test"]


class Evaluated(Scores):
    """Scores of one held-out part, and over whom."""

    part: Holdout | None = None
    n_users: Whole | None = None
    """Evaluated users."""
    short_users: Whole | None = None
    """Users with fewer sampled negatives than asked for."""
    standard_error: dict[str, dict[str, float]] | None = None
    """For ``sampled`` and ``full``, over users."""
    split: str | None = None
    """Fingerprint of the split."""


def shortage(who: str, negatives: object = None) -> str:
    """Return what users with fewer sampled negatives than asked for do to the figures.

    Parameters
    ----------
    who
        How many they are, such as "4 of 60 users".
    negatives
        How many were asked for, if that is known.
    """
    asked = f"the {negatives:,}" if isinstance(negatives, int) else "those"
    return (
        f"{who} have fewer negatives than {asked} asked for: too few items are left that are none "
        "of their own. HR@10 and NDCG@10 flatter every model there; the full ranking is the one to "
        "read."
    )


class Parts(Record):
    """Scores on the two held-out parts."""

    validation: Evaluated
    test: Evaluated | None = None
    """A run with ``evaluation.test = false`` has none."""

    def of(self, part: Holdout) -> Evaluated:
        """Return the scores on a part, which must have been read."""
        scores = getattr(self, part)
        assert isinstance(scores, Evaluated)
        return scores


class Baseline(Parts):
    """Scores of a baseline, which is fitted only for runs that read test."""

    test: Evaluated
    settings: dict[str, Any] | None = None
    """Those that were chosen for it, where there is something to choose."""


class DatasetFacts(Record):
    """The data set's name and size after reading."""

    name: str
    users: Whole
    items: Whole
    interactions: Whole
    counts: dict[str, Whole] | None = None
    """What cleaning left out."""
    order: Literal["time", "file", "none"] | None = None
    """What interactions are ordered by; earlier versions did not tell."""
    notes: list[str] | None = None
    """Sentences on what reading found; earlier versions told none."""


class ClientBytes(Record):
    """What one client sent and received, in bytes."""

    upload_per_client_round: Bytes
    """Sent by one client in one adapt round in which it takes part."""
    download_per_client_round: Bytes
    """Received by one client in one adapt round in which it takes part."""
    initial_download_per_client: Bytes
    """Received once by a client that joins the adapt phase: base embedding, codes, hash seeds."""
    warmup_per_client: Bytes
    """Both directions, all warm-up rounds, mean over all clients."""
    resync_per_client: Bytes
    """Received because merges were missed, mean over all clients."""
    expansion_per_client: Bytes = 0.0
    """Messages of graph expansion, mean over all clients; 0 in folders of before it."""
    total_per_client_mean: Bytes
    """Everything over the whole run, both directions, mean over all clients."""


_BYTES_OF_1 = {
    "one_off_per_client": "initial_download_per_client",
    "catch_up_per_client": "resync_per_client",
}
"""Names in schema 1, and what they are called now."""


class Result(Record):
    """What ran and how it ended."""

    FILE: ClassVar[str] = "result.json"
    SCHEMA: ClassVar[Whole] = 2

    name: str
    preset: str | None = None
    """Where settings came from; earlier versions did not tell."""
    asked: dict[str, Any] | None = None
    """The settings before the data were seen; earlier versions did not tell."""
    config: dict[str, Any]
    """The settings that the run has used."""
    seed: int
    commit: str | None
    made_by: str
    split_fingerprint: str
    dataset: DatasetFacts
    rounds: Whole
    seconds: float
    backend: str
    metrics: Parts
    baselines: dict[str, Baseline]
    baselines_left_out: list[str] | None = None
    """A sentence for each baseline that the data set is too large for; None: there is none."""
    bytes: ClientBytes
    rejected_uploads: Whole = 0
    """Uploads that the server dropped because they were not finite; earlier versions had none."""
    items: dict[str, Any]
    """What pretraining reported: reconstruction error, latent variance, and so on; and of an
    adapter with codes how they are used: perplexity, dead codes, collisions."""
    cost: Costs | None = None
    """Runs of earlier versions have none."""

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read a run folder's result; raises `ArtifactError` where it is missing or of no use."""
        path = folder / cls.FILE
        return check(cls, _current(all_printable(read_json(path)), f"{path}"), f"{path}")

    def write(self, folder: Path) -> None:
        """Write it into a run folder, atomically."""
        write_json(folder / self.FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {"schema": self.SCHEMA, **super().to_json()}


def _current(value: Any, where: str) -> Any:
    """Translate what an earlier version wrote."""
    if not isinstance(value, dict) or check_schema(value.get("schema", 1), 2, where) == 2:
        return value
    renamed = {"baselines" if key == "floors" else key: found for key, found in value.items()}
    if isinstance(sent := renamed.get("bytes"), dict):
        renamed["bytes"] = client_bytes_of_1(sent)
    return renamed


def client_bytes_of_1(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a table with the names of today for bytes of schema 1, which begin with `prefix`."""
    names = {prefix + old: prefix + new for old, new in _BYTES_OF_1.items()}
    return {names.get(key, key): found for key, found in value.items()}


def check_baselines(value: Any, where: str) -> dict[str, Baseline]:
    """Return baselines as a result has them; raises `ArtifactError` where they are of no use."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{where} is no table of baselines")
    return {name: check(Baseline, found, f"{where}, {name}") for name, found in value.items()}
