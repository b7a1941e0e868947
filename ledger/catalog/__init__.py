"""The catalog as a file: providers, models, aliases, prices, limits, teams, users and keys declared in YAML.

`schema` says what a file may hold, `parsing` reads one, `references` finds what does not fit together, `applying`
makes the database agree with it, `changes` tells what that changed, `exporting` writes the same form back.
"""

from ledger.catalog.applying import Outcome, apply
from ledger.catalog.exporting import export
from ledger.catalog.parsing import CatalogError, parse

__all__ = ["CatalogError", "Outcome", "apply", "export", "parse"]
