"""The sizes of the train data that settings are derived from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataStatistics:
    """What a server knows of the train data when it resolves settings.

    Attributes
    ----------
    users
        Clients in the population.  Public: the server enrols them.
    items
        Items of the catalogue.  Public: the server owns the catalogue.
    interactions
        Train interactions of all clients together.  Each client tells how many it has, so the sum
        is released in clear.  Under differential privacy it has to be paid for; every property
        below that depends on it inherits the price.
    """

    users: int
    items: int
    interactions: int

    @property
    def density(self) -> float:
        """Share of all user-item pairs that are train interactions, in [0, 1].

        Derived from `interactions`: released in clear, paid for under differential privacy.
        """
        return self.interactions / max(1, self.users * self.items)

    @property
    def per_item(self) -> float:
        """Mean number of train interactions of an item.

        Derived from `interactions`: released in clear, paid for under differential privacy.
        """
        return self.interactions / max(1, self.items)

    @property
    def per_user(self) -> float:
        """Mean number of train interactions of a user.

        Derived from `interactions`: released in clear, paid for under differential privacy.
        """
        return self.interactions / max(1, self.users)
