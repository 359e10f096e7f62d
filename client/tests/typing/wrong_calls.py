"""Calls that a strict type checker refuses, each in the line that says so; nothing here is ever run."""

from __future__ import annotations

import io

from qied_client import AsyncClient, Client, EditOptions, Result


def options(client: Client, chosen: EditOptions) -> None:
    client.edit("x.png", "y", sede=3)  # wrong: misspelt
    client.edit("x.png", "y", num_inference_steps=20)  # wrong: the name that diffusers has
    client.edit("x.png", "y", strength=0.5)  # wrong: there is no such thing
    client.edit("x.png", "y", steps="forty")  # wrong: text for a number
    client.edit("x.png", "y", steps=4.0)  # wrong: not whole
    client.edit("x.png", "y", true_cfg_scale="4")  # wrong: text for a number
    client.edit("x.png", "y", on_cap="shrink")  # wrong: 'refuse' or 'fit'
    client.edit("x.png", "y", output_format="gif")  # wrong: 'png', 'webp' or 'jpeg'
    client.edit("x.png", "y", previews=None)  # wrong: true or false
    client.edit("x.png", "y", priority="high")  # wrong: text for a number
    client.edit("x.png", "y", loras={"style": "strong"})  # wrong: text for a strength
    client.edit("x.png", "y", loras=[("style", 0.5, 1)])  # wrong: three for a pair
    client.edit("x.png", "y", mask=3)  # wrong: not a picture
    client.edit("x.png", "y", timeout="5 s")  # wrong: text for seconds
    client.edit("x.png", "y", on_progress=lambda: None)  # wrong: it gets the news
    chosen["sede"] = 3  # wrong: misspelt
    client.submit("x.png", "y", step=4)  # wrong: misspelt
    client.submit("x.png", "y", seed="7")  # wrong: text for a number
    client.quote("x.png", "y", timeout=5)  # wrong: an argument of edit


def arguments(client: Client) -> None:
    client.edit(3, "y")  # wrong: not a picture
    client.edit("x.png")  # wrong: no prompt
    client.edit(io.StringIO("x.png"), "y")  # wrong: in text mode
    client.edit("x.png", "y", n="4")  # wrong: text for a number
    client.edit("x.png", "y", n=2).save("x.png")  # wrong: a list


def answers(client: Client, result: Result) -> None:
    print(result.heigth)  # wrong: misspelt
    result.save("x.jpg", quality="high")  # wrong: text for a number
    client.session("x.png").edit("y", stepps=4)  # wrong: misspelt


async def asynchronous(client: AsyncClient) -> None:
    client.submit("x.png", "y")  # wrong: await is missing
    result: Result = client.edit("x.png", "y")  # wrong: await is missing
    await client.edit("x.png", "y", seed=result)  # wrong: not a number
