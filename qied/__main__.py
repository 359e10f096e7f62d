"""``python -m qied`` is ``qied``."""

from qied.cli.main import main

if __name__ == "__main__":
    main()
