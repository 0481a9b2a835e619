"""Commands for every day with services of kafkaesk; `kafkaesk --help` lists them."""
