"""`python -m raycnn.tune SPACE.yaml`: the main command. The same as `raycnn tune`."""

from raycnn import ending

if __name__ == "__main__":
    ending.leave_on_signals()
    from raycnn.commands import run
    from raycnn.commands.tune import tune

    run(tune)
