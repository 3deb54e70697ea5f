"""Crash consistency: faults at seeded random instants of a sweep, and whether anything is lost or left behind."""
