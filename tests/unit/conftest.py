"""How hypothesis works here: on a busy machine slowness is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("orderflow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("orderflow")
