"""The entry point `python -m faults`; `uv run faults` calls it."""

from .command import main

if __name__ == "__main__":
    main()
