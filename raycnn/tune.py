"""`python -m raycnn.tune SPACE.yaml`: the main command. The same as `raycnn tune`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which `python -m` puts before all else: it may be somebody's run

from raycnn import ending

if __name__ == "__main__":
    ending.leave_on_signals()
    from raycnn.commands import run
    from raycnn.commands.tune import tune

    run(tune)
