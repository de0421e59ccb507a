"""``python -m selfreward``: the command line."""

from selfreward.cli import main

if __name__ == "__main__":
    main()
