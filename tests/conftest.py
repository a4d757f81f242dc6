"""How much the property tests try: HYPOTHESIS_PROFILE=ci for `make ci`, mutants for `make mutants`."""

import os

from hypothesis import Phase, settings

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=1000)
# a planted bug has to be found, not to be made small
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
