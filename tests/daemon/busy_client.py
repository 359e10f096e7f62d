"""A client process for the test of nothing lost: hands in its jobs under fixed ids and saves each result."""

from __future__ import annotations

import sys
from pathlib import Path

from qied_client import Client

PROMPTS = ("make the red heart blue", "remove the red heart", "make the background green", "move the heart to the top")
SIZES = ((128, 128), (160, 128), (128, 192))


def main() -> None:
    """Arguments: key file, picture, output folder, this client's number, how many jobs it has."""
    key, picture, out, number, count = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:6])
    with Client(key, patience=240.0) as client:
        jobs = []
        for index in range(count):
            serial = number * count + index
            width, height = SIZES[serial % len(SIZES)]
            jobs.append(
                client.submit(
                    picture,
                    PROMPTS[serial % len(PROMPTS)],
                    job_id=f"client-{number}-job-{index}",
                    seed=serial,
                    steps=2 + serial % 3,
                    true_cfg_scale=1.0 + serial % 2,
                    width=width,
                    height=height,
                    output_format="webp" if serial % 5 == 0 else "png",
                )
            )
        for job in jobs:
            (out / job.id).write_bytes(job.result().bytes)


if __name__ == "__main__":
    main()
