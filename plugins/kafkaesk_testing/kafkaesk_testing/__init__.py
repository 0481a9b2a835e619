"""Embedded broker, pytest fixtures and the conformance kit of kafkaesk."""
