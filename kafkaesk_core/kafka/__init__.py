"""The only package that uses aiokafka's clients."""
