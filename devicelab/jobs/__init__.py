"""One thing done on one device, from start to end."""
