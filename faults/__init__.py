"""Faults against real brokers and processes, and what each costs; README.md says how."""
