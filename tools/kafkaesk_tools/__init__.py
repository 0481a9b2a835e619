"""Commands for developers of kafkaesk."""
