"""What everything stands on: plug-ins and data files by name, files, safe text, the user, interruption."""
