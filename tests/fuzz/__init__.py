"""Fuzzing: what reads texts from devices and files meets nonsense; see ``python -m tests.fuzz --help``."""
