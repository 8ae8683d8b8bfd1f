"""A simulation on disk: one safetensors file, replaced atomically, from which it resumes exactly.

Every random stream is named by seed and round, so no generator state needs saving.  The server and
the population save themselves; this module puts both into one file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from fedpeft.adapters import check_tensors
from fedpeft.errors import ArtifactError
from fedpeft.records import Checkpoint
from fedpeft.server import ServerState
from fedpeft.server.state import group
from fedpeft.simulation.simulation import Simulation
from fedpeft.tensors import Tensors


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
        "settings": settings(simulation),
        "server": simulation.state.to_dict(),
        "traffic": simulation.traffic.state(),
        "in_vain": simulation.in_vain,
        "extra": extra or {},
    }
    Checkpoint(values, _tensors(simulation)).write(path)


def load(
    simulation: Simulation, path: Path, accept: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Bring a freshly built simulation of the same settings to the saved state; return `extra`.

    Parameters
    ----------
    accept
        Called with `extra` before anything else is compared; raises what it objects to.

    Raises
    ------
    ArtifactError
        If the file is missing, corrupt, of another schema, or of other settings.  The simulation
        is as it was then.
    """
    saved = Checkpoint.read(path)
    state, tensors = saved.values, dict(saved.tensors)
    if accept is not None:
        accept(state["extra"])
    _check_settings(path, state["settings"], settings(simulation))
    own, device = group(tensors, "server"), simulation.server.device
    try:
        server = ServerState.load(simulation.task, state["server"], own, device)
    except ArtifactError as error:
        raise ArtifactError(f"{path} is of another run: {error}") from None
    clients = group(tensors, "clients")
    shapes = {name: t.shape for name, t in simulation.population.to_tensors().items()}
    check_tensors(clients, shapes, str(path), finite=False)

    # all of it fits: only now does the simulation change
    simulation.state = server
    simulation.population.load(clients)
    simulation.traffic.restore(state["traffic"])
    simulation.in_vain = state.get("in_vain", 0)
    simulation.follow()
    extra: dict[str, Any] = state["extra"]
    return extra


def settings(simulation: Simulation) -> dict[str, Any]:
    """Return what a simulation was set up with, ready for JSON."""
    task = simulation.task
    return {
        "seed": task.seed,
        "adapter": {"kind": task.kind, **task.adapter.model_dump(mode="json")},
        "training": task.training.model_dump(mode="json"),
    }


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
