"""The extensions of kafkaesk 0.8."""
