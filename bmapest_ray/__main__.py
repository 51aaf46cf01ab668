"""``python -m bmapest_ray`` is ``bmapest``."""

import sys

from bmapest_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
