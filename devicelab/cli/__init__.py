"""The Typer skin: one file a command group, no logic; main is the one place that catches LabError."""
