"""What the names of kafkaesk 0.8 stand for; applications import them from `kafkaesk`."""
