"""Our books against the provider's own: what both say of each UTC day, model and meter, and where they differ.

`export` is what any provider's file becomes; `openai`, `anthropic` and `mapped` read files into it, `reading` picks one
by what a file looks like. `books` reads our calls, `grouping` finds the grain that both sides know, `matching` classes
each group (pure), `reconciling` puts these together. `spreading` splits a difference over calls (pure), `posting`
writes adjustments, `proposing` drafts price sheets, `runs` keeps what was uploaded.
"""

from ledger.reconcile.export import Export, ExportError, Line, Problem
from ledger.reconcile.matching import Class, Difference, Report
from ledger.reconcile.posting import Posted, post
from ledger.reconcile.reading import SourceFile, read
from ledger.reconcile.reconciling import reconcile

__all__ = [
    "Class",
    "Difference",
    "Export",
    "ExportError",
    "Line",
    "Posted",
    "Problem",
    "Report",
    "SourceFile",
    "post",
    "read",
    "reconcile",
]
