"""Many devices, every night: job file, selectors, schedule, health, recovery, and the conductor of a night.

- ``job`` reads and checks ``farm.toml``; ``selectors`` finds the devices it means; ``schedule`` says what runs where
  and when (pure); ``estimate`` how long it takes.
- ``health`` looks at a device, ``recover`` gets one back, ``task`` runs one experiment on one device.
- ``engine`` is where tasks are executed (threads of this process, or workers on other hosts); ``night`` conducts.
"""
