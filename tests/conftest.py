"""For all tests."""

from hypothesis import HealthCheck, settings

# The machines that run this are shared and slow at times: what takes long is not wrong.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
