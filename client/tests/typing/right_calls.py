"""Calls that a strict type checker has nothing against; nothing here is ever run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from qied_client import (
    AsyncClient,
    Client,
    Credential,
    EditOptions,
    Job,
    JobStatus,
    JobSummary,
    LoraChoice,
    Picture,
    Pictures,
    Progress,
    QiedError,
    Quoted,
    Result,
    StatusReport,
    Turn,
    Welcome,
    errors,
)


def pictures(client: Client, image: Image.Image, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    client.edit("before.png", "Make it night.")
    client.generate("A lighthouse.", width=1664, height=928).save("lighthouse.png")
    client.generate("A lighthouse.", n=2)[0].save("one.png")
    client.edit(Path("before.png"), "Make it night.")
    client.edit(b"png", "Make it night.")
    client.edit(io.BytesIO(b"png"), "Make it night.")
    client.edit(image, "Make it night.")
    client.edit(array, "Make it night.", mask=array[:, :, 0])
    client.edit(["before.png", image, array], "Put them together.")
    with Path("before.png").open("rb") as file:
        client.edit(file, "Make it night.", mask=file)


def options(client: Client) -> Result:
    client.edit("x.png", "y", seed=7, steps=4, true_cfg_scale=1, negative_prompt="blur", preset="draft")
    client.edit("x.png", "y", width=1024, height=768, on_cap="fit", output_format="webp", previews=False)
    client.edit("x.png", "y", seed=None, steps=None, width=None, height=None, preset=None, precision=None, mask=None)
    client.edit("x.png", "y", loras="style", priority=-3, preemptible=True)
    client.edit("x.png", "y", loras=("style", 0.5))
    client.edit("x.png", "y", loras={"style": 0.5, "folder/other": 1})
    client.edit("x.png", "y", loras=["style", ("other", 0.5), {"third": 2}, LoraChoice("fourth", 1.5)])
    chosen: EditOptions = {"seed": 7, "loras": {"style": 0.5}}
    chosen["steps"] = 20
    return client.edit("x.png", "y", timeout=60.0, on_progress=lambda news: print(news.kind, news.done), **chosen)


def results(client: Client) -> list[Path]:
    result: Result = client.edit("x.png", "y", job_id="mine")
    facts: tuple[int, int, int, str, tuple[str, ...]] = (
        result.width,
        result.seed,
        result.steps,
        result.precision,
        result.warnings,
    )
    print(result.image.size, result.bytes[:8], result.timings.get("held_ms"), facts)
    many: list[Result] = client.edit("x.png", "y", n=4)
    return [each.save(f"{each.seed}.jpg", quality=90) for each in many]


def jobs(client: Client) -> None:
    job: Job = client.submit("x.png", "y", job_id="mine", seed=7)
    news: list[Progress] = list(job.events())
    status: JobStatus = job.status()
    rows: list[JobSummary] = client.jobs(limit=None)
    print(job.id, job.turn, news, status.state, rows[0].accepted_at, job.result(timeout=5).save(Path("out.png")))


def facts(client: Client, picture: Picture, several: Pictures) -> tuple[Quoted, StatusReport, Welcome]:
    quoted = client.quote(several, "y", mask=picture, width=512, height=512)
    print(quoted.milliseconds, quoted.warnings)
    return quoted, client.status(everyone=True), client.welcome


def session(client: Client) -> tuple[Turn, ...]:
    turns = client.session("x.png", name="mine")
    turns.edit("Make it night.", base=0, timeout=5, seed=1, loras=[("style", 0.5)])
    turns.submit("Make it day.", job_id="day", steps=4, on_progress=print).result()
    print(turns.undo() + turns.head, turns.result(1).media_type)
    return turns.history()


async def asynchronous(credential: Credential) -> Result:
    async with AsyncClient(credential, address="tcp://host:7447", patience=1.5) as client:
        job = await client.submit("x.png", "y", seed=7, mask=b"png")
        async for news in job.events():
            print(news.remaining_ms)
        turns = await client.session(b"png")
        await turns.edit("Make it night.", true_cfg_scale=4.0)
        many: list[Result] = await client.edit("x.png", "y", n=2, seed=1)
        return many[0] if many else await client.edit("x.png", "y", output_format="png", priority=1)


def failures(client: Client) -> str:
    try:
        client.edit("x.png", "y")
    except errors.AboveCap as error:
        return error.remedy
    except QiedError as error:
        return error.code if error.retry else error.message
    return ""
