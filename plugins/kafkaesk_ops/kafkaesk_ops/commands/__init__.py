"""The commands of the package; their work is imported when they are called."""
