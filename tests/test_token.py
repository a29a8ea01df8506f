"""Nobody runs anything on a search's Ray without its token, which only its owner can read."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import json, sys, time, urllib.error, urllib.request
from pathlib import Path
from raycnn.search.cluster import connect, disconnect, prepare_environment
from raycnn.search.token import usual_token

prepare_environment(Path(sys.argv[1]))
cluster = connect(None)

def asked(path, token):
    request = urllib.request.Request(f"http://{cluster.dashboard}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        return type(error.reason).__name__

right = usual_token().read_text()
print(json.dumps({
    "new": cluster.new_token is not None,
    "none": asked("/api/jobs/", ""),
    "wrong": asked("/api/jobs/", "0" * 64),
    "right": asked("/api/jobs/", right),
    "dashboard": cluster.dashboard,
}))
disconnect()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Of two runs after each other in a home without a token; the home is the first answer's."""
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, str(home / "log.txt")],
            env=environment | {"HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]) | {"home": str(home)})
    return found


def test_without_a_token_401_with_a_wrong_one_403_with_the_right_one_200(answers):
    for answer in answers:
        assert (answer["none"], answer["wrong"], answer["right"]) == (401, 403, 200)


def test_the_token_is_written_once_for_its_owner_alone(answers):
    assert [answer["new"] for answer in answers] == [True, False]
    token = Path(answers[0]["home"]) / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    assert token.read_text() not in (Path(answers[0]["home"]) / "log.txt").read_text()


def test_the_dashboard_listens_on_loopback(answers):
    assert all(str(answer["dashboard"]).startswith("127.0.0.1:") for answer in answers)
