"""Real scans: measured images in, tissue maps out."""
