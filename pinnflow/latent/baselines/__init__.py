"""Flows to compare with, all in the interface of `Flow`; `registry.py` finds them by name."""

from pinnflow.latent.baselines.registry import baseline, baselines, register_baseline

__all__ = ["baseline", "baselines", "register_baseline"]
