"""Three nodes and a client out of namespaces, and the cluster that `ray up cluster/local.yaml` makes of them."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

CHECKOUT = Path(__file__).parents[2]
NODES_SH = Path(__file__).with_name("nodes.sh")
LOCK = Path("/tmp/raycnn-nodes.lock")  # the nodes' names are the same for every session
PACKAGES = {"sshd": "openssh-server", "rsync": "rsync", "ip": "iproute2", "nsenter": "util-linux"}
# A whole small search, finals and scoring within.
SHAPES = "{name: shapes, validation: 200, train_images: 1400, test_images: 200}"
SPACE = f"""
name: small
data: {SHAPES}
model: fastnet
budget: {{epochs: 3, batch_size: 100}}
space: {{optimizer: {{sgd: {{lr: {{type: float, low: 0.02, high: 0.2, log: true}}}}}}}}
search: {{trials: 4, scheduler: none, corruption_images: 50}}
finals: {{top: 1, seeds: 1, score: [generated-c], generated: [brightness]}}
"""


class Nodes:
    """client, head, w1, w2. `shared` is the same directory on all of them and here."""

    def __init__(self, place: Path) -> None:
        self._environment = os.environ | {"NODES": str(place), "CHECKOUT": str(CHECKOUT)}
        self.place, self.shared = place, place / "shared"

    def do(self, *arguments: object) -> None:
        """A verb of nodes.sh."""
        command = [str(NODES_SH), *map(str, arguments)]
        subprocess.run(command, env=self._environment, check=True, stdin=subprocess.DEVNULL)

    def start(self, node: str, *command: object, output: Path | None = None) -> subprocess.Popen[str]:
        """A process on a node; its output goes to a file, or can be read."""
        full = [str(NODES_SH), "exec", node, *map(str, command)]
        with output.open("w") if output else contextlib.nullcontext(subprocess.PIPE) as stream:
            return subprocess.Popen(
                full,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, node: str, *command: object, timeout_s: float = 300) -> str:
        """What a command on a node says; it must succeed."""
        process = self.start(node, *command)
        said, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{command} on {node}: {said}"
        return said


def install_packages(*names: str) -> None:
    """Debian's; skips the test where they cannot be had."""
    if os.getuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(f"not installed: {', '.join(names)}")
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *names]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "-qq", "update"], install):
        if (
            not (done := subprocess.run(command, capture_output=True, env=environment)).returncode
            and command is install
        ):
            return
    pytest.skip(f"cannot be installed: {', '.join(names)} ({done.stderr.decode().strip()[-200:]})")


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    if os.getuid() != 0:
        pytest.skip("nodes out of namespaces need root")
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("namespaces may not be made here")
    missing = [
        package
        for program, package in PACKAGES.items()
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if missing:
        install_packages(*missing)
    with LOCK.open("w", encoding="utf-8") as lock:  # a killed session gives it back too
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"another session has the nodes ({LOCK}); run this when it has ended")
        place = Path(tempfile.mkdtemp(prefix="raycnn-nodes-", dir="/tmp"))  # nodes.sh lends from there
        made = Nodes(place)
        try:
            try:
                made.do("up")
            except subprocess.CalledProcessError as error:
                pytest.skip(f"nodes cannot be made here ({error})")
            yield made
        finally:
            made.do("down")
            shutil.rmtree(place, ignore_errors=True)


def local_config() -> dict[str, Any]:
    """cluster/local.yaml for these nodes. They read this checkout's .venv instead of installing one each, and have few
    processors and little memory to give."""
    config = YAML(typ="safe").load(CHECKOUT / "cluster" / "local.yaml")
    config["provider"] |= {"head_ip": "10.77.0.4", "worker_ips": ["10.77.0.5", "10.77.0.6"]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/key"}
    config["file_mounts"] = {"~/.ray/auth_token": "~/.ray/auth_token"}
    installs = "cd ~/raycnn && scripts/setup"
    assert installs in config["setup_commands"]
    linked = f"mkdir -p ~/raycnn && ln -sfn {CHECKOUT}/.venv ~/raycnn/.venv"
    config["setup_commands"] = [linked if line == installs else line for line in config["setup_commands"]]
    small = " --num-cpus=1 --object-store-memory=200000000"
    for which in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[which] = [line + small if "ray start" in line else line for line in config[which]]
    return config


@pytest.fixture(scope="session")
def ray_up(nodes: Nodes) -> Callable[[], None]:
    """A function that makes the cluster, or mends it."""
    file = nodes.place / "client" / "tmp" / "local.yaml"
    with file.open("w") as stream:
        YAML(typ="safe").dump(local_config(), stream)
    nodes.run("client", "bash", "-c", "ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token")

    def up() -> None:
        nodes.run("client", "env", "RAY_UP_enable_autoscaler_v2=0", "ray", "up", "-y", "/tmp/local.yaml", timeout_s=400)
        deadline = time.monotonic() + 120
        while living(nodes) < 3:
            assert time.monotonic() < deadline, "the workers do not come"
            time.sleep(1)

    return up


def living(nodes: Nodes) -> int:
    """Nodes of the cluster that are alive."""
    program = (
        "import logging, ray\n"
        "ray.init('auto', log_to_driver=False, logging_level=logging.ERROR)\n"
        "print('living', sum(node['Alive'] for node in ray.nodes()))"
    )
    said = nodes.start("head", "env", "RAY_AUTH_MODE=token", "python", "-c", program).communicate(timeout=120)[0]
    return next((int(line.split()[1]) for line in said.splitlines() if line.startswith("living")), 0)
