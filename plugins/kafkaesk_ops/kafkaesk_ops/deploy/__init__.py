"""The files of `kafkaesk deploy`, generated from an application's settings."""
