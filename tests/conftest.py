"""How much property tests try.

HYPOTHESIS_PROFILE is ci for `make ci`, soak for `make soak-supervision`, mutants for `make mutants`.
"""

import os

from hypothesis import Phase, settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=1000)
settings.register_profile("soak", deadline=None, max_examples=20_000, database=None)
# a planted bug has to be found, not to be made small
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
