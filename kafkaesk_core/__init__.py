"""Publish and subscribe to events with Python and Kafka."""
