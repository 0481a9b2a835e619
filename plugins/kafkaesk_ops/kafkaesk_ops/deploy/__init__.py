"""What `kafkaesk deploy` writes: files to run an application with, made from its settings."""
