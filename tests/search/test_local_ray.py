"""Where a local Ray's files and its token go, and what is said where they cannot."""

import os
import stat
from pathlib import Path

import pytest

from raycnn.errors import ClusterError
from raycnn.search import local_ray, prometheus, token
from raycnn.search.ray_logs import cause_of_death


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("TMPDIR", "RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what the test leaves there goes
        monkeypatch.delenv(name)


def test_tmpdir_is_used_and_one_too_deep_for_sockets_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert local_ray._base() == Path("/var/tmp")
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    assert local_ray._base() == Path("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", str(deep))  # that is for Ray alone: so wished, so told
    with pytest.raises(ClusterError, match=r"RAY_TMPDIR=.*too deep.*at most \d\d bytes"):
        local_ray._base()


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_tmpdir_that_cannot_be_used_is_refused_in_one_line(monkeypatch, tmp_path, variable):
    file, everybodys = tmp_path / "file", tmp_path / "all"
    file.touch()
    everybodys.mkdir()
    everybodys.chmod(0o777)
    for place, reason in (
        (tmp_path / "none", "No such file"),
        (file, "no directory"),
        (everybodys, "replace what lies in it"),
        (Path("/proc"), "cannot be written|cannot be used"),
    ):
        if place == Path("/proc") and os.geteuid() == 0:
            continue  # root may write everywhere by os.access
        monkeypatch.setenv(variable, str(place))
        with pytest.raises(ClusterError, match=f"{variable}={place}: .*({reason}).*unset it") as raised:
            local_ray._base()
        assert "\n" not in str(raised.value)


def test_the_longest_folder_leaves_room_for_the_longest_socket():
    name = "/session_2026-11-29_16-00-55_034934_4194304/sockets/dash_MetricsHead"
    base = "b" * local_ray._longest()
    assert len(f"{base}/raycnn-01234567/r{name}") <= 107


@pytest.mark.parametrize("home", ["/proc/nohome", "/proc", "/dev/null", None])
def test_without_a_home_that_can_be_written_the_token_lies_in_rays_folder(monkeypatch, tmp_path, home):
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user number without a name
    else:
        monkeypatch.setenv("HOME", home)
    written = token.provide_token(tmp_path)
    assert written
    assert written == tmp_path / "auth_token"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert len(written.read_text(encoding="ascii")) == 64
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(written)
    token.forget_token(tmp_path)
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_a_token_at_home_is_made_once_and_kept_private(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".ray" / "auth_token"
    assert token.provide_token(tmp_path / "place") == path
    made = path.read_text(encoding="ascii")
    path.chmod(0o644)  # as Ray itself makes it
    assert token.provide_token(tmp_path / "place") is None
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="ascii")) == (0o600, made)
    assert [file.name for file in path.parent.iterdir()] == ["auth_token"]
    path.write_text("", encoding="ascii")
    with pytest.raises(ClusterError, match=r"holds no token\. Remove it"):
        token.provide_token(tmp_path / "place")


RAYLET = (
    "[2026-11-29 16:01:18,581 C 304 304] (raylet) node_manager.cc:3576:  An unexpected system state has occurred. You "
    "have likely discovered a bug in Ray. Please report this issue to us. Check failed: x.has_value() "
    "Timed out waiting for file\n*** StackTrace Information ***\n/lib/raylet(+0xff770a) [0x56232753370a] ray::f()\n"
)


def test_the_cause_of_a_death_is_one_line_of_rays_own_logs(tmp_path):
    assert "without a word" in cause_of_death(tmp_path)
    logs = tmp_path / "session_2026" / "logs"
    logs.mkdir(parents=True)
    (logs / "dashboard_agent.err").write_text(
        "Traceback\n  File x\nModuleNotFoundError: no aiohttp\n", encoding="utf-8"
    )
    assert cause_of_death(tmp_path) == "dashboard_agent: ModuleNotFoundError: no aiohttp"
    agent = (
        "[2026-11-29 16:01:18,581 E 3 3] (raylet) agent_manager.cc:87: The raylet exited immediately because x\n- a\n"
    )
    (logs / "raylet.out").write_text(agent, encoding="utf-8")
    assert cause_of_death(tmp_path) == "raylet: The raylet exited immediately because x"
    (logs / "raylet.err").write_text(RAYLET, encoding="utf-8")
    assert cause_of_death(tmp_path) == "raylet: Check failed: x.has_value() Timed out waiting for file"


def test_prometheus_is_told_while_a_ray_runs_and_not_of_killed_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    folder = prometheus.links()
    folder.mkdir(parents=True)
    (folder / "1.json").symlink_to(tmp_path / "gone" / prometheus.DISCOVERY)
    (folder / "2.json").symlink_to(tmp_path / "two" / prometheus.DISCOVERY)  # not written yet
    with prometheus.told_to_prometheus(tmp_path / "one"):
        (tmp_path / "one" / prometheus.DISCOVERY).write_text("[]")
        assert {path.name for path in folder.iterdir()} == {"2.json", f"{os.getpid()}.json"}
        assert (folder / f"{os.getpid()}.json").read_text() == "[]"
    assert [path.name for path in folder.iterdir()] == ["2.json"]
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    with prometheus.told_to_prometheus(tmp_path / "one"):
        pass
