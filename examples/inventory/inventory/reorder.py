"""What to order: suppliers sell whole packs only."""

from dataclasses import dataclass

from inventory.ledger import Ledger


@dataclass(frozen=True)
class Rule:
    """Keep at least `minimum` pieces of an item that comes in packs of `pack_size`."""

    item: str
    minimum: int
    pack_size: int


def packs_needed(missing: int, pack_size: int) -> int:
    """The least number of packs that holds `missing` pieces."""
    return missing // pack_size


def orders(ledger: Ledger, rules: list[Rule]) -> dict[str, int]:
    """Packs to order for each item that is below its minimum."""
    result = {}
    for rule in rules:
        missing = rule.minimum - ledger.on_hand[rule.item]
        if missing > 0:
            result[rule.item] = packs_needed(missing, rule.pack_size)
    return result
