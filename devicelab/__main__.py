"""``python -m devicelab``: the same as the command ``devicelab``."""

from devicelab.cli import main

if __name__ == "__main__":
    main()
