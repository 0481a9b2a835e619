"""`python -m kafkaesk_core` is the command `kafkaesk`."""

from .cli import main

if __name__ == "__main__":
    main()
