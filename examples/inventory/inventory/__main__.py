"""`python3 -m inventory FILE`: reads movements (`+12 bolts` or `-3 nuts` a line), prints the stock."""

import sys

from inventory.ledger import Ledger, OutOfStock


def main(path: str) -> int:
    ledger = Ledger()
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            count, item = line.split()
            try:
                if int(count) >= 0:
                    ledger.receive(item, int(count))
                else:
                    ledger.ship(item, -int(count))
            except OutOfStock as error:
                print(f"{path}, line {number}: {error}", file=sys.stderr)
                return 1
    for item, count in sorted(ledger.on_hand.items()):
        print(f"{item:<12}{count:>6}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
