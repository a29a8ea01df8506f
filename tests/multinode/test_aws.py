"""`ray up cluster.yaml` against a moto server, which answers as Amazon does while the machines are namespaces: from no
worker at all to a search whose run lies in a bucket, and back."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT, SHAPES, SPACE, Nodes
from PIL import Image
from ruamel.yaml import YAML

from raycnn.data import shapes

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

MOTO = "http://10.77.0.9:5000"


def account(nodes: Nodes) -> dict[str, str]:
    """The environment of who uses the account."""
    secrets = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-west-2"}
    return secrets | {"AWS_ENDPOINT_URL": MOTO, "PYTHONPATH": str(nodes.shared / "boto")}


def setting(nodes: Nodes) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in account(nodes).items())]


@pytest.fixture(scope="module")
def amazon(nodes: Nodes) -> Iterator[dict[str, str]]:
    """Ids of what the cluster needs there. moto has an environment of its own; of boto3 the nodes see just what is not
    in theirs."""
    place = nodes.shared / "moto"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [place / "bin" / "pip", "install", "-q"]
    done = subprocess.run([*pip, "moto[server]", "boto3"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"moto cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    parts = ["boto3", "botocore", "s3transfer", "jmespath"]
    subprocess.run([*pip, "--no-deps", "--target", nodes.shared / "boto", *parts], check=True, capture_output=True)
    server = [*setting(nodes), "MOTO_IAM_LOAD_MANAGED_POLICIES=true", place / "bin" / "moto_server"]
    process = nodes.start("client", *server, "-H", "10.77.0.9", "-p", "5000", output=nodes.shared / "moto.txt")
    policy = nodes.shared / "policy.json"
    policy.write_text((CHECKOUT / "cluster" / "aws-head-policy.json").read_text())
    deadline = time.monotonic() + 60
    while "Running on" not in (nodes.shared / "moto.txt").read_text():
        assert time.monotonic() < deadline, (nodes.shared / "moto.txt").read_text()
        time.sleep(0.5)
    program = Path(__file__).with_name("account.py")
    yield json.loads(nodes.run("client", *setting(nodes), place / "bin" / "python", program, policy))
    process.terminate()
    process.wait(30)


def cloud_config(nodes: Nodes, ids: dict[str, str]) -> dict[str, Any]:
    """cluster.yaml for this account, with an impatient autoscaler. The machines read this checkout's .venv, and have
    one processor, no GPU and no apt."""
    config = YAML(typ="safe").load(CHECKOUT / "cluster.yaml")
    config["provider"] |= {"use_internal_ips": True, "availability_zone": "us-west-2a"}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/key"}
    config |= {"idle_timeout_minutes": 0.3, "max_workers": 2, "initialization_commands": [], "head_setup_commands": []}
    config["file_mounts"] = {"~/.ray/auth_token": "~/.ray/auth_token"}
    for name, kind in config["available_node_types"].items():
        kind["resources"] = {"CPU": 0 if name == "head" else 1}
        kind["node_config"] |= {
            "KeyName": "raycnn",
            "SubnetIds": [ids["subnet"]],
            "SecurityGroupIds": [ids["group"]],
            "ImageId": ids["image"],
            "InstanceType": "m5.large",
        }
    config["available_node_types"]["gpu_worker"]["max_workers"] = 2
    linked = f"mkdir -p ~/raycnn && ln -sfn {CHECKOUT}/.venv ~/raycnn/.venv"
    installs = "cd ~/raycnn && scripts/setup"
    config["setup_commands"] = [linked if line == installs else line for line in config["setup_commands"]]
    exported = " ".join(f"{name}={value}" for name, value in account(nodes).items())
    for which, before in (("head_start_ray_commands", f"export {exported}; "), ("worker_start_ray_commands", "")):
        config[which] = [
            f"{before}{line} --object-store-memory=200000000" if "ray start" in line else line for line in config[which]
        ]
    return config


def instances(nodes: Nodes) -> list[str]:
    """The states of all machines that were ever asked for."""
    program = (
        "import boto3; print([i['State']['Name'] for r in boto3.client('ec2').describe_instances()['Reservations']"
    )
    program += " for i in r['Instances']])"
    said = nodes.run("client", *setting(nodes), nodes.shared / "moto" / "bin" / "python", "-c", program)
    return said.replace("'", " ").replace(",", " ").strip("[] \n").split()


def put_pictures(nodes: Nodes) -> None:
    """s3://raycnn-runs/pictures: a folder of each class of shapes, in train/ and in test/."""
    place = nodes.shared / "pictures"
    for number, (split, count) in enumerate({"train": 400, "test": 100}.items()):
        images, labels = shapes.generate(count, 0, number)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = place / split / shapes.CLASS_NAMES[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    program = f"from pyarrow.fs import copy_files; copy_files({str(place)!r}, 's3://raycnn-runs/pictures')"
    nodes.run("client", *setting(nodes), "python", "-c", program)


def test_from_no_worker_to_a_search_with_its_data_and_run_in_a_bucket_and_back(nodes: Nodes, amazon: dict[str, str]):
    file = nodes.place / "client" / "tmp" / "cloud.yaml"
    with file.open("w") as stream:
        YAML(typ="safe").dump(cloud_config(nodes, amazon), stream)
    nodes.run("client", "bash", "-c", "ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token")
    nodes.run("client", *setting(nodes), "ray", "up", "-y", "/tmp/cloud.yaml", timeout_s=400)
    assert instances(nodes) == ["running"]
    put_pictures(nodes)
    space = nodes.shared / "cloud.yaml"
    space.write_text(SPACE.replace(SHAPES, "{name: folder, validation: 60}"))
    output = nodes.shared / "cloud.txt"
    command = ["python", "-m", "raycnn.tune", space, "--address", "auto"]
    command += ["--data", "s3://raycnn-runs/pictures", "--run", "s3://raycnn-runs/cloud"]
    search = nodes.start("head", "env", "--chdir=/root/raycnn", *setting(nodes)[1:], *command, output=output)
    assert search.wait(600) == 0, output.read_text()
    said = output.read_text()
    assert "up to 2 CPUs and 0 GPUs as nodes come" in said
    assert "s3://raycnn-runs/cloud (worked on in /root/raycnn/runs/cloud)" in said
    assert "folder: 340 training, 60 validation, 100 test images" in said
    assert said.count("complete") == 4, said
    assert len(instances(nodes)) > 1, "no worker came"
    keys = nodes.run(
        "client",
        *setting(nodes),
        nodes.shared / "moto" / "bin" / "python",
        "-c",
        "import boto3; print([o['Key'] for o in boto3.client('s3').list_objects_v2(Bucket='raycnn-runs')['Contents']])",
    )
    assert all(name in keys for name in ("cloud/report.html", "cloud/robustness.parquet", "cloud/study.journal"))
    deadline = time.monotonic() + 120
    while instances(nodes).count("running") > 1:
        assert time.monotonic() < deadline, "idle workers stay"
        time.sleep(3)
    nodes.run("client", *setting(nodes), "ray", "down", "-y", "/tmp/cloud.yaml", timeout_s=200)
    assert "running" not in instances(nodes)
    nodes.run("head", "ray", "stop", "--force")
