"""Stock on hand, as the sum of all movements."""

from collections import defaultdict
from dataclasses import dataclass, field


class OutOfStock(Exception):
    """More was taken out than there is."""


@dataclass
class Ledger:
    on_hand: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def receive(self, item: str, count: int) -> None:
        if count <= 0:
            raise ValueError(f"cannot receive {count} of {item}")
        self.on_hand[item] += count

    def ship(self, item: str, count: int) -> None:
        if count > self.on_hand[item]:
            raise OutOfStock(f"{item}: {count} wanted, {self.on_hand[item]} there")
        self.on_hand[item] -= count
