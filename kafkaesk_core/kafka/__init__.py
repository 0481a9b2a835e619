"""The one package that speaks to aiokafka clients."""
