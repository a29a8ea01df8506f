"""`python -m raycnn.tune SPACE.yaml`: the main command. The same as `raycnn tune`."""

from raycnn.commands import run
from raycnn.commands.tune import tune

if __name__ == "__main__":
    run(tune)
