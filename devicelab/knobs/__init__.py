"""What can be set on a device: one module a family."""
