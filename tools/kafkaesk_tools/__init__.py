"""Commands for those who develop kafkaesk."""
