"""The publishing engine: encodes a message, puts it into a batch, returns a delivery."""
