"""The version of this SDK, as it tells the control plane."""

VERSION = "0.1.0"
__version__ = VERSION
