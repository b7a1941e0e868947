"""Batches: many requests in one file, carried out by workers; every line is a call like any other."""
