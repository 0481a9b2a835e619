"""`python -m faults`, which `uv run faults` calls."""

from .command import main

if __name__ == "__main__":
    main()
