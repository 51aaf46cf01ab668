"""Which protocol measures tissue fractions best: Cramer-Rao bounds, selection, optimisation."""
