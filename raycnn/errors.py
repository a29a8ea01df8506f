"""What can go wrong by a user's hand or the world's. A command prints such an error as one line and exits with 2.

RaycnnError
├── SpecError         a YAML file, a flag or a --set that cannot be meant
├── DataError         images or labels that are missing, damaged or not what they claim to be
├── CheckpointError   a checkpoint that is torn, foreign or of another trial
├── DiskError         a disk that is full, over its quota, read-only or broken: no fault of what was to be written
└── ClusterError      resources that Ray does not have, workers that do not start, a run held by another process
"""


class RaycnnError(Exception):
    """The message says what is wrong, where, and how to mend it, on one line."""


class SpecError(RaycnnError):
    """A specification that cannot be carried out."""


class DataError(RaycnnError):
    """Missing, damaged or mislabelled data."""


class CheckpointError(RaycnnError):
    """A checkpoint that cannot be used."""


class DamagedCheckpoint(CheckpointError):
    """What is in the file is not what was written."""


class DiskError(RaycnnError):
    """A disk that cannot hold what is to be kept."""


class ClusterError(RaycnnError):
    """The cluster cannot do what the specification asks."""


def one_line(text: object, most: int | None = None) -> str:
    """Words that may come from a file or from another program, without what would break a line or command a terminal.

    most: characters that are kept.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:most]
