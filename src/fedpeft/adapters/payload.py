"""What a federated loop sends in place of `state_dict`: all of it but what is frozen in adapters.

The names of an adapter's tensors end in a mark, as in ``items.A@0f5a1c2b3d4e5f60``.  It names the
base and the subspace they belong to.  A name survives whatever is done to the tensors on their way:
averaging, compression, noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedpeft.adapters.base import ItemEmbedding
from fedpeft.adapters.swap import adapters_of, places
from fedpeft.errors import ArtifactError
from fedpeft.tensors import Tensors


def payload_state_dict(model: nn.Module) -> Tensors:
    """Return copies of a model's tensors without the bases and subspaces of its adapters.

    Returns
    -------
    dict
        name -> tensor: the payload of each adapter, marked, and the rest of ``state_dict()``.  What
        else shall stay on a client (a user vector), the caller leaves out.

    Raises
    ------
    InputError
        If the model has no adapter.
    """
    found = dict(_rest(model))
    for place, adapter in adapters_of(model).items():
        mark = adapter.mark
        found |= {f"{_join(place, name)}@{mark}": t for name, t in adapter.payload().items()}
    return {n: t.detach().clone() if isinstance(t, Tensor) else t for n, t in found.items()}


def load_payload_state_dict(
    model: nn.Module, state: Mapping[str, Any], *, strict: bool = True
) -> None:
    """Load what `payload_state_dict` returned, or a mean of such.

    Parameters
    ----------
    state
        name -> tensor, or an array of NumPy's.
    strict
        Whether every tensor must be there; otherwise those that are missing stay as they are, but
        an adapter's are there all or none.

    Raises
    ------
    ArtifactError
        If an adapter's payload belongs to another base or subspace, has no mark or is not finite;
        or if a tensor is missing, unknown or of another shape.  Nothing is loaded then.
    """
    rest: dict[str, Any] = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
    payloads: dict[ItemEmbedding, Tensors] = {}
    for place, adapter in adapters_of(model).items():
        adapter.untouched = False  # whatever was in it goes
        own = {name: rest.pop(name) for name in [*rest] if name.startswith(_join(place, ""))}
        if own or strict:
            payloads[adapter] = adapter.checked(_unmarked(own, adapter, place))
    _check_rest(_rest(model), rest, strict)
    for adapter, payload in payloads.items():
        adapter.load_payload(payload)
    model.load_state_dict(rest, strict=False)


def _unmarked(payload: Mapping[str, Tensor], adapter: ItemEmbedding, place: str) -> Tensors:
    """Return an adapter's payload by its own names; raises `ArtifactError` if it is another's."""
    found, where = {}, f"{place or 'the adapter'} ({adapter.kind})"
    mark = adapter.mark
    for name, tensor in payload.items():
        bare, _, told = name.rpartition("@")
        if not bare:
            raise ArtifactError(
                f"{where}: {name!r} does not say which subspace it belongs to; send "
                "payload_state_dict(model) in place of model.state_dict()"
            )
        if told != mark:
            raise ArtifactError(
                f"{where}: the payload was made on another base or in another subspace (its mark "
                f"is {told}, here it is {mark}); sender and receiver must have the same table, "
                "adapter, settings, seed and precision"
            )
        found[bare.removeprefix(_join(place, ""))] = tensor
    return found


def _rest(model: nn.Module) -> dict[str, Any]:
    """Return what of a model's ``state_dict`` is in no adapter."""
    inside = tuple(
        _join(place, "")
        for adapter in adapters_of(model).values()
        for place in places(model, adapter)
    )
    return {
        name: value for name, value in model.state_dict().items() if not name.startswith(inside)
    }


def _check_rest(own: Mapping[str, Any], given: Mapping[str, Any], strict: bool) -> None:
    """Raise `ArtifactError` unless the tensors that are in no adapter fit."""
    unknown, missing = sorted(given.keys() - own), sorted(own.keys() - given)
    if unknown or (strict and missing):
        told = [f"unknown: {', '.join(unknown)}"] if unknown else []
        told += [f"missing: {', '.join(missing)}"] if strict and missing else []
        raise ArtifactError(f"the tensors are not those of the model; {'; '.join(told)}")
    for name, value in given.items():
        theirs, ours = (tuple(getattr(one, "shape", ())) for one in (value, own[name]))
        if theirs != ours:
            raise ArtifactError(f"{name!r} must have shape {ours}, got {theirs}")


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
