import unittest

from inventory.ledger import Ledger, OutOfStock


class LedgerTest(unittest.TestCase):
    def test_what_came_in_less_what_went_out(self):
        ledger = Ledger()
        ledger.receive("bolts", 12)
        ledger.ship("bolts", 5)
        self.assertEqual(ledger.on_hand["bolts"], 7)

    def test_no_more_goes_out_than_is_there(self):
        ledger = Ledger()
        ledger.receive("nuts", 2)
        with self.assertRaises(OutOfStock):
            ledger.ship("nuts", 3)
        self.assertEqual(ledger.on_hand["nuts"], 2)
