"""What the scanner plays: contrasts, chains and protocols, and the pulse sequences behind them.

Two-dimensional simulation: slice-select gradients are not played, so a slice thickness is nominal.
"""
