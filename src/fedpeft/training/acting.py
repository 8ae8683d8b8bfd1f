"""Conditions under which settings of the training act, by key; `ConfigModel.acting` says how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedpeft.config import ActsIf


def _steps_locally(training: Any) -> bool:
    """Return whether local parameters move by gradient."""
    return bool(training.joint) or (training.local == "gradient" and training.local_steps > 0)


def _takes_several(training: Any) -> bool:
    """Return whether one local optimiser takes more than one step."""
    apart = training.local == "gradient" and training.local_steps > 1
    return apart or (bool(training.joint) and training.payload_steps > 1)


def _has_open_adam(training: Any) -> bool:
    """Return whether an optimiser of the server leaves eps to the data."""
    used = [training.server_optimizer]
    if training.warmup_rounds and training.warmup_optimizer is not None:
        used.append(training.warmup_optimizer)
    return any(optimizer.kind == "adam" and optimizer.open for optimizer in used)


_LOCAL = ActsIf("local parameters that move by gradient (local_steps or joint)", _steps_locally)
_SEVERAL = ActsIf("more than one local step, as each round begins afresh", _takes_several)
_PAYLOAD = ActsIf(
    "payload_steps above 1, as each round begins afresh",
    lambda training: training.payload_steps > 1,
)

ACTING: Mapping[str, ActsIf] = {
    "local_steps": ActsIf("local = 'gradient'", lambda training: training.local == "gradient"),
    "local_optimizer": _LOCAL,
    "local_optimizer.momentum": _SEVERAL,
    "local_optimizer.beta1": _SEVERAL,
    "local_optimizer.beta2": _SEVERAL,
    "local_schedule": _LOCAL,
    "local_halving": ActsIf(
        "local_schedule = 'inverse'", lambda training: training.local_schedule == "inverse"
    ),
    "payload_optimizer.momentum": _PAYLOAD,
    "payload_optimizer.beta1": _PAYLOAD,
    "payload_optimizer.beta2": _PAYLOAD,
    "warmup_optimizer": ActsIf(
        "warmup_rounds above 0", lambda training: training.warmup_rounds > 0
    ),
    "actions": ActsIf("upload = 'actions'", lambda training: training.upload == "actions"),
    "sparse_eps": ActsIf("an Adam of the server that sets no eps itself", _has_open_adam),
    "relative_item_decay": ActsIf(
        "item_decay to be left open", lambda training: training.item_decay is None
    ),
}
