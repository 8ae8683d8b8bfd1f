"""The sizes of the train data that settings are derived from."""

from __future__ import annotations

from dataclasses import dataclass

RATIO = 4.0
"""Weight of all pairs together against that of the observed ones (chosen on validation)."""


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

    @property
    def unobserved_weight(self) -> float:
        """Weight of the squared score of every pair in a least-squares loss, a0: 4 times the
        density.

        Derived from `interactions`: released in clear, paid for under differential privacy.
        """
        return RATIO * self.density

    @property
    def frequency_decay(self) -> float:
        """Frequency-scaled decay, lambda: 1 / (4 l), with l the mean history.

        Unobserved items weigh four times as much as a client's own in all, so the penalty of a
        user's vector weighs about as much as one interaction.  The best decay was 0.001 to 0.003
        with 100 to 165 interactions, and 0.03 to 0.05 with 5.

        Derived from `interactions`: released in clear, paid for under differential privacy.
        """
        return 1 / (RATIO * max(1.0, self.per_user))
