"""Commands for daily work on kafkaesk services; `kafkaesk --help` lists them."""
