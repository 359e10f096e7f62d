"""``python -m qied_client.web``: the same as ``qied-client web``."""

import sys

from qied_client.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "web")
    main()
