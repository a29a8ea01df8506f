"""Ctrl-C reaches every process of the terminal's group, also one that was just forked to become another program."""

import subprocess
import sys

PROGRAM = """
import os, signal
from raycnn import commands

commands._interrupt_on_signals()
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
child = os.fork()
if not child:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_forked_process_ends_without_a_word_and_its_parent_is_interrupted():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout == "130\n"
    assert done.stderr.count("Traceback") == 1, "the parent's own, for nothing catches its interrupt here"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
