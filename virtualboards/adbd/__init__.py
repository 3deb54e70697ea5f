"""The device side of adb: what adbd is on a phone, over TCP on the loopback interface."""
