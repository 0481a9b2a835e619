"""The commands of the package; the modules that do the work are imported when a command runs."""
