"""How much property tests try.

HYPOTHESIS_PROFILE is ci for `make ci`, soak for `make soak-codecs` and soak-supervision, mutants for `make mutants`.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

# No verdict may hang on how busy the machine is.
base = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The gates try the same each time, so that the change alone decides; looking for more is what soaks are for.
settings.register_profile("default", base, derandomize=True)
settings.register_profile("ci", base, derandomize=True, max_examples=1000)
settings.register_profile("soak", base, max_examples=20_000, database=None)
# a planted bug has to be found, not to be made small
settings.register_profile("mutants", base, phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have told of themselves, whichever process they ran in."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(str(text))


# A shell starts its background jobs deaf to ^C, and with them all that they start: the tests that press it need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
