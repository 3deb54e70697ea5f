"""How many mistakes the fast tests notice: ``python -m tests.mutation``."""
