"""Brain tissue maps from a few MRI contrasts, by inverting a simulated scanner."""
