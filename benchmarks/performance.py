"""Writes docs/performance.md from the results of forward.py, vae.py and serve_edit.py; measures nothing itself."""

from __future__ import annotations

import argparse
import sys

from performance_bench.page import write_page


def main() -> int:
    """Write the page, or compare it; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/performance.md from the results.")
    parser.add_argument("--page", action="store_true", help="what it does anyway")
    parser.add_argument("--check", action="store_true", help="only compare")
    return write_page(check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
