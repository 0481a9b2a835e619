"""The command `kafkaesk logs`."""
