"""What can be run on a device: one module a program."""
