"""Plugins that make an interface in the container."""
