"""A simulation on disk: one safetensors file, replaced atomically, from which it resumes exactly.

Every random stream is named by seed and round, so no generator state needs saving.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding, check_tensors
from fedpeft.errors import ArtifactError
from fedpeft.files import fingerprint, read_metadata, read_tensors, write_tensors
from fedpeft.simulation.simulation import Simulation
from fedpeft.tensors import Tensors

SCHEMA = 2
_OPTIONAL = ("server.", "broadcast.")
"""Names of tensors that exist once the optimiser, or error feedback, has something to remember."""


def save(simulation: Simulation, path: Path, extra: dict[str, Any] | None = None) -> None:
    """Write everything the next round needs.

    Parameters
    ----------
    extra
        JSON values to keep beside the state, such as how far the logs had been written.
    """
    server = simulation.server
    tensors = _tensors(simulation)
    state = {
        "schema": SCHEMA,
        "settings": server.settings,
        "round": simulation.round,
        "phase": server.phase,
        "version": server.version,
        "ledger": simulation.ledger.state(),
        "extra": extra or {},
    }
    metadata = {"fedpeft": json.dumps(state)}
    metadata["sha256"] = _digest(metadata["fedpeft"], tensors)
    write_tensors(path, tensors, metadata)


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
    state, tensors = _read(path)
    if accept is not None:
        accept(state["extra"])
    server = simulation.server
    _check_settings(path, state["settings"], server.settings)
    whole = (server.item.num_embeddings, server.item.embedding_dim)
    base = tensors.get("base", torch.zeros(whole))  # some adapters keep none
    check_tensors({"base": base}, {"base": whole}, str(path))
    item = server.build(state["phase"], state["version"], base, _group(tensors, "frozen."))
    item.to(server.item.device)
    own = _own(simulation, item)
    known = {name: t for name, t in tensors.items() if not name.startswith(_OPTIONAL)}
    check_tensors(known, {name: t.shape for name, t in own.items()}, str(path), finite=False)

    # all of it fits: only now does the simulation change
    server.adopt(state["phase"], state["version"], item)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    simulation.round = state["round"]
    simulation.ledger.restore(state["ledger"], tensors["ledger.held"].numpy())
    _restore_optimizer(simulation, _group(tensors, "server."))
    if server.feedback is not None:
        kept = _group(tensors, "broadcast.")
        server.feedback.residual = {n: tensor.to(server.item.device) for n, tensor in kept.items()}
    extra: dict[str, Any] = state["extra"]
    return extra


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """Return state and tensors of a checkpoint whose schema and checksum are right."""
    metadata = read_metadata(path)
    try:
        state = json.loads(metadata["fedpeft"])
        schema = state["schema"]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ArtifactError(f"{path} is not a fedpeft checkpoint") from None
    if schema != SCHEMA:
        raise ArtifactError(f"{path} has checkpoint schema {schema!r}; this version reads {SCHEMA}")
    tensors = read_tensors(path)
    if _digest(metadata["fedpeft"], tensors) != metadata.get("sha256"):
        raise ArtifactError(f"{path} is corrupt: its contents do not match their checksum")
    return state, tensors


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


def _own(simulation: Simulation, item: ItemEmbedding) -> Tensors:
    """Return the live tensors a checkpoint fills, once `item` is the simulation's, by name."""
    own = {f"frozen.{n}": t for n, t in item.named_buffers() if n != "base"}
    if item.base is not None:
        own["base"] = item.base
    own |= {f"payload.item.{name}": p for name, p in item.named_parameters()}
    own |= {f"payload.{name}": p for name, p in simulation.server.backbone.shared().items()}
    own |= {f"local.{name}": t for name, t in simulation.local.items()}
    own["ledger.held"] = torch.from_numpy(simulation.ledger.held)
    return own


def _tensors(simulation: Simulation) -> Tensors:
    server = simulation.server
    tensors: Tensors = {"ledger.held": torch.from_numpy(simulation.ledger.held)}
    if server.item.base is not None:
        tensors["base"] = server.item.base
    tensors |= {f"frozen.{name}": t for name, t in server.item.frozen().items()}
    tensors |= {f"payload.{name}": p.detach() for name, p in server.parameters().items()}
    tensors |= {f"local.{name}": t for name, t in simulation.local.items()}
    for name, parameter in server.parameters().items():
        for key, value in server.optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"server.{name}|{key}"] = value
    if server.feedback is not None:
        tensors |= {f"broadcast.{name}": t for name, t in server.feedback.residual.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _restore_optimizer(simulation: Simulation, saved: Tensors) -> None:
    optimizer = simulation.server.optimizer
    for name, parameter in simulation.server.parameters().items():
        optimizer.state[parameter] = {
            key: value.to(parameter.device) for key, value in _group(saved, f"{name}|").items()
        }


def _group(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors whose name starts with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _digest(state: str, tensors: Tensors) -> str:
    return fingerprint(state, *(part for name in sorted(tensors) for part in (name, tensors[name])))
