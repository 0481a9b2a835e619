"""Reads records of a stream without a consumer group: positions, filters and output."""
