"""``python -m cai``."""

from cai.cli.app import main

main()
