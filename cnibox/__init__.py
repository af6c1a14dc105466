"""Every CNI plugin in one file."""

__version__ = "0.1.0"
