"""``python -m tinker_actors`` is ``tinker-actors``."""

import sys

from tinker_actors.cli.main import main

sys.exit(main())
