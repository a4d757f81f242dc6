"""The command line: ``tinker-actors demo`` and ``tinker-actors serve``."""
