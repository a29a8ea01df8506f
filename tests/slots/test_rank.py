"""A rank by itself, without Ray."""

import subprocess
import sys

import pytest

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import ctypes
from raycnn.slots import rank
rank._end_with_raylet()
print("waiting", flush=True)
ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock: no thread of Python's runs
'''])
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a process with its parent")
def test_a_rank_in_which_no_python_runs_any_more_ends_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "waiting\n"
    parent.kill()
    assert parent.communicate(timeout=30) == ("", None)  # at its end, when nobody is left to write to it
