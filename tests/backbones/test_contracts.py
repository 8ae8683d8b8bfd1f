"""The backbones this project ships keep the contract."""

from __future__ import annotations

from typing import ClassVar

from fedpeft.testing import BackboneContract


class TestFedMF(BackboneContract):
    kind = "fedmf"
    ndcg_floor = 0.9


class TestFedMFLeastSquares(BackboneContract):
    kind = "fedmf"
    loss = ("ials", {"alpha0": 0.2})
    training: ClassVar = {"private": "solve", "private_steps": 0, "private_decay": 0.1}
    ndcg_floor = 0.85
