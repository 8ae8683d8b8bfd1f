"""Finding embeddings and adapters in a model, and putting one in the place of another."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from fedpeft.adapters.base import ItemEmbedding
from fedpeft.adapters.checks import table_fault
from fedpeft.errors import InputError


def adapters_of(model: nn.Module) -> dict[str, ItemEmbedding]:
    """Return the adapters of a model, each once, by the first of its names.

    Raises
    ------
    InputError
        If it has none.
    """
    found = {n: m for n, m in model.named_modules() if isinstance(m, ItemEmbedding)}
    if not found:
        raise InputError(f"{type(model).__name__} holds no adapter; see replace_embedding")
    return found


def replaceable(model: nn.Module, name: str) -> nn.Embedding:
    """Return the embedding called `name`.

    Raises
    ------
    InputError
        If there is none, or it does what an adapter cannot.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = modules.get(name)
    if not isinstance(found, nn.Embedding):
        raise InputError(f"{name!r} {_said(found)}; {_known(modules)}")
    fault = _fault(model, found, name)
    if fault is not None:
        raise InputError(f"{name!r} cannot be replaced: {fault}")
    return found


def _said(found: nn.Module | None) -> str:
    if found is None:
        return "is missing"
    if isinstance(found, nn.EmbeddingBag):
        return (
            "is an EmbeddingBag, which looks up and pools at once; make it an nn.Embedding and "
            "pool what it returns, such as embedding(ids).mean(-2)"
        )
    if isinstance(found, ItemEmbedding):
        return "is an adapter already; merge_and_unload makes it an nn.Embedding again"
    return f"is of class {type(found).__name__}, not a torch.nn.Embedding"


def _known(modules: dict[str, nn.Module]) -> str:
    names = [repr(name) for name, module in modules.items() if isinstance(module, nn.Embedding)]
    return f"the model's embeddings are: {', '.join(names) or 'none'}"


def _fault(model: nn.Module, old: nn.Embedding, name: str) -> str | None:
    """Return why an adapter could not do what the embedding does, and what to do; or None."""
    own = {
        f"{place}.weight".strip(".") for twin in twins(model, old) for place in places(model, twin)
    }
    tied = [
        parameter
        for parameter, tensor in model.named_parameters(remove_duplicate=False)
        if tensor is old.weight and parameter not in own
    ]
    hooks = (old._forward_hooks, old._forward_pre_hooks, old._backward_hooks)
    if parametrize.is_parametrized(old):
        return "it is parametrized; torch.nn.utils.parametrize.remove_parametrizations ends that"
    if type(old).forward is not nn.Embedding.forward:
        return f"{type(old).__name__} has its own forward, which would be lost"
    if any(hooks):
        return "it has hooks, which would be lost; remove them, and register them on the adapter"
    if tied:
        return (
            f"its table is tied to {', '.join(tied)}; leave that parameter out of the model and "
            f"use weight there, as in torch.nn.functional.linear(x, {name or 'embedding'}.weight)"
        )
    if old.max_norm is not None:
        return (
            "max_norm rewrites the table at each look-up; set it to None, and shorten the vectors "
            "that the look-up returns, such as torch.nn.functional.normalize(vectors, dim=-1)"
        )
    return table_fault(old.weight.detach(), old.padding_idx)


def twins(model: nn.Module, old: nn.Module) -> list[nn.Module]:
    """Return the embeddings of a model that are `old`, or share its table and its ways."""
    if not isinstance(old, nn.Embedding):
        return [old]
    return [
        module
        for module in model.modules()
        if type(module) is type(old)
        and module.weight is old.weight
        and module.padding_idx == old.padding_idx
        and module.scale_grad_by_freq == old.scale_grad_by_freq
    ]


def places(model: nn.Module, module: nn.Module) -> list[str]:
    """Return every name under which `module` stands in `model`; "" is the model itself."""
    return [n for n, m in model.named_modules(remove_duplicate=False) if m is module]


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` where `old` or a twin stands; return the model, which is `new` if it was `old`."""
    for name in [name for twin in twins(model, old) for name in places(model, twin)]:
        parent, _, attribute = name.rpartition(".")
        if name:
            setattr(model.get_submodule(parent), attribute, new)
    return new if model is old else model
