"""`python -m raycnn COMMAND`, and the script `raycnn`."""

from raycnn import ending


def main() -> None:
    ending.leave_on_signals()
    from raycnn import commands

    commands.main()


if __name__ == "__main__":
    main()
