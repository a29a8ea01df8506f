"""`python -m raycnn COMMAND`."""

from raycnn.commands import main

main()
