"""Injects faults into real brokers and processes, and measures the cost; see README.md."""
