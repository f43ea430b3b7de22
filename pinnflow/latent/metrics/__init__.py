"""Measures of traversals: what was walked, what changed, and beside which controls that has to be read."""
