"""Latent spaces of image generators, explored as flows of learned potentials that obey a declared equation."""
