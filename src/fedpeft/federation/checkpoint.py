"""A simulation on disk: one safetensors file, replaced atomically, from which it resumes exactly.

Every random stream is named by seed and round, so no generator state needs saving.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpeft.adapters import check_tensors
from fedpeft.errors import ArtifactError
from fedpeft.federation.local import Tensors
from fedpeft.federation.simulation import Simulation
from fedpeft.files import fingerprint, read_metadata, read_tensors, write_tensors

SCHEMA = 1


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
        "round": simulation.round,
        "phase": server.phase,
        "version": server.version,
        "ledger": simulation.ledger.state(),
        "extra": extra or {},
        "sha256": _digest(tensors),
    }
    write_tensors(path, tensors, {"fedpeft": json.dumps(state)})


def load(simulation: Simulation, path: Path) -> dict[str, Any]:
    """Bring a freshly built simulation of the same settings to the saved state; return `extra`.

    Raises
    ------
    ArtifactError
        If the file is missing, corrupt, of another schema, or of other settings.
    """
    try:
        state = json.loads(read_metadata(path)["fedpeft"])
        schema = state["schema"]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise ArtifactError(f"{path} is not a fedpeft checkpoint") from None
    if schema != SCHEMA:
        raise ArtifactError(f"{path} has checkpoint schema {schema!r}; this version reads {SCHEMA}")
    tensors = read_tensors(path)
    if _digest(tensors) != state["sha256"]:
        raise ArtifactError(f"{path} is corrupt: its tensors do not match their checksum")
    simulation.round = state["round"]
    simulation.ledger.restore(state["ledger"], tensors.pop("ledger.held").numpy())
    frozen = _group(tensors, "frozen.")
    server = simulation.server
    server.restore(state["phase"], state["version"], tensors.pop("base", None), frozen)
    _assign(path, _group(tensors, "payload."), dict(server.parameters()))
    _assign(path, _group(tensors, "private."), simulation.private)
    _restore_optimizer(simulation, _group(tensors, "server."))
    for name, feedback in _feedbacks(simulation):
        feedback.residual = {
            key: tensor.to(server.item.device) for key, tensor in _group(tensors, name).items()
        }
    extra: dict[str, Any] = state["extra"]
    return extra


def _tensors(simulation: Simulation) -> Tensors:
    server = simulation.server
    tensors: Tensors = {"ledger.held": torch.from_numpy(simulation.ledger.held)}
    if server.item.base is not None:
        tensors["base"] = server.item.base
    tensors |= {f"frozen.{name}": t for name, t in server.item.frozen().items()}
    tensors |= {f"payload.{name}": p.detach() for name, p in server.parameters().items()}
    tensors |= {f"private.{name}": t for name, t in simulation.private.items()}
    for name, parameter in server.parameters().items():
        for key, value in server.optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"server.{name}|{key}"] = value
    for prefix, feedback in _feedbacks(simulation):
        tensors |= {f"{prefix}{name}": t for name, t in feedback.residual.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _feedbacks(simulation: Simulation) -> list[tuple[str, Any]]:
    found = [("broadcast.", simulation.server.feedback)]
    found += [("upload.", transform.feedback) for transform in simulation.transforms]
    return [(prefix, feedback) for prefix, feedback in found if feedback is not None]


def _restore_optimizer(simulation: Simulation, saved: Tensors) -> None:
    optimizer = simulation.server.optimizer
    for name, parameter in simulation.server.parameters().items():
        optimizer.state[parameter] = {
            key: value.to(parameter.device) for key, value in _group(saved, f"{name}|").items()
        }


def _assign(path: Path, saved: Tensors, own: dict[str, Any]) -> None:
    check_tensors(saved, {name: t.shape for name, t in own.items()}, str(path), finite=False)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def _group(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors whose name starts with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _digest(tensors: Tensors) -> str:
    return fingerprint(*(part for name in sorted(tensors) for part in (name, tensors[name])))
