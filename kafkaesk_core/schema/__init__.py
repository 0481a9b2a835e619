"""Schemas of messages: registration, the envelope, validation."""
