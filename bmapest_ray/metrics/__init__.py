"""How close estimated tissue maps are to the true ones."""
