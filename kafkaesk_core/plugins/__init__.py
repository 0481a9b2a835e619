"""Plugins: found, checked, ordered, and compiled into chains."""
