"""List prices from a published data set into the `list` book.

`source` reads the data set into neutral structs, `matching` pairs it with our catalog, `diff` compares pairs (pure),
`plan` gathers what an import would do, `write` does it.
"""

from ledger.price_import.plan import Plan, make_plan
from ledger.price_import.write import apply

__all__ = ["Plan", "apply", "make_plan"]
