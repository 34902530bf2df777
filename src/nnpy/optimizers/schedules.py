"""Schedules under the name that Keras has for them; they are those of ``nnpy.schedules``."""

from nnpy.schedules import *  # noqa: F403
from nnpy.schedules import __all__  # noqa: F401
