"""Generators `z -> images`: with known factors, trained on the spot, or read from files."""
