"""A small stock ledger: what came in, what went out, what to order."""
