"""Virtual boards: an adb device with a board's /sys and /proc, for a try-out and for tests."""
