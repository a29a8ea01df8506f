"""`python -m raycnn COMMAND`, and the script `raycnn`."""

import sys

if not sys.flags.safe_path and __name__ == "__main__":
    del sys.path[0]  # the current folder, which `python -m` puts before all else: it may be somebody's run

from raycnn import ending


def main() -> None:
    ending.leave_on_signals()
    from raycnn import commands

    commands.main()


if __name__ == "__main__":
    main()
