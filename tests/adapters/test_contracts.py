"""The adapters this project ships keep the contract."""

from __future__ import annotations

from typing import ClassVar

from fedpeft.testing import AdapterContract


class TestFull(AdapterContract):
    kind = "full"
    values = staticmethod(lambda n, k: n * k)
    compresses = False
    ndcg_floor = 0.75
    compress_floor = 0.75


class TestLoRA(AdapterContract):
    kind = "lora"
    config: ClassVar = {"rank": 4}
    values = staticmethod(lambda n, k: n * 4 + 4 * k)
    ndcg_floor = 0.8
    compress_floor = 0.8


class TestLoRAWithZeroA(TestLoRA):
    config: ClassVar = {"rank": 4, "zero": "A"}


class TestHash(AdapterContract):
    kind = "hash"
    config: ClassVar = {"rows": 64, "hashes": 2}
    values = staticmethod(lambda n, k: 64 * k)
    ndcg_floor = 0.9


class TestHashSENet(AdapterContract):
    kind = "hash"
    config: ClassVar = {"rows": 64, "hashes": 2, "pooling": "senet"}
    values = staticmethod(lambda n, k: 64 * k + 4)
    ndcg_floor = 0.9


class TestRQ(AdapterContract):
    kind = "rq"
    config: ClassVar = {"levels": 2, "codes": 16}
    values = staticmethod(lambda n, k: 2 * 16 * k)
    ndcg_floor = 0.6
