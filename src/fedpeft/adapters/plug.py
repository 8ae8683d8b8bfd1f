"""Adapters in models we did not write: swap an embedding, save, load, merge, swap back.

The habits are those of Hugging Face's PEFT library: the base model is made or loaded first,
adapters are put into it, only they are saved, and `merge_and_unload` leaves a plain model behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from fedpeft.adapters.artifact import load, save
from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.config import parse
from fedpeft.errors import ArtifactError, InputError


def replace_embedding(
    model: nn.Module, name: str, *, kind: str = "lora", seed: int = 0, **settings: Any
) -> ItemEmbedding:
    """Put an adapter in the place of an embedding, in place, on top of the embedding's own table.

    Parameters
    ----------
    model
        Any module; its weights are those all clients start from.
    name
        Dotted name of a `torch.nn.Embedding` in it.  Registered under several names, it is replaced
        under all of them.
    kind
        Registered name of the adapter.
    seed
        Seed of the adapter's subspace; the same on all clients and the server.
    settings
        The adapter's settings, such as ``rank=4`` or ``mode="compress"``.

    Returns
    -------
    ItemEmbedding
        The adapter: on the table's device, in its precision (a float64 table is rounded to
        float32).  Its parameters are what trains and travels.

    Raises
    ------
    InputError
        If there is no such embedding, or it does what an adapter cannot: its table is tied to
        another parameter or not finite, its padding vector is not zero, it renormalises (max_norm),
        scales gradients by frequency, or has a forward of its own.
    ConfigError
        If the adapter or a setting is unknown.

    Notes
    -----
    Nothing else changes: whether the rest of the model trains, and whether it travels, is up to the
    caller.  Optimisers made before hold the old table; make them afterwards.
    """
    old = _embedding(model, name)
    _check_replaceable(model, old, name)
    part = adapters.get(kind)
    config = parse(part.config, settings, kind)
    table = old.weight.detach()
    context = ItemContext(table.cpu(), seed, padding_idx=old.padding_idx)
    adapter = part.build(config, context).to(table.device, table.dtype)
    _put(model, old, adapter.train(old.training))
    return adapter


def merge_and_unload(model: nn.Module) -> nn.Module:
    """Merge every adapter of a model into a plain `torch.nn.Embedding`, in place; return the model.

    If `model` is an adapter itself, the embedding is returned.  The tables are trainable, on the
    device and in the precision of the adapters.

    Raises
    ------
    InputError
        If the model has no adapter, or a merged table holds NaN or infinity.  Nothing changed then.
    """
    plain: dict[ItemEmbedding, nn.Embedding] = {}
    for name, adapter in _adapters(model).items():
        table = adapter.merge().to(adapter.dtype)
        if not table.isfinite().all():
            raise InputError(
                f"{name or 'the adapter'} does not merge: its table holds NaN or infinity"
            )
        plain[adapter] = nn.Embedding.from_pretrained(
            table, freeze=False, padding_idx=adapter.padding_idx
        ).train(adapter.training)
    for adapter, embedding in plain.items():
        model = _put(model, adapter, embedding)
    return model


def save_pretrained(model: nn.Module, folder: Path) -> None:
    """Save the adapters of a model, one folder each by its name in the model; never the base.

    Raises
    ------
    InputError
        If the model has no adapter.
    """
    for name, adapter in _adapters(model).items():
        save(adapter, folder / name)


def from_pretrained(model: nn.Module, folder: Path) -> nn.Module:
    """Put saved adapters into a plain model, in place, bit for bit as saved; return the model.

    Parameters
    ----------
    model
        The model as it was before `replace_embedding`, with the same tables.

    Raises
    ------
    ArtifactError
        If there is no saved adapter, it is corrupt, or it was made for another table.  The model
        is as it was then.
    """
    found = sorted(
        path.parent for path in [*folder.glob("adapter.json"), *folder.glob("*/adapter.json")]
    )
    if not found:
        raise ArtifactError(f"{folder} holds no saved adapter (adapter.json)")
    loaded = {}
    for place in found:
        old = _embedding(model, "" if place == folder else place.name)
        loaded[old] = load(place, old.weight.detach()).to(old.weight.device).train(old.training)
    for old, adapter in loaded.items():
        model = _put(model, old, adapter)
    return model


def _embedding(model: nn.Module, name: str) -> nn.Embedding:
    """Return the `torch.nn.Embedding` called `name`."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = modules.get(name)
    if isinstance(found, nn.Embedding):
        return found
    known = ", ".join(repr(n) for n, m in modules.items() if isinstance(m, nn.Embedding)) or "none"
    said = "is missing" if found is None else f"is a {type(found).__name__}"
    raise InputError(f"{name!r} {said}, not a torch.nn.Embedding; the model's are: {known}")


def _check_replaceable(model: nn.Module, old: nn.Embedding, name: str) -> None:
    """Raise `InputError` if an adapter could not do what the embedding does."""
    own = {f"{place}.weight".strip(".") for place in _places(model, old)}
    tied = [
        parameter
        for parameter, tensor in model.named_parameters(remove_duplicate=False)
        if tensor is old.weight and parameter not in own
    ]
    padding = None if old.padding_idx is None else old.weight[old.padding_idx]
    obstacles = (
        (
            type(old).forward is not nn.Embedding.forward,
            f"{type(old).__name__} has its own forward",
        ),
        (bool(tied), f"its table is tied to {', '.join(tied)}; use the adapter's weight there"),
        (old.max_norm is not None, "max_norm changes the table at each look-up"),
        (old.scale_grad_by_freq, "scale_grad_by_freq is not supported"),
        (not bool(old.weight.isfinite().all()), "its table holds NaN or infinity"),
        (padding is not None and bool(padding.any()), "its padding vector is not zero"),
    )
    for holds, reason in obstacles:
        if holds:
            raise InputError(f"{name!r} cannot be replaced: {reason}")


def _adapters(model: nn.Module) -> dict[str, ItemEmbedding]:
    """Return the adapters of a model by name."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, ItemEmbedding)}
    if not found:
        raise InputError(f"{type(model).__name__} holds no adapter; see replace_embedding")
    return found


def _places(model: nn.Module, module: nn.Module) -> list[str]:
    """Return every name under which `module` stands in `model`; "" is the model itself."""
    return [n for n, m in model.named_modules(remove_duplicate=False) if m is module]


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` stands; return the model, which is `new` if it was `old`."""
    for name in _places(model, old):
        parent, _, attribute = name.rpartition(".")
        if name:
            setattr(model.get_submodule(parent), attribute, new)
    return new if model is old else model
