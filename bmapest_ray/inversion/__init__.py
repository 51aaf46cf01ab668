"""Tissue maps from measured images: one composed objective, its solvers, priors and error bars."""
