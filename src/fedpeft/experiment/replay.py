"""One client's exact upload of any round of a run, made again.

It is what `client_round` returns on the state of that round.  The state is replayed from the run
folder's checkpoint, where that is not later, and from the start otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.experiment.assemble import Prepared, Stage, build, prepare
from fedpeft.experiment.folder import RunFolder
from fedpeft.experiment.reopen import index_of
from fedpeft.experiment.run import accept_model, load_checkpoint
from fedpeft.protocol.layout import UploadCodec
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.records import Checkpoint
from fedpeft.server import ServerState
from fedpeft.simulation import RunOptions, Simulation

Progress = Callable[[int, int], None]
"""Told how many rounds are replayed, of how many."""


@dataclass(frozen=True)
class UploadTensor:
    """One tensor of an upload, as the server reads it: the client's weighted change."""

    name: str
    shape: tuple[int, ...]
    moved: int
    """Values that are not zero."""
    norm: float
    """L2 norm."""
    largest: float
    """Largest absolute value."""


@dataclass(frozen=True, eq=False)
class Replayed:
    """An upload that was made again.

    Attributes
    ----------
    data
        The bytes as they travelled.
    upload
        What they say.
    encoding, layout
        How values are written, and how the change is laid out (`training.upload`).
    tensors
        What the server reads out of them.
    """

    data: bytes
    upload: Upload
    encoding: str
    layout: str
    tensors: tuple[UploadTensor, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the bytes themselves, ready for JSON."""
        return {
            "bytes": len(self.data),
            "head_bytes": Upload.size(0),
            "payload_bytes": len(self.upload.payload),
            "round": self.upload.round,
            "version": self.upload.version,
            "weight": self.upload.weight,
            "loss": self.upload.loss,
            "encoding": self.encoding,
            "upload": self.layout,
            "tensors": [vars(tensor) for tensor in self.tensors],
        }


def replay_upload(
    path: Path,
    user: str,
    round_number: int,
    *,
    stage: Stage = lambda _: None,
    progress: Progress = lambda _, __: None,
) -> Replayed:
    """Return the upload of one user in one round of a run.

    Raises
    ------
    ArtifactError
        If `path` is no run folder, or its data or checkpoint changed.
    ConfigError
        If the run has no such round or user, or the user took no part in the round.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    if not 0 <= round_number < config.training.rounds:
        raise ConfigError(
            f"--round {round_number} must be from 0 to {config.training.rounds - 1}, "
            f"the rounds of {path}"
        )
    prepared = prepare(config, stage=stage)
    row = index_of(prepared.dataset.user_ids, user, path)
    options = _options(folder, prepared)
    simulation = build(config, prepared.split, prepared.items, options)
    _require_part(simulation, row, user, round_number, config.training.rounds)
    kept = None
    if folder.checkpoint.exists():
        # it says whether data or settings have changed since, even where it is of a later round
        load_checkpoint(simulation, folder, prepared)
        kept = simulation.state
        if simulation.round > round_number:
            simulation = build(config, prepared.split, prepared.items, options)
    begun = simulation.round
    while simulation.round < round_number:
        simulation.step()
        progress(simulation.round - begun, round_number - begun)
    data = simulation.upload_of(row).to_bytes()
    if kept is not None and simulation.task.adapter.random_rows:
        _require_draws(folder, kept, simulation.state)
    return _read(data, simulation)


def _options(folder: RunFolder, prepared: Prepared) -> RunOptions:
    """Return the backend that the run was last computed with, so that bits are the same.

    Raises
    ------
    ArtifactError
        If the items' base is not the one that the run began with.
    """
    if not folder.checkpoint.exists():
        return RunOptions(device="cpu")
    notes = accept_model(folder, Checkpoint.read(folder.checkpoint).values.get("extra", {}))
    if notes.base not in (None, prepared.items.fingerprint):
        raise ArtifactError(
            f"{folder.path} began with another base than its item texts give now, so its uploads "
            "cannot be made again"
        )
    return RunOptions(device="cpu", backend=notes.backend or "auto")


def _require_draws(folder: RunFolder, kept: ServerState, replayed: ServerState) -> None:
    """Raise `ArtifactError` if the run drew other subspaces than a replay does.

    An earlier version of fedpeft took any hash functions that came, also ones that collide often.
    """
    drawn, again = (
        {state.first.version: state.first.subspace}
        | {step.version: step.subspace for step in state.steps}
        for state in (kept, replayed)
    )
    if any(drawn.get(version, subspace) != subspace for version, subspace in again.items()):
        raise ArtifactError(
            f"{folder.path} drew other hash functions than this version does from its seed, so its "
            "uploads cannot be made again; use the version that made it"
        )


def _require_part(
    simulation: Simulation, row: int, user: str, round_number: int, rounds: int
) -> None:
    """Raise `ConfigError`, naming rounds to ask for, unless the user took part in the round."""
    if row in simulation.sampler.rows(round_number):
        return
    near = sorted(
        (number for number in range(rounds) if row in simulation.sampler.rows(number)),
        key=lambda number: abs(number - round_number),
    )[:3]
    told = f"; it did in {', '.join(map(str, sorted(near)))}" if near else ", nor in any other"
    raise ConfigError(f"user {user!r} took no part in round {round_number}{told}")


def _read(data: bytes, simulation: Simulation) -> Replayed:
    """Return an upload with what the server reads out of it."""
    upload, task = Upload.from_bytes(data), simulation.task
    codec: UploadCodec = simulation.pipeline.uploads
    tensors = tuple(
        UploadTensor(
            name,
            tuple(tensor.shape),
            int(torch.count_nonzero(tensor)),
            float(tensor.norm()),
            float(tensor.abs().max()) if tensor.numel() else 0.0,
        )
        for name, tensor in sorted(codec.decode(upload.payload).items())
    )
    return Replayed(data, upload, task.training.encoding, codec.form, tensors)
