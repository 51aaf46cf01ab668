"""Simpler ways to tissue maps, given the same data and the same knowledge."""
