"""The command `kafkaesk dead`: shows, replays, drops and exports dead letters."""
