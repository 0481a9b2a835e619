"""The publishing engine: a message to bytes, to its batch, to a delivery."""
