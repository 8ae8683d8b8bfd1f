"""A simulation on disk: one safetensors file, replaced atomically, from which it resumes exactly.

Every random stream is named by seed and round, so no generator state needs saving.  The server and
the population save themselves; this module puts both into one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, ValidationError
from torch import Tensor

from fedpeft.adapters import check_tensors
from fedpeft.errors import ArtifactError, InputError
from fedpeft.protocol.traffic import known_totals
from fedpeft.records import Checkpoint
from fedpeft.records.base import Record, Whole, check
from fedpeft.server import ServerState
from fedpeft.server.state import group
from fedpeft.simulation.population import Population
from fedpeft.simulation.simulation import Simulation
from fedpeft.tensors import Tensors
from fedpeft.training.config import Phase, TrainingConfig
from fedpeft.training.task import Task, item_payload

Accept = Callable[[Mapping[str, Any]], object]


def save(simulation: Simulation, path: Path, extra: dict[str, Any] | None = None) -> None:
    """Write everything the next round needs.

    Parameters
    ----------
    extra
        JSON values to keep beside the state, such as the seconds that it took.

    Raises
    ------
    RunError
        If the state is not finite; the file that was there stays.
    """
    values = {
        "settings": settings(simulation.task),
        "server": simulation.state.to_dict(),
        "traffic": simulation.traffic.state(),
        "in_vain": simulation.in_vain,
        "extra": extra or {},
    }
    Checkpoint(values, _tensors(simulation)).write(path)


class _Server(Record):
    """The server's values; see `ServerState`."""

    round: Annotated[Whole, Field(ge=0)]
    begun: Annotated[Whole, Field(ge=-1)]
    phase: Phase
    version: Annotated[Whole, Field(ge=0)]
    lineage: Annotated[str, Field(pattern="^([0-9a-f]{2})*$")]


class _Values(Record):
    """What `save` writes beside the tensors."""

    settings: dict[str, Any]
    server: _Server
    traffic: Annotated[dict[str, Whole], AfterValidator(known_totals)]
    in_vain: Whole = 0
    extra: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Saved:
    """A checkpoint, read and found to be one of a task.

    Attributes
    ----------
    server
        The server's state, whose item vectors can be computed.
    clients
        What `Population.to_tensors` returned; types are right, shapes were not looked at.
    traffic, in_vain, extra
        As in the simulation that was saved, and what was kept beside it.
    """

    server: ServerState
    clients: Tensors
    traffic: Mapping[str, int]
    in_vain: int
    extra: Mapping[str, Any]


def read(path: Path, task: Task, device: torch.device, accept: Accept = lambda _: None) -> Saved:
    """Read a checkpoint of a task.

    Parameters
    ----------
    accept
        Called with `extra` before anything else is compared; raises what it objects to.

    Raises
    ------
    ArtifactError
        If the file is missing, corrupt, of another schema, or of other settings.
    """
    saved = Checkpoint.read(path)
    values, tensors = check(_Values, saved.values, f"{path}"), dict(saved.tensors)
    accept(values.extra)
    _check_settings(path, _completed(values.settings, task), settings(task))
    _check_types(path, tensors)
    try:
        server = ServerState.load(
            task, values.server.model_dump(), group(tensors, "server"), device
        )
        server.item.merge(item_payload(server.payload))  # frozen codes may be out of range
    except (InputError, IndexError, RuntimeError) as error:
        raise ArtifactError(f"{path} is of another run: {error}") from None
    return Saved(server, group(tensors, "clients"), values.traffic, values.in_vain, values.extra)


def load(simulation: Simulation, path: Path, accept: Accept = lambda _: None) -> Mapping[str, Any]:
    """Bring a freshly built simulation of the same settings to the saved state; return `extra`.

    Raises
    ------
    ArtifactError
        As `read`, or if it is of another population.  The simulation is as it was then.
    """
    saved = read(path, simulation.task, simulation.server.device, accept)
    restore(simulation.population, saved.clients, path)
    simulation.state = saved.server
    simulation.traffic.restore(saved.traffic)
    simulation.in_vain = saved.in_vain
    simulation.follow()
    return saved.extra


def restore(population: Population, clients: Tensors, path: Path) -> None:
    """Bring a population to the state that was saved at `path`.

    Raises
    ------
    ArtifactError
        If it is of another population, which is as it was then.
    """
    shapes = {name: t.shape for name, t in population.to_tensors().items()}
    check_tensors(clients, shapes, str(path), finite=False)
    population.load(clients)


def _check_types(path: Path, tensors: Tensors) -> None:
    """Raise `ArtifactError` for a tensor of a type that `save` does not write there."""
    for name, tensor in tensors.items():
        wanted = torch.float32
        if name.startswith("server/message/"):
            wanted = torch.uint8
        elif name.startswith("server/frozen/"):
            continue  # its adapter knows
        elif name == "clients/held":
            wanted = torch.int64
        if tensor.dtype != wanted:
            raise ArtifactError(f"{path}: tensor {name!r} must be {wanted}, is {tensor.dtype}")


def settings(task: Task) -> dict[str, Any]:
    """Return what a simulation was set up with, ready for JSON."""
    return {
        "seed": task.seed,
        "adapter": {"kind": task.kind, **task.adapter.model_dump(mode="json")},
        "training": task.training.model_dump(mode="json"),
    }


def _completed(saved: dict[str, Any], task: Task) -> dict[str, Any]:
    """Return saved settings with the defaults of keys that an earlier version did not have."""
    try:
        training = TrainingConfig.model_validate(saved["training"])
        kind, given = saved["adapter"]["kind"], dict(saved["adapter"])
        del given["kind"]
        adapter = type(task.adapter).model_validate(given) if kind == task.kind else None
    except (KeyError, TypeError, ValidationError):
        return saved  # the comparison tells what is wrong
    if adapter is None:
        return saved
    own = {"kind": kind, **adapter.model_dump(mode="json")}
    return {**saved, "training": training.model_dump(mode="json"), "adapter": own}


def _check_settings(path: Path, saved: dict[str, Any], own: dict[str, Any], at: str = "") -> None:
    """Raise `ArtifactError` naming the first setting in which a checkpoint differs."""
    for key in sorted({*saved, *own}):
        theirs, ours = saved.get(key), own.get(key)
        if isinstance(theirs, dict) and isinstance(ours, dict):
            _check_settings(path, theirs, ours, f"{at}{key}.")
        elif theirs != ours:
            raise ArtifactError(
                f"{path} was saved with {at}{key} = {theirs!r}, which is {ours!r} now"
            )


def _tensors(simulation: Simulation) -> Tensors:
    """Return all tensors of a simulation, by name, on the CPU."""
    parts = {
        "server": simulation.state.to_tensors(),
        "clients": simulation.population.to_tensors(),
    }
    named = {f"{part}/{name}": t for part, own in parts.items() for name, t in own.items()}
    return {name: _plain(tensor) for name, tensor in named.items()}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
