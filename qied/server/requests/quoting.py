"""QUOTE: what an edit would cost."""

from __future__ import annotations

from qied_client.errors import InvalidRequest
from qied_client.protocol import messages as m

from qied.planning.requests.request_defaults import admitted, resolve
from qied.server.requests.front_services import FrontServices


async def quote(desk: FrontServices, message: m.Quote) -> m.Quoted:
    """The plan and the price of a request; raises InvalidRequest and its kinds."""
    request = message.request.validated()
    sizes = [(size.width, size.height) for size in message.sizes]
    if len(sizes) != len(request.images):
        raise InvalidRequest("sizes: one for each picture.", "Give width and height of every image.", field="sizes")
    if (message.canvas is None) != (request.canvas is None):
        raise InvalidRequest(
            "canvas: a request with a canvas is quoted with the canvas's size, and no other is.",
            "Give both, or neither.",
            field="canvas",
        )
    canvas = None if message.canvas is None else (message.canvas.width, message.canvas.height)
    resolved = resolve(request, sizes, desk.serving, canvas=canvas)
    spec = admitted(resolved, request, desk.serving)
    cost = desk.dispatcher.cost(spec)
    waiting = desk.dispatcher.view().waiting
    ends = [row.starts_in_ms for row in waiting if row.starts_in_ms is not None]
    return m.Quoted(
        re=message.id,
        fits=resolved.fits,
        width=spec.size[0],
        height=spec.size[1],
        steps=spec.steps,
        forwards=spec.forwards,
        precision=desk.serving.precision,
        bytes=cost.state_bytes + cost.arena_bytes,
        milliseconds=cost.milliseconds,
        starts_in_ms=max(ends, default=0),
        nearest_width=resolved.nearest[0],
        nearest_height=resolved.nearest[1],
        warnings=spec.warnings,
    )
