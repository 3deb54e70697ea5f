"""Which devices there are and what they are; how one is opened, read, built for and kept at work."""
