"""Run the command `kafkaesk` with `python -m kafkaesk_core`."""

from .cli import main

if __name__ == "__main__":
    main()
