"""Tissue fractions of real heads: volumes, axial slices, cohorts, NIfTI files."""
