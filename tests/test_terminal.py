"""How a command ends: what a terminal cannot show is replaced, and what was no fault of its is one line."""

import os
import subprocess
import sys

CODE = """
import sys
from raycnn.commands import run
from raycnn.errors import DataError

def tell() -> None:
    print("0.5 ± 0.1 µ − ≤")
    raise DataError("größe ≤ 3: wrong. Mend it.")

sys.argv = ["raycnn"]
run(tell)
"""


def test_a_terminal_that_is_not_utf_8_gets_question_marks():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr.decode("latin-1")
    assert done.stdout.decode("latin-1").strip() == "0.5 ± 0.1 µ ? ?"
    assert done.stderr.decode("latin-1").strip() == "raycnn: größe ? 3: wrong. Mend it."


LOSS = """
import sys
from ray.exceptions import ActorDiedError
from raycnn.commands import run

def lose() -> None:
    raise ActorDiedError()

sys.argv = ["raycnn"]
run(lose)
"""


def test_what_ray_has_lost_is_one_line():
    done = subprocess.run([sys.executable, "-c", LOSS], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    lost = "Ray has lost something (The actor died unexpectedly before finishing this task)"
    assert done.stderr == f"raycnn: {lost}. Give the same command again.\n"
