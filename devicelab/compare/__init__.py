"""What changed: two campaigns, or many nights."""
