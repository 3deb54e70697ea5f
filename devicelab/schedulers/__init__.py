"""Ways to share one GPU or CPU between tenants: one module each."""
