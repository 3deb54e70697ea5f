"""Board kinds, one TOML each."""
