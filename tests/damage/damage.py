"""The files of a run, each damaged in six ways, under each command that reads a run: what the commands answer.

python tests/damage/damage.py RESULTS.jsonl [--state finished] [--file spec.yaml] [--damage emptied] [--command report]

adds to RESULTS.jsonl what it does not hold yet, and prints the table of docs/reliability.md. All of it takes an hour on
two cores. The exit status is 1 where an answer is none of `SOUND`.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SPACE = """
name: small
data: {name: shapes, validation: 60, train_images: 160, test_images: 60}
model: fastnet
budget: {epochs: 2, batch_size: 50}
space: {optimizer: {sgd: {lr: {type: float, low: 0.02, high: 0.5, log: true}}}}
search: {trials: 3, corruption_images: 20, scheduler: none}
trainer: {checkpoint_s: 0, slots: 1}
finals: {top: 1, seeds: 1, score: [generated-c], generated: [brightness]}
"""
STATES = ("finished", "half-finished")
LIMIT_S = 300.0
"""Of one command. None takes more than some seconds on a quiet machine."""

SOUND = ("same", "told", "refused")
"""What is right: the answer of the whole run; one beside a word about the damage; one line and status 2."""


# The damages


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _byte_flipped(path: Path) -> None:
    """All bits of a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _pipe(path: Path) -> None:
    """Who waits for what comes out of it waits for ever."""
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "cut in half": _cut_in_half,
    "a byte flipped": _byte_flipped,
    "deleted": Path.unlink,
    "a pipe": _pipe,
    "a terabyte": lambda path: os.truncate(path, 1 << 40),  # of zeros, after what was there; it takes no room
}


# The runs


def make_runs(folder: Path) -> None:
    """A finished run, by the main command; and one as a kill in the last of its trials leaves it."""
    space = folder / "space.yaml"
    space.write_text(SPACE)
    done = subprocess.run(
        [sys.executable, "-m", "raycnn.tune", space, "--run", folder / STATES[0]], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the run could not be made:\n{done.stdout}{done.stderr}")
    half = folder / STATES[1]
    shutil.copytree(folder / STATES[0], half)
    journal = (half / "study.journal").read_bytes().splitlines(keepends=True)
    ended = max(number for number, line in enumerate(journal) if json.loads(line)["op_code"] == 6)  # a trial's state
    (half / "study.journal").write_bytes(b"".join(journal[:ended]))
    for name in ("finals", "outcomes"):
        shutil.rmtree(half / name)
    (half / "robustness.parquet").unlink()
    trial = half / "trials" / "2"
    (trial / "checkpoint.prev.pt").replace(trial / "checkpoint.pt")
    log = (trial / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (trial / "metrics.jsonl").write_bytes(log[0])
    subprocess.run([Path(sys.executable).with_name("raycnn"), "report", half], check=True, capture_output=True)


def kinds(run: Path) -> dict[str, str]:
    """Kind of file -> one such file, from the run's folder. Trial 2 is in the half-finished run the one that ran."""
    found: dict[str, str] = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(path.relative_to(run))
        kind = re.sub(r"\d{4}-\d\d-\d\d_[\d-]+|[0-9a-f]{8,}|(?<=-)[0-9a-f]{6}(?=/)|\d{9,}.*|(?<=-)\d{3}", "*", name)
        kind = (
            re.sub(r"^trials/[01]/", "trials/0/", kind)
            if run.name == STATES[1]
            else re.sub(r"^trials/\d", "trials/0", kind)
        )
        kind = re.sub(r"^(finals)/[^/]+/(.+)", r"\1/MODEL/\2", kind)
        kind = re.sub(r"^(outcomes)/.+", r"\1/SET/NAME.parquet", kind)
        found.setdefault(re.sub(r"(\*-?)+", "*", kind), name)
    return found


# The commands


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended. status: None where it took too long. said: its lines, all of them. figures: what of its
    answer must not change; by name."""

    status: int | None
    said: tuple[str, ...]
    figures: dict[str, str]


def _of_report(folder: Path, said: str) -> dict[str, str]:
    """Its words, without the list of files, and its figures."""
    page = (folder / "run" / "report.html").read_text(encoding="utf-8").partition('<section id="files">')
    words = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page[0], flags=re.S)
    drawn = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', "".join(page), re.S)
    assert drawn
    return {"words": " ".join(words.split()), **{name: json.dumps(one) for name, one in json.loads(drawn[1]).items()}}


def _of_trials(folder: Path) -> dict[str, str]:
    import pandas as pd

    trials = pd.read_parquet(folder / "run" / "trials.parquet").to_dict("records")
    known = re.compile("error|loss|lr|number|state|epochs|images")
    return {f"trial {one['number']}": str({key: one[key] for key in one if known.search(key)}) for one in trials}


def _of_scores(folder: Path, said: str) -> dict[str, str]:
    import pandas as pd

    rows = pd.read_parquet(folder / "run" / "robustness.parquet").to_dict("records")
    return {" ".join(str(row[key]) for key in ("model", "seed", "set", "name", "severity")): str(row) for row in rows}


def _of_search(folder: Path, said: str) -> dict[str, str]:
    """All trials, for the one that was interrupted is done again bit for bit; and the finals' scores."""
    return _of_trials(folder) | _of_scores(folder, said)


def _of_export(folder: Path, said: str) -> dict[str, str]:
    from safetensors.numpy import load_file  # the file itself has its two labels in any order

    weights = load_file(folder / "out" / "model.safetensors")
    digest = hashlib.sha256(b"".join(name.encode() + weights[name].tobytes() for name in sorted(weights)))
    return {"weights": digest.hexdigest(), "card": (folder / "out" / "README.md").read_text()}


def _of_words(folder: Path, said: str) -> dict[str, str]:
    return {"answer": said}


@dataclass(frozen=True, slots=True)
class Command:
    arguments: tuple[str, ...]
    figures: Callable[[Path, str], dict[str, str]]
    """Of the folder that the command ran in, where the run is `run`, and of its standard output."""


COMMANDS = {
    "resume": Command(("tune", "space.yaml", "--run", "run"), _of_search),
    "report": Command(("report", "run"), _of_report),
    "score": Command(("score", "run"), _of_scores),
    "export": Command(("export", "run", "--out", "out"), _of_export),
    "compare": Command(("compare", "run"), _of_words),
    "reproduce": Command(("reproduce", "run", "1"), _of_words),
}


def answer(run: Path, command: Command, hurt: Callable[[Path], None] = lambda _: None) -> Answer:
    """Of a command on a copy of a run, after `hurt` has had it. The command runs in a fork of this process, for it has
    imported already what takes seconds."""
    with tempfile.TemporaryDirectory(dir=run.parent) as name:
        folder = Path(name)
        shutil.copytree(run, folder / "run")
        shutil.copy(run.parent / "space.yaml", folder)
        hurt(folder / "run")
        output, errors = folder / "output.txt", folder / "errors.txt"
        if not (child := os.fork()):
            _become(command, folder, output, errors)
        status = _wait(child)
        said = output.read_text(errors="replace")
        figures = command.figures(folder, said) if status in (0, 1) else {}
        lines = (said + errors.read_text(errors="replace")).replace(str(folder), "").splitlines()
        return Answer(status, tuple(lines), figures)


def _become(command: Command, folder: Path, output: Path, errors: Path) -> None:
    """Run the command in this process, and end it."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number, path in enumerate((Path(os.devnull), output, errors)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        sys.argv = [str(Path(sys.executable).with_name("raycnn")), *command.arguments]
        from raycnn.commands import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int) -> int | None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


# The judgement


@dataclass(frozen=True, slots=True)
class Cell:
    """What a command answered to a damage. verdict: one of `SOUND`, or what is wrong. line: what it said of it."""

    state: str
    file: str
    damage: str
    command: str
    verdict: str
    line: str


def judge(whole: Answer, damaged: Answer, name: str) -> tuple[str, str]:
    """Verdict, and the line. name: of the damaged file, from the run's folder."""
    if damaged.status is None:
        return f"no end within {LIMIT_S:g} s", ""
    if any("Traceback" in line for line in damaged.said):
        return "traceback", damaged.said[-1]
    fresh = [line for line in damaged.said if line not in whole.said]
    telling = [line for line in fresh if _names(line, name)]
    if damaged.status not in (0, 1, 2):
        return f"status {damaged.status}", "; ".join(fresh)
    if damaged.status == 2:
        errors = [line for line in damaged.said if line.startswith("raycnn: ")]
        if whole.status == 2 and not fresh:
            return "same", errors[0]
        if len(errors) != 1 or not damaged.said[-1].startswith("raycnn: "):
            return "refused, not in one line", "; ".join(fresh)
        return ("refused" if telling else "refused, and not named"), errors[0]
    if whole.status == 2:
        return ("told" if telling else "an answer where the whole run has none"), "; ".join(telling)
    changed = {key for key in whole.figures | damaged.figures if whole.figures.get(key) != damaged.figures.get(key)}
    if not changed and damaged.status == whole.status:
        return ("told" if telling else "same"), "; ".join(telling)
    if telling:
        return "told", "; ".join(telling)
    return "silent change", ", ".join(sorted(changed)) or f"status {damaged.status}"


def _names(line: str, name: str) -> bool:
    """Whether a line speaks of a file: by its name, or by the folder of its training."""
    path = Path(name)
    return path.name in line or (len(path.parts) > 1 and str(path.parent) in line)


def cells(folder: Path, wished: Callable[[str, str, str, str], bool]) -> Iterator[Cell]:
    """Those that are wished of state, kind of file, damage and command."""
    whole: dict[tuple[str, str], Answer] = {}
    for state in STATES:
        run = folder / state
        for kind, name in kinds(run).items():
            for damage in DAMAGES:
                if not (run / name).stat().st_size and damage in ("emptied", "cut in half", "a byte flipped"):
                    continue  # of an empty file there is nothing to lose
                for command in COMMANDS:
                    if not wished(state, kind, damage, command):
                        continue
                    if (state, command) not in whole:
                        whole[state, command] = answer(run, COMMANDS[command])
                    found = answer(run, COMMANDS[command], lambda copy: DAMAGES[damage](copy / name))  # noqa: B023
                    yield Cell(state, kind, damage, command, *judge(whole[state, command], found, name))


def table(found: Iterable[Cell]) -> str:
    """Markdown: a line for each kind of file, a column for each command, with how many damages ended in what."""
    found = list(found)
    lines: list[str] = []
    for state in STATES:
        lines += [f"| {state} run | {' | '.join(COMMANDS)} |", f"| --- |{' --- |' * len(COMMANDS)}"]
        for kind in dict.fromkeys(cell.file for cell in found if cell.state == state):
            row = [f"`{kind}`"]
            for command in COMMANDS:
                counts = Counter(
                    cell.verdict for cell in found if (cell.state, cell.file, cell.command) == (state, kind, command)
                )
                row.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    counts = Counter(cell.verdict for cell in found)
    return "\n".join([*lines, f"{len(found)} in all: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}."])


def import_all() -> None:
    """What the commands import, once for all forks."""
    import optuna  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import ray  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch.export  # noqa: F401

    import raycnn.reporting.comparison
    import raycnn.reporting.export
    import raycnn.reporting.page
    import raycnn.search.reproduction
    import raycnn.search.run
    import raycnn.training.loop  # noqa: F401


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    for of, choices in (("state", STATES), ("file", None), ("damage", DAMAGES), ("command", COMMANDS)):
        parser.add_argument(f"--{of}", action="append", choices=choices)
    options = parser.parse_args()
    chosen = (options.state, options.file, options.damage, options.command)
    held = (
        [Cell(**json.loads(line)) for line in options.results.read_text().splitlines()]
        if options.results.exists()
        else []
    )
    known = {(cell.state, cell.file, cell.damage, cell.command) for cell in held}

    def wished(*cell: str) -> bool:
        return cell not in known and all(wish is None or one in wish for wish, one in zip(chosen, cell, strict=True))

    with tempfile.TemporaryDirectory() as name:
        make_runs(Path(name))
        import_all()
        with options.results.open("a") as results:
            for cell in cells(Path(name), wished):
                results.write(json.dumps(dataclasses.asdict(cell)) + "\n")
                results.flush()
                held.append(cell)
                if cell.verdict not in SOUND:
                    print(cell, file=sys.stderr, flush=True)
    print(table(held))
    sys.exit(any(cell.verdict not in SOUND for cell in held))


if __name__ == "__main__":
    main()
