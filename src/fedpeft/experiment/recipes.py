"""The two recipes: what they set otherwise than the settings' own defaults."""

from __future__ import annotations

from typing import Any, Literal

Recipe = Literal["fedpeft", "paper"]

_PAPER: dict[str, Any] = {
    # Two local epochs of one full-batch Adam step over everything, averaged by samples (FedAvg).
    "refresh_every": 0,
    "local": "gradient",
    "local_optimizer": {"kind": "adam", "lr": 0.01},
    "local_decay": 0.0,
    "payload_steps": 2,
    "payload_optimizer": {"kind": "adam", "lr": 0.01},
    "joint": True,
    "server_optimizer": {"kind": "sgd", "lr": 1.0},
    "inference": "stored",
}
_RECENCY = {"half_life": 5.0, "floor": 0.1}
_SOLVE: dict[str, Any] = {
    "recency": _RECENCY,
    "local_decay": 1.0,
    "server_schedule": "cosine",
    "item_decay": None,
}
_GRADIENT: dict[str, Any] = {
    "recency": _RECENCY,
    "server_schedule": "cosine",
    "local": "gradient",
    "local_steps": 3,
    "local_optimizer": {"kind": "adam", "lr": 0.03},
    "local_decay": 3e-4,
    "item_decay": 7e-4,
}


# Values are as narrow as costs no accuracy on validation.  In 8 bits the rounds of a warm-up are
# cheap.
_ADAPTER: dict[str, Any] = {
    "encoding": "int8",
    "download_encoding": "int8",
    "warmup_rounds": 100,
}
_ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": _ADAPTER,
    "hash": {"refresh_every": 25, **_ADAPTER},
    "rq": {"refresh_every": 25, **_ADAPTER},
}
# With least squares local parameters are solved for exactly, which allows larger steps: 40 such
# rounds end near the full table.
_WARMUP: dict[str, Any] = {
    "warmup_rounds": 40,
    "warmup_optimizer": {"lr": 0.05, "beta1": 0.8, "beta2": 0.9},
}
# An adapter that starts anew every M rounds has less time than the full table, so it moves faster.
_LEAST_SQUARES: dict[str, dict[str, Any]] = {
    "lora": {"server_optimizer": {"lr": 0.05}, **_WARMUP},
    # On sparse data about a hundred items share a row; the larger eps keeps the rare ones in place,
    # while what moves the others is large.
    "hash": {"server_optimizer": {"lr": 0.04}, "sparse_eps": 0.01, **_WARMUP},
    "rq": _WARMUP,
}


_OF_ADAPTERS: dict[tuple[Recipe, str], dict[str, Any]] = {
    ("fedpeft", "lora"): {"zero": "A"},
    ("paper", "rq"): {"source": "text"},  # its codes are the RQ-VAE's, made before any training
}


def adapter_defaults(recipe: Recipe, adapter: str) -> dict[str, Any]:
    """Return the settings of an adapter that a recipe sets otherwise than the adapter itself."""
    return _OF_ADAPTERS.get((recipe, adapter), {})


def recipe_defaults(
    recipe: Recipe, adapter: str, *, linear: bool, least_squares: bool
) -> dict[str, Any]:
    """Return the settings of a recipe that differ from `TrainingConfig`'s own defaults.

    Parameters
    ----------
    recipe
        `fedpeft` (local-first with a server optimiser and merge-and-refresh) or `paper`.
    adapter
        Registered name of the adapter.
    linear
        Whether item vectors are linear in the adapter; see `AdapterConfig.linear`.
    least_squares
        Whether the local problem has an exact solution.
    """
    if recipe == "paper":
        return _PAPER
    ours = _SOLVE if least_squares else _GRADIENT
    found = ours | _ADAPTERS.get(adapter, {})
    if least_squares:
        found |= _LEAST_SQUARES.get(adapter, {})
        if not linear and adapter in _ADAPTERS:
            # rounding takes an update of each client's own, and without the short cut of
            # `fedpeft.simulation.unobserved` each then scores all items
            found |= {"encoding": "float32"}
    return found
