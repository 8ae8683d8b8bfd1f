"""The contract of an adapter, down to a quality floor, on an own one: ``pytest examples``."""

from own_adapter import Quotient

from fedpeft.testing import AdapterContract


class TestQuotient(AdapterContract):
    kind, config = Quotient.kind, {"rows": 4}
    values = staticmethod(lambda n, k: (4 + -(-n // 4)) * k)
    ndcg_floor = 0.9
