"""How to reach a device: one module a way."""
