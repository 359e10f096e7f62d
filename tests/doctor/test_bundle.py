"""The bundle tells everything about the machine and nothing about its owner."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from qied_client.errors import ConfigError

from qied.config import load_config
from qied.doctor.bundle import Bundle, Identity
from qied.doctor.catalogue import CHECKS
from qied.doctor.checkup import run_checks
from qied.doctor.report import document
from qied.hardware.snapshot import read_snapshot
from qied.server.access.keys import KeyStore

SECRETS = {
    "user": "wilhelmina",
    "host": "studio-tower",
    "prompt": "remove my ex from the beach",
    "address": "203.0.113.9",
    "uuid": "5e1f7e57-0000-4000-8000-000000000001",
}


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "home" / SECRETS["user"]
    path.mkdir(parents=True)
    return path


@pytest.fixture
def written(facts, machine, home, tmp_path):
    """A bundle of a machine where secrets are in every place that it is made of; its files by name, and the keys."""
    state = home / ".local" / "state" / "qied"
    credential = KeyStore(state).ensure_local("tcp://127.0.0.1:7447")
    elsewhere = {
        "daemon.listen": f"tcp://{SECRETS['address']}:7447",
        "model.path": str(home / "models" / "qwen"),
    }
    loaded = load_config(None, {}, elsewhere)
    snapshot = machine(
        gpu={
            "memory_free_bytes": 1024**3,
            "processes": [{"pid": 7, "name": f"/home/{SECRETS['user']}/bin/train.py", "used_bytes": 9 * 1024**3}],
        },
        problems={"torch_broken": f"cannot import {home}/venv/torch on {SECRETS['host']}.lan, GPU-{SECRETS['uuid']}"},
    )
    examined = facts(
        snapshot,
        config=loaded.config,
        home=state,
        user_home=home,
        model=ConfigError(
            f"No folder {home}/models/qwen, said {SECRETS['user']}.", f"Try {credential.secret_key} there."
        ),
    )
    checkup = run_checks(CHECKS, examined)
    log = [
        json.dumps({"event": "accepted", "prompt": SECRETS["prompt"], "user": SECRETS["user"], "job": "j"}),
        json.dumps(
            {"event": "refused", "key": credential.public_key, "address": SECRETS["address"], "level": "warning"}
        ),
        json.dumps({"event": f"wrote {state}/blobs for {SECRETS['user']}", "exception": f"File {home}/x.py"}),
        f"Traceback: {SECRETS['prompt']}",
    ]
    path = tmp_path / "bundle.zip"
    identity = Identity(home, SECRETS["user"], f"{SECRETS['host']}.lan", state)
    (state / "log").mkdir()
    own = [json.dumps({"event": "a worker cannot work", "trouble": f"{home} is gone", "user": SECRETS["user"]}), *log]
    (state / "log" / "daemon.jsonl").write_text("\n".join(own))
    Bundle(snapshot, document(checkup, examined), checkup, loaded, log, state / "log").write(path, identity)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    return files, credential


def test_no_secret_is_in_it(written):
    files, credential = written
    text = "\n".join(files.values())
    found = {name for name, secret in SECRETS.items() if secret in text}
    assert not found, found
    keys = (credential.secret_key, credential.public_key, credential.server_key)
    assert not any(key in text for key in keys)
    assert not any(json.dumps(key)[1:-1] in text for key in keys)


def test_it_tells_the_machine_and_what_was_found(written):
    files, _ = written
    assert set(files) == {
        "README.txt",
        "snapshot.json",
        "plan.json",
        "findings.json",
        "broken_checks.json",
        "config.json",
        "versions.json",
        "log.jsonl",
        "log/daemon.jsonl",
    }
    assert read_snapshot(files["snapshot.json"]).gpus[0].name == "NVIDIA GeForce RTX 4070"
    assert json.loads(files["findings.json"])["summary"]["error"] >= 1
    config = json.loads(files["config.json"])
    assert config["model.path"] == {"value": "~/models/qwen", "source": "command line"}
    assert config["daemon.listen"]["value"] == "tcp://<host>:7447"
    assert config["limits.jobs_waiting"]["source"] == "default"
    assert json.loads(files["versions.json"])["diffusers"] == "0.42.1"
    events = [json.loads(line)["event"] for line in files["log.jsonl"].splitlines()]
    own = [json.loads(line) for line in files["log/daemon.jsonl"].splitlines()]
    assert own[0] == {"event": "a worker cannot work", "trouble": "~ is gone"}
    assert events[0] == "accepted"
    assert events[2] == "wrote <state>/blobs for <user>"


def test_other_homes_and_keys_in_texts_go_too():
    identity = Identity(Path("/root"), "root", "box", Path("/root/.local/state/qied"))
    said = identity.scrub(
        {"a": ["/home/otto/x.py and C:\\Users\\Otto Meier\\x", "key:rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7."]}
    )
    assert said == {"a": ["~/x.py and ~\\x", "key:<key>."]}


def test_names_are_replaced_as_whole_words_and_keys_of_objects_stay():
    identity = Identity(Path("/home/tor"), "tor", "torch", Path("/home/tor/state"))
    assert identity.scrub({"torch": "tor has torch.cuda, a vector"}) == {"torch": "<user> has <host>.cuda, a vector"}


def test_addresses_of_machines_go_in_both_families_and_those_of_the_loopback_stay():
    identity = Identity(Path("/home/anna"), "anna", "box", Path("/state"))
    for host in ("fd00::5", "2001:db8::7%eth0", "::ffff:192.168.1.4"):
        assert identity.scrub(f"at tcp://[{host}]:7447.") == "at tcp://<host>:7447."
    for address in ("tcp://[::1]:7447", "tcp://[::]:7447", "tcp://127.0.0.1:7447", "tcp://*:7447"):
        assert identity.scrub(address) == address


def test_a_bundle_that_cannot_be_written_is_a_typed_error(facts, machine, tmp_path):
    examined = facts()
    checkup = run_checks((), examined)
    bundle = Bundle(machine(), document(checkup, examined), checkup, ConfigError("Wrong.", ""))
    with pytest.raises(ConfigError, match="cannot be written"):
        bundle.write(tmp_path / "none" / "b.zip", Identity(tmp_path, "u", "h", tmp_path))
