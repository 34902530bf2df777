"""``python -m nnpy``: the same as the ``nnpy`` command."""

import sys

from nnpy.cli import main

if __name__ == "__main__":
    sys.exit(main())
