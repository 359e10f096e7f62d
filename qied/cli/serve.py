"""``qied serve``: choose the model, start the daemon, run it until it is stopped."""

from __future__ import annotations

import asyncio
import io
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from qied_client.cli.failures import failures_as_text
from qied_client.cli.web import TOKENS_FILE, require_web
from qied_client.credentials import default_home
from qied_client.errors import SetupError
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from qied.builtin.scene import read_scene
from qied.cli.machine import usual_config
from qied.cli.plan_view import precision_text, show_in_short
from qied.cli.profiles import user_profiles_folder
from qied.cli.progress import LoadingProgress, MeasuringProgress
from qied.config import COMFYUI_ADDRESS, WEB_ADDRESS, LoadedConfig, WebConfig, all_keys, load_config
from qied.environment import foreign_in
from qied.hardware.host import refuse_native_windows
from qied.hardware.probe import probe
from qied.hardware.selftest import measured
from qied.hardware.user_folders import user_home
from qied.link.launch import LaunchOrder
from qied.log_file import LOG_FOLDER, LogFile
from qied.logs import logs_are_text, set_up_logs
from qied.loras.catalogue import Catalogue
from qied.pictures.signing import check_signing
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import all_hardware_profiles
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import wishes_of
from qied.server.daemon import Daemon, Launch
from qied.server.ports.listening import refuse_taken_port
from qied.server.ports.reach import only_this_machine
from qied.server.ports.scrape_port import ScrapePort
from qied.service.notify import Notifier
from qied.service.reload import Reloading
from qied.serving.model import BUILTIN, ServedModel, locate_model
from qied.serving.plan import plan_service, refitted_order
from qied.upscalers.catalogue import Upscalers
from qied.upscalers.examined import examined
from qied.web_gateway import WebGateway

_OPEN_FILES = 65_536
_LEAST_OPEN_FILES = 256
"""Enough for the sockets, files and workers of a daemon with a few clients, which takes about 30 as it begins."""
_SWITCH_S = 0.0005
"""Seconds that a thread may keep the interpreter while others wait for it (Python's own: 0.005). The journal's and the
disk's threads need it after each commit and chunk; `benchmarks/wire.py` shows heartbeats and SUBMIT under load."""


class ServeCommand(TyperCommand):
    """``serve``, whose ``--web`` and ``--comfyui`` may stand alone or with an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give an option that stands alone an empty address."""
        alone = {"--web": "--web=", "--comfyui": "--comfyui="}
        words = [alone.get(word, word) if after.startswith("-") else word for word, after in pairwise([*args, "-"])]
        return super().parse_args(ctx, words)


def serve(
    model: Annotated[str | None, typer.Option(help="Model folder, transformer file, or 'builtin'.")] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Which model a file is that does not say so: 2511, 2509, edit, 2512, ...")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="Such as tcp://0.0.0.0:7447; port * picks a free one.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: ./qied.toml if it exists.")] = None,
    home: Annotated[Path | None, typer.Option(help="State folder of the daemon; default: QIED_HOME.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp8, int8, fp8-storage, bf16 or fp32.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, text or json.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug (all), info, warning or error.")] = None,
    web: Annotated[
        str | None,
        typer.Option(
            "--web",
            metavar="[HOST:PORT]",
            help=f"Open the web gateway, at {WEB_ADDRESS} or where web.listen says; 0.0.0.0:7448 for others.",
        ),
    ] = None,
    comfyui: Annotated[
        str | None,
        typer.Option(
            "--comfyui",
            metavar="[HOST:PORT]",
            help=f"Answer clients of ComfyUI's API, at {COMFYUI_ADDRESS} or where web.comfyui says.",
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="HOST:PORT of figures for Prometheus, such as 127.0.0.1:9464.")
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Start no edits until 'qied resume'.")] = False,
) -> None:
    """Run the daemon. SIGTERM or Ctrl-C lets running jobs finish; a second one stops at once. SIGHUP reloads."""
    with failures_as_text():
        refuse_native_windows()
        _end_quietly_before_it_runs()
        overrides = {
            "model.path": model,
            "model.version": model_version,
            "daemon.listen": listen,
            "daemon.metrics": metrics,
            "model.device": device,
            "model.precision": precision,
            "daemon.log_format": log_format,
            "daemon.log_level": log_level,
            "web.listen": web or None,
            "web.comfyui": comfyui or None,
        }
        file = usual_config(config)
        loaded = load_config(file, os.environ, overrides)
        settings = loaded.config
        folder = default_home(os.environ) if home is None else home
        log_file = LogFile(folder / LOG_FOLDER / "daemon.jsonl")
        set_up_logs(settings.daemon.log_format, settings.daemon.log_level, log_file)
        refuse_taken_port(settings.daemon.listen)
        scrapes = ScrapePort(settings.daemon.metrics) if settings.daemon.metrics else None
        served = locate_model(settings.model, os.environ, user_home())
        served.check_weights()
        check_signing(settings.output.marking_of_results)
        structlog.get_logger(part="serve").info("model", path=str(served.origin), told=served.told)
        _allow_many_connections()
        sys.setswitchinterval(_SWITCH_S)
        manager = Notifier.from_environment(os.environ)
        launch = replace(plan_launch(folder, loaded, served, manager), paused=paused)
        gateways = [
            *_web_gateway(settings.web, folder, settings.web.listen or (WEB_ADDRESS if web is not None else "")),
            *_web_gateway(
                settings.web,
                folder,
                settings.web.comfyui or (COMFYUI_ADDRESS if comfyui is not None else ""),
                "--comfyui",
            ),
        ]
        reloading = Reloading(loaded, lambda: load_config(file, os.environ, overrides))
        asyncio.run(_run(launch, gateways, scrapes, manager, reloading))


def plan_launch(home: Path, loaded: LoadedConfig, served: ServedModel, manager: Notifier) -> Launch:
    """Look at this machine, run the self-test where its result is not known, plan, and show the plan in a terminal."""
    log = structlog.get_logger(part="serve")
    manager.starting("looking at this machine")
    with MeasuringProgress() as progress:

        def measuring(what: str, done: int, total: int) -> None:
            progress(what, done, total)
            manager.starting(f"self-test: {what}, {done} of {total}")

        snapshot = measured(probe(os.environ), on_progress=measuring)
        upscalers = examined(served.upscalers, snapshot, os.environ, measuring)
    served = replace(served, upscalers=upscalers)
    profiles = all_hardware_profiles(user_profiles_folder())
    planned = plan_service(snapshot, served, loaded.config, wishes_of(loaded), profiles)
    for warning in planned.serving.warnings:
        log.warning(warning)
    _tell_of_loras(log, served.loras)
    _tell_of_upscalers(log, served.upscalers)
    if loaded.config.output.marking == "off":
        log.warning(
            "results are not marked as made by AI (output.marking is off); the law may ask for it where you are"
        )
    for name in foreign_in(os.environ, all_keys()):
        log.info("a variable is not a setting of qied, ignoring it", variable=name)
    for refusal in planned.left_out:
        log.warning("a card is left out", reason=refusal.message, remedy=refusal.remedy)
    plans = planned.serving.plans
    if logs_are_text(loaded.config.daemon.log_format):
        console = Console(stderr=True, highlight=False, markup=False)
        show_in_short(console, plans, planned.serving.profile.title, len(served.loras.files))
    for plan in plans:
        log.info("planned", **_in_short(plan))
        for warning in plan.warnings:
            log.warning(warning)
    wishes = wishes_of(loaded)

    def refit(order: LaunchOrder) -> LaunchOrder:
        return refitted_order(order, probe(os.environ), served, wishes, profiles)

    orders = tuple(replace(order, log_folder=str(home / LOG_FOLDER)) for order in planned.orders)
    return Launch(home, loaded.config, planned.serving, orders, refit)


def _tell_of_loras(log: Any, loras: Catalogue) -> None:
    unusable = {name: facts.problem for name, facts in loras.facts.items() if facts.problem is not None}
    if loras.facts or loras.left_out:
        log.info("LoRAs", usable=len(loras.files), unusable=len(unusable), left_out=len(loras.left_out))
    for name, problem in unusable.items():
        log.debug("a LoRA cannot be used", name=name, problem=problem)
    for path in loras.left_out:
        log.debug("a LoRA file has a name that is not allowed", path=str(path))


def _tell_of_upscalers(log: Any, upscalers: Upscalers) -> None:
    for path, problem in upscalers.problems.items():
        log.info("an upscaling model is left out", path=path, problem=problem)
    for card, proven in upscalers.proven.items():
        for name, shown in proven.items():
            errors = {half: round(error, 5) for half, error in shown.errors.items()}
            log.info("an upscaler's precision", name=name, card=card, precision=shown.precision, errors=errors)


def _in_short(plan: Plan) -> dict[str, object]:
    run = plan.execution
    return {
        "device": plan.gpu,
        "profile": plan.profile,
        "precision": run.precision,
        "resident_blocks": run.resident_blocks,
        "blocks": run.total_blocks,
        "max_pixels": plan.max_pixels,
        "sessions": plan.sessions.at_max_pixels,
        "peak_bytes": plan.predicted_peak_bytes,
        "budget_bytes": plan.budget_bytes,
    }


def _allow_many_connections() -> None:
    """Raise the soft limit of open files towards the hard one, so that idle strangers cannot use them up (POSIX).

    Raises SetupError where that is too low: libzmq ends the process where its threads get no file descriptors.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _LEAST_OPEN_FILES:
        raise SetupError(
            f"The daemon may have {soft} open files at most, and needs {_LEAST_OPEN_FILES}.",
            "Raise the limit, such as with: ulimit -n 4096 (LimitNOFILE= in a unit of systemd)",
        )


def _end_quietly_before_it_runs() -> None:
    """Until the daemon has its own handlers: SIGTERM ends it with status 0 and its children, SIGHUP does nothing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, lambda *_: None)


def _web_gateway(config: WebConfig, home: Path, listen: str, *kind: str) -> list[WebGateway]:
    """The web gateway at an address, or none without one; raises SetupError where its packages are missing.

    ``kind`` is the option of ``qied-client web`` for another API than the usual ones.
    """
    if not listen:
        return []
    require_web()
    options = [listen, *kind, "--tokens", str(home / TOKENS_FILE)]
    options += [part for name in config.host_names for part in ("--host-name", name)]
    options += ["--tls-cert", config.tls_cert, "--tls-key", config.tls_key] if config.tls_cert else []
    return [WebGateway(home, options)]


async def _run(
    launch: Launch, gateways: Sequence[WebGateway], scrapes: ScrapePort | None, manager: Notifier, reloading: Reloading
) -> None:
    log = structlog.get_logger(part="serve")
    stop = asyncio.Event()
    at_once = asyncio.Event()

    def told_to_stop() -> None:
        if stop.is_set():
            log.warning("second stop signal, stopping at once")
            at_once.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # signal.signal rather than the loop's own handlers, which Windows does not have.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(told_to_stop))
    daemon = Daemon(launch)
    if scrapes is not None:
        scrapes.attach(daemon.figures.registry, daemon.readiness)
        log.info("metrics", address=scrapes.address)
    feeding = asyncio.create_task(manager.feed_watchdog(), name="watchdog")
    daemon.control.on_stop = stop.set
    opened: list[asyncio.Task[None]] = []
    try:
        with LoadingProgress() as progress:

            def loading(what: str, done: int, total: int) -> None:
                progress(what, done, total)
                manager.starting(f"loading {what}, {done * 100 // max(total, 1)} %")

            if not await _unless(stop, daemon.start(loading)):
                return
        reloading.at_each_hangup(loop, manager, daemon.reload)
        _say_ready(daemon, launch)
        opened += [asyncio.create_task(gateway.run(), name="web gateway") for gateway in gateways]
        manager.ready(f"serving {launch.serving.profile.name} at {daemon.address}")
        if not await _unless(stop, daemon.broken()):
            manager.stopping("running jobs finish", launch.config.daemon.stop_grace_s)
            await _unless(at_once, daemon.drain())
    finally:
        manager.stopping("stopping", 0)
        for task in opened:
            task.cancel()
        await asyncio.gather(*opened, return_exceptions=True)
        await daemon.stop()
        if scrapes is not None:
            await asyncio.to_thread(scrapes.close)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, unless told to stop before it is done; returns whether it was done."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return False
    working.result()
    return True


def _say_ready(daemon: Daemon, launch: Launch) -> None:
    structlog.get_logger(part="serve").info(
        "ready", address=daemon.address, model=launch.serving.profile.name, precision=launch.serving.precision
    )
    if sys.stdout.isatty() or logs_are_text(launch.config.daemon.log_format):
        shown, width = io.StringIO(), Console().width
        console = Console(
            file=shown, width=width, force_terminal=sys.stdout.isatty() or None, highlight=False, markup=False
        )
        show_ready(console, daemon.address, launch)
        # Unbuffered: what a terminal that was closed does not take must not fail again when the process ends.
        with suppress(OSError):
            os.write(sys.stdout.fileno(), shown.getvalue().encode(sys.stdout.encoding, "replace"))


def show_ready(console: Console, address: str, launch: Launch) -> None:
    """Print how to use a daemon that listens at ``address``; every command works as it stands in another terminal."""
    program = _program()
    serving = launch.serving
    title = f"{serving.profile.title} in {precision_text(serving.plans[0])}, at {address}"
    console.print(Text.assemble("\n", ("ready", "bold green"), f"  {title}"), soft_wrap=True)
    rows = [
        *([] if _is_usual(launch.home) else [("first", f"export QIED_HOME={_short(launch.home.absolute())}")]),
        _first_command(program, serving.profile),
        ("watch", f"{program} top, or {program} ps once; Ctrl-C here stops the daemon"),
        ("others", f"{program} keys add NAME writes the key file of a colleague"),
    ]
    for name, text in rows:
        console.print(Text.assemble("  ", (f"{name:<8}", "dim"), text), soft_wrap=True)
    if only_this_machine(address):
        port = address.rpartition(":")[2]
        console.print("          So far only this machine can connect. To let others in, start it with", style="yellow")
        console.print(f"          {program} serve --listen tcp://0.0.0.0:{port}", style="yellow", soft_wrap=True)
    console.print()


def _program() -> str:
    """How to call this program from the current folder: by its name where the shell finds it, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which("qied")
    with suppress(OSError):
        if found is not None and called.name == "qied" and called.samefile(found):
            return "qied"
    return shlex.quote(str(called)) if called.name == "qied" else f"{shlex.quote(sys.executable)} -m qied"


def _first_command(program: str, profile: ModelProfile) -> tuple[str, str]:
    """What to try first, and its name: an edit, or a picture from text where the model takes none."""
    if not profile.geometry.takes_pictures:
        return "make", f'{program} generate "a lighthouse in a storm" -o out.png'
    return "edit", f"{program} edit {_example(profile.name)} -o out.png"


def _example(profile: str) -> str:
    """A picture and a prompt, as arguments, that the model of this profile knows."""
    if profile != BUILTIN:
        return 'photo.jpg "make it evening"'
    scene = read_scene()
    return f"{_short(scene.path)} {shlex.quote(scene.prompt)}"


def _short(path: Path) -> str:
    with suppress(ValueError):
        return f"~/{shlex.quote(str(path.relative_to(user_home())))}"
    return shlex.quote(str(path))


def _is_usual(home: Path) -> bool:
    """Whether commands in another terminal find this state folder by themselves."""
    return home == default_home({name: value for name, value in os.environ.items() if name != "QIED_HOME"})
