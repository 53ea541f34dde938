import unittest

from inventory.ledger import Ledger
from inventory.reorder import Rule, orders, packs_needed


class ReorderTest(unittest.TestCase):
    def test_full_packs(self):
        self.assertEqual(packs_needed(20, 10), 2)

    def test_a_broken_pack_counts_as_a_whole_one(self):
        self.assertEqual(packs_needed(25, 10), 3)

    def test_an_order_brings_the_stock_to_its_minimum(self):
        ledger = Ledger()
        ledger.receive("bolts", 93)
        rule = Rule("bolts", minimum=100, pack_size=50)
        packs = orders(ledger, [rule])["bolts"]
        self.assertGreaterEqual(93 + packs * rule.pack_size, rule.minimum)

    def test_what_is_there_is_not_ordered(self):
        ledger = Ledger()
        ledger.receive("nuts", 10)
        self.assertEqual(orders(ledger, [Rule("nuts", minimum=10, pack_size=5)]), {})
