"""The desk's base classes, for pages of the gateway; they live where providers and ledger may import them too."""

from providers.admin_base import DeskAdmin, DeskInline, ReadOnlyAdmin, ReadOnlyInline

__all__ = ["DeskAdmin", "DeskInline", "ReadOnlyAdmin", "ReadOnlyInline"]
