"""Damaged files of a run: no traceback, no silent change of a number, each answer in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("damage.py")
DAMAGES = ("cut in half", "a byte flipped", "deleted", "a pipe")


def options(name: str, *values: str) -> list[str]:
    return [part for value in values for part in (f"--{name}", value)]


def answers(folder: Path, *arguments: str) -> set[tuple[str, ...]]:
    """What was tried: state, file, damage and command of each; all answers were right."""
    results = folder / "results.jsonl"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(results), *arguments], capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {tuple(json.loads(line).values())[:4] for line in results.read_text().splitlines()}


def test_a_damaged_file_that_numbers_come_from_is_told(tmp_path: Path):
    files = ("spec.yaml", "study.journal", "robustness.parquet", "outcomes/SET/NAME.parquet")
    tried = answers(
        tmp_path,
        *options("state", "finished"),
        *options("file", *files),
        *options("damage", "a byte flipped", "deleted"),
        *options("command", "report", "compare"),
    )
    assert len(tried) == len(files) * 2 * 2


READ = (
    "finals/MODEL/seed-0/checkpoint.pt",
    "finals/MODEL/seed-0/metrics.jsonl",
    "manifest.json",
    "outcomes/SET/NAME.parquet",
    "robustness.parquet",
    "spec.yaml",
    "study.journal",
    "trials.parquet",
    "trials/0/metrics.jsonl",
)


@pytest.mark.slow
def test_the_files_of_a_finished_run_under_the_commands_that_read_it(tmp_path: Path):
    commands = ("report", "export", "compare", "reproduce")
    tried = answers(
        tmp_path,
        *options("state", "finished"),
        *options("file", *READ),
        *options("damage", *DAMAGES),
        *options("command", *commands),
    )
    assert len(tried) == len(READ) * len(DAMAGES) * len(commands)


@pytest.mark.slow
def test_a_run_whose_state_is_damaged_is_resumed_or_refused(tmp_path: Path):
    files = ("study.journal", "trials/2/checkpoint.pt", "trials/2/metrics.jsonl", "outcomes/SET/NAME.parquet")
    tried = answers(
        tmp_path, *options("file", *files), *options("damage", "cut in half"), *options("command", "resume", "score")
    )
    assert len(tried) == 5 * 2  # of trials 2 and outcomes there are such files in one of both runs alone
