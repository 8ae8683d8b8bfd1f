"""Contract suites for adapters, backbones, losses and transforms, own or third-party.

A test module subclasses a contract and says what it tests::

    from fedpeft.testing import AdapterContract

    class TestLoRA(AdapterContract):
        kind = "lora"
        config = {"rank": 4}
        values = staticmethod(lambda n, k: 4 * (n + k))  # what travels
        ndcg_floor = 0.9

pytest then runs every check of the contract against the registered part, down to a quality floor
on a data set whose right answer is known.  Needs pytest.
"""

import pytest

for _module in ("adapter", "backbone", "drop_in", "loss", "backends", "subspace", "transform"):
    pytest.register_assert_rewrite(f"fedpeft.testing.{_module}")

from fedpeft.testing.adapter import AdapterContract  # noqa: E402
from fedpeft.testing.backbone import BackboneContract  # noqa: E402
from fedpeft.testing.backends import assert_backends_agree, backends_for  # noqa: E402
from fedpeft.testing.loss import LossContract  # noqa: E402
from fedpeft.testing.toy import Toy, block_split, hand_split, quality  # noqa: E402
from fedpeft.testing.transform import TransformContract  # noqa: E402

__all__ = [
    "AdapterContract",
    "BackboneContract",
    "LossContract",
    "Toy",
    "TransformContract",
    "assert_backends_agree",
    "backends_for",
    "block_split",
    "hand_split",
    "quality",
]
