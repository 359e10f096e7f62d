"""The defaults of a request: preset, steps, guidance, size and schedule, where the request leaves them out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from qied_client.errors import AboveCap, InvalidRequest, PrecisionUnavailable, UnknownPreset
from qied_client.protocol.request import EditRequest

from qied.edit import Background, EditSpec, MaskMode, OutputFormat, Sized, warnings_within_limits
from qied.planning.edits.comfyui import kontext_size
from qied.planning.edits.geometry import MAX_ASPECT, content_within, default_target_size, nearest_within, within_aspect
from qied.planning.profiles.model_profile import ModelProfile, Preset, versions
from qied.planning.requests.lora_choices import chosen_loras, distilled_steps, schedule_for, unsuited
from qied.planning.requests.pass_defaults import check_canvas, on_grid, passes_of, reduced
from qied.planning.requests.serving import Serving
from qied.planning.requests.upscale_defaults import only_upscaled, with_upscaling

Size = tuple[int, int]
EDITS: Final = "2511"
FROM_TEXT: Final = "2512"
"""Models that errors name for what the served one cannot do."""
_LEFT_OUT: Final = {"images": "the pictures", "mask": "the mask", "size": "size"}
_FORMATS: Final[Mapping[str, OutputFormat]] = {"png": "png", "webp": "webp", "jpeg": "jpeg"}


@dataclass(frozen=True)
class Resolved:
    """A request with every default in place. ``nearest`` is the largest size of this aspect within the cap."""

    spec: EditSpec
    nearest: Size
    fits: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user probably did not intend, a sentence each, with what to do."""
        return self.spec.warnings


def resolve(request: EditRequest, sizes: Sequence[Size], serving: Serving, *, canvas: Size | None = None) -> Resolved:
    """Fill in the defaults. ``sizes`` are the displayed sizes of all input pictures in pixels, a turn's base first.

    ``canvas`` is that of the request's canvas, where it has one.

    Raises InvalidRequest and its kinds; a size above the cap is not an error here, see ``admitted``.
    """
    if request.task == "upscale":
        spec = only_upscaled(request, sizes, serving)
        return Resolved(spec, (spec.width, spec.height), fits=True)
    geometry = serving.profile.geometry
    _check_pictures(request, len(sizes), serving.profile)
    for width, height in sizes:
        if not within_aspect(width, height):
            raise InvalidRequest(
                f"images: a picture of {width} x {height} is more than {MAX_ASPECT} times as long as it is wide.",
                "Crop it first.",
                field="images",
            )
    if request.rewrite_prompt and not serving.rewrites:
        raise InvalidRequest(
            "rewrite_prompt: this daemon has no prompt rewriter.",
            "To go on without one, leave rewrite_prompt out.",
            field="rewrite_prompt",
        )
    preset = _preset(request, serving.profile)
    _check_precision(request, serving)
    loras = chosen_loras(request, preset, serving)
    if canvas is not None:
        check_canvas(canvas, serving)
    if canvas is not None and request.size == "kontext":
        canvas = kontext_size(canvas, geometry.vae_pixels, geometry.side_multiple)
    wanted = _wanted_size(request, sizes, serving.profile) if canvas is None else on_grid(canvas, geometry)
    # Passes over a canvas are drawn in crops, so its own size is bounded by other things.
    fits = canvas is not None or wanted[0] * wanted[1] <= serving.max_pixels
    nearest = wanted if fits else nearest_within(*wanted, serving.max_pixels, geometry.side_multiple)
    width, height = nearest if request.on_cap == "fit" else wanted
    sized = _sized(request, sizes, fits=fits)
    crop = canvas or _crop(request, sized, sizes, (width, height))
    # Distilled weights are run as they were made for, where neither settings nor a preset are asked for.
    distilled = distilled_steps(request, loras, serving)
    own_scale = preset.true_cfg_scale if distilled is None else 1.0
    scale = own_scale if request.true_cfg_scale is None else request.true_cfg_scale
    negative = request.negative_prompt
    if scale > 1.0 and negative is None:
        # ComfyUI's graphs have an empty one.
        negative = serving.profile.default_negative_prompt if request.compat is None else ""
    steps = (distilled or preset.steps) if request.steps is None else request.steps
    spec = EditSpec(
        images=request.images,
        prompt=request.prompt,
        negative_prompt=negative if scale > 1.0 else None,
        seed=request.seed,
        steps=steps,
        true_cfg_scale=scale,
        width=width,
        height=height,
        crop_width=crop[0],
        crop_height=crop[1],
        sized="default" if crop == (0, 0) and sized != "kontext" else sized,
        canvas=request.canvas,
        align=request.align and request.compat is None,
        compat=request.compat,
        mask=request.mask,
        output_format=_FORMATS[request.output_format],
        output_quality=request.output_quality,
        mask_mode=cast(MaskMode, request.mask_mode),
        background=cast(Background, request.background),
        rewrite=request.rewrite_prompt,
        preview_every=max(1, steps // 10) if request.previews else 0,
        loras=loras,
        schedule=schedule_for(preset, loras, serving),
        preset=_preset_name(request, distilled, serving.profile),
        precision=serving.precision,
    )
    spec = replace(spec, passes=passes_of(request, spec, serving))
    if request.upscale:
        spec = with_upscaling(spec, request.upscale, serving)
    warnings = (
        *serving.warnings,
        *_fitted(request, wanted, spec, serving),
        *unsuited(spec, preset, serving),
        *_other_precision(request, preset, serving),
        *_unused_negative(request, spec),
        *reduced(spec, serving.profile),
    )
    return Resolved(replace(spec, warnings=warnings_within_limits(warnings)), nearest, fits)


def admitted(resolved: Resolved, request: EditRequest, serving: Serving) -> EditSpec:
    """Return the edit, or raise AboveCap with the number and the nearest size that fits."""
    if resolved.fits or request.on_cap == "fit":
        return resolved.spec
    spec, (width, height) = resolved.spec, resolved.nearest
    drawn = f"{spec.width} x {spec.height}"
    if spec.sized == "asked":
        drawn = f"{spec.crop_width} x {spec.crop_height} is drawn on {drawn}, which"
    raise AboveCap(
        f"{drawn} are {spec.width * spec.height} pixels; the cap here is {serving.max_pixels}.",
        f"Ask for {width} x {height}, or let the daemon fit it (on_cap='fit').",
        max_pixels=serving.max_pixels,
        width=width,
        height=height,
    )


def _check_pictures(request: EditRequest, count: int, profile: ModelProfile) -> None:
    """Refuse pictures, a mask or their size where the model takes no picture, and more or fewer than it takes."""
    geometry = profile.geometry
    if not geometry.takes_pictures:
        for given, name in ((count, "images"), (request.mask, "mask"), (request.size != "default", "size")):
            if given:
                raise InvalidRequest(
                    f"{name}: {profile.title} makes pictures from text alone and takes none.",
                    f"Leave {_LEFT_OUT[name]} out. To edit a picture, ask the daemon's owner to serve a model that "
                    f"edits, such as {_named(EDITS)}.",
                    field=name,
                )
    if geometry.least_references <= count <= geometry.max_references:
        return
    if not count:
        remedy = f"Send at least one picture. A model such as {_named(FROM_TEXT)} makes them from text alone."
    elif geometry.max_references == 1:
        remedy = f"Send one picture, or ask the daemon's owner to serve {_named(EDITS)}, which takes more."
    else:
        remedy = "Send fewer pictures."
    raise InvalidRequest(
        f"images: {profile.title} takes {geometry.references_in_words}, not {count}.", remedy, field="images"
    )


def _named(version: str) -> str:
    return versions()[version].title


def _preset(request: EditRequest, profile: ModelProfile) -> Preset:
    try:
        return profile.preset(request.preset)
    except KeyError:
        raise UnknownPreset(
            f"There is no preset {request.preset!r}.",
            f"Presets of {profile.name}: {', '.join(sorted(profile.presets))}.",
            field="preset",
        ) from None


def _check_precision(request: EditRequest, serving: Serving) -> None:
    if request.precision not in (None, "auto", serving.precision):
        raise PrecisionUnavailable(
            f"This daemon does not run {request.precision!r}.",
            f"It runs {serving.precision}; leave the precision out.",
            field="precision",
        )


def _preset_name(request: EditRequest, distilled: int | None, profile: ModelProfile) -> str:
    """The preset that was named, or that steps or CFG scale come from; see ``EditSpec``."""
    if request.preset is not None:
        return request.preset
    given = request.steps is not None and request.true_cfg_scale is not None
    return "" if given or distilled is not None else profile.default_preset


def _other_precision(request: EditRequest, preset: Preset, serving: Serving) -> Iterator[str]:
    """That a preset was named which is meant for another precision than the daemon runs."""
    if request.preset is None or preset.precision in (None, serving.precision):
        return
    others = {name: other.precision for name, other in serving.profile.presets.items() if other.lightning is None}
    suited = [repr(name) for name, precision in others.items() if precision in (None, serving.precision)]
    instead = f"use the preset {' or '.join(suited)}, or " if suited else ""
    yield (
        f"The preset {request.preset!r} is meant for {preset.precision}, but this daemon runs {serving.precision}. "
        f"To avoid that, {instead}ask the daemon's owner for {preset.precision}."
    )


def _fitted(request: EditRequest, wanted: Size, spec: EditSpec, serving: Serving) -> Iterator[str]:
    """That the picture is made smaller than was asked for, or than is usual for its source."""
    if (spec.width, spec.height) == wanted:
        return
    given = _asked(request) or wanted
    asked = f"{given[0]} x {given[1]} pixels"
    named = request.width is not None or request.size == "same"
    whose = "This picture's" if spec.images else "This model's"
    what = f"{asked} were asked for" if named else f"{whose} usual size is {asked}"
    yield (
        f"{what}, but this daemon makes at most {serving.max_pixels} pixels, so the result has "
        f"{spec.drawn_size[0]} x {spec.drawn_size[1]}. To choose the size yourself, ask for one within that limit."
    )


def _unused_negative(request: EditRequest, spec: EditSpec) -> Iterator[str]:
    """That a negative prompt was given which has no effect."""
    if spec.negative_prompt is not None or not (request.negative_prompt or "").strip():
        return
    instead = "" if spec.schedule == "lightning" else ", or use a CFG scale above 1"
    yield f"The negative prompt has no effect at a CFG scale of 1. Leave it out{instead}."


def _asked(request: EditRequest) -> Size | None:
    return None if request.width is None or request.height is None else (request.width, request.height)


def _wanted_size(request: EditRequest, sizes: Sequence[Size], profile: ModelProfile) -> Size:
    """The grid that has room for the result: the usual one also where the usual size of a result is asked for."""
    geometry, asked = profile.geometry, _asked(request)
    if request.compat is not None and sizes and asked is None and request.size != "same":
        return kontext_size(sizes[0], geometry.vae_pixels, geometry.side_multiple)
    if asked is None and sizes and request.size == "same":
        return on_grid(_sizing(request, sizes), geometry)
    usual = default_target_size(profile, *sizes[-1]) if sizes else geometry.default_size
    if asked is None or (request.compat is None and sizes and asked == content_within(usual, *sizes[-1])):
        return usual
    return on_grid(asked, geometry)


def _sizing(request: EditRequest, sizes: Sequence[Size]) -> Size:
    """The picture whose size the result may have: the last one, in ComfyUI's graphs the first."""
    return sizes[-1 if request.compat is None else 0]


def _sized(request: EditRequest, sizes: Sequence[Size], *, fits: bool) -> Sized:
    """Where the result's size comes from; one that was made to fit has the picture's proportions."""
    asked = _asked(request)
    if request.compat is not None and asked is None and request.size != "same":
        by_picture = bool(sizes) if request.canvas is None else request.size == "kontext"
        return "kontext" if by_picture else "default"
    if not fits and request.on_cap == "fit":
        return "default"
    return "asked" if asked is not None else "same" if request.size == "same" else "default"


def _crop(request: EditRequest, sized: Sized, sizes: Sequence[Size], grid: Size) -> Size:
    """What the result takes of its grid: the size that was asked for, or the picture's own size or proportions.

    0 each for all of it, as where a size that was asked for is made to fit.
    """
    if not sizes or sized == "kontext":
        return _asked_of(request, sized, grid)
    if sized == "same":
        return _sizing(request, sizes)
    if request.compat is None and _asked(request) is None:
        crop = content_within(grid, *sizes[-1])
        return (0, 0) if crop == grid else crop
    # ComfyUI takes the sides as they are: pictures need not have their proportions.
    return _asked_of(request, sized, grid)


def _asked_of(request: EditRequest, sized: Sized, grid: Size) -> Size:
    asked = _asked(request)
    return (0, 0) if asked in (None, grid) or sized != "asked" else asked
