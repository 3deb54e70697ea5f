"""Virtual boards: an adb device with a board's /sys and /proc, for a try-out and for tests."""

PACKAGES = "Debian and Ubuntu: apt-get install fuse3 mksh toybox qemu-user-static"
"""What to do where something of the system's is missing."""
