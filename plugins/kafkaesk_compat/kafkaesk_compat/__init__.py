"""The objects behind the names of kafkaesk 0.8; applications import them from `kafkaesk`."""
