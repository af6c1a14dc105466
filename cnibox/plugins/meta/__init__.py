"""Plugins that adjust what earlier plugins of the list made."""
