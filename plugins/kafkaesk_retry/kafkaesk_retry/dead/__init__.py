"""The command `kafkaesk dead`: what is in the streams of dead letters, and what to do with it."""
